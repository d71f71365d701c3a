//! The same over TLS: who is let in, who is sent away, and what a rotation does to streams.

use super::*;

/// Believes a server whose chain holds; remembers nothing, checks no host, as SPIFFE does.
#[derive(Debug)]
struct Believer(Bundle);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let usages = [KeyUsage::server_auth()];
        check_chain(own, above, &ders(&self.0.roots), &[], (&usages, now))
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let caller = access::caller_of(own);
        assert_eq!(caller.identity(), Some(&id(SERVER)));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = rustls::crypto::aws_lc_rs::default_provider();
        let known = &known.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, own, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let known = rustls::crypto::aws_lc_rs::default_provider();
        known.signature_verification_algorithms.supported_schemes()
    }
}

/// A client with a certificate, or without.
fn client(place: &mut Place, leaf: Option<&Leaf>) -> peer::Tls {
    let bundle = place.authority.bundle(UnixTime::now()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty());
    let mut config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let key = leaf.key.as_ref().unwrap().expose().as_bytes();
            let key = PrivateKeyDer::from_pem_slice(key).unwrap();
            builder
                .with_client_auth_cert(ders(&leaf.chain), key)
                .unwrap()
        }
    };
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(Believer(bundle)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    peer::Tls(Arc::new(config))
}

fn tls(requires_certificate: bool) -> Tls {
    Tls {
        identity: id(SERVER),
        requires_certificate,
    }
}

#[tokio::test]
async fn a_client_certificate_is_an_identity_and_rotation_drops_no_stream() {
    let mut place = Place::new();
    let server = start(place.builder(Some(tls(true)))).await;
    let cart = place.leaf(CART);
    let with_cart = client(&mut place, Some(&cart));
    let mut first = Peer::new(Variant::DeltaAds, server.address).with_tls(with_cart.clone());
    let names = ["default", "ROOTCA", BANK];
    first.subscribe(SECRET, &names).await.unwrap();
    let response = first.accept(SECRET, &names).await;
    assert_eq!(response.resources.len(), 2);
    certificate(&response, "default");

    // Root after root; the old stream hears of each, and new connections are made all the while.
    for turn in 0..3_usize {
        let rotated = place
            .authority
            .rotate_root(UnixTime::now(), Duration::ZERO, "test");
        rotated.unwrap();
        let pushed = first.accept(SECRET, &names).await;
        let trusted = roots(&pushed, "ROOTCA");
        assert_eq!(ders(text(trusted.trusted_ca.as_ref())).len(), turn + 2);
        let newer = place.leaf(CART);
        for leaf in [&cart, &newer] {
            let tls = client(&mut place, Some(leaf));
            let mut second = Peer::new(Variant::SotwAds, server.address).with_tls(tls);
            second.subscribe(SECRET, &["default"]).await.unwrap();
            certificate(&second.accept(SECRET, &["default"]).await, "default");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_client_is_sent_away_and_does_not_come_back() {
    let mut place = Place::new();
    let server = start(place.builder(Some(tls(true)))).await;
    let cart = place.leaf(CART);
    let with_cart = client(&mut place, Some(&cart));
    let mut peer = Peer::new(Variant::SotwAds, server.address).with_tls(with_cart.clone());
    peer.subscribe(SECRET, &["default"]).await.unwrap();
    peer.accept(SECRET, &["default"]).await;
    let which = Which::Serial(cart.record.serial);
    place
        .authority
        .revoke(UnixTime::now(), &which, "test")
        .unwrap();
    let status = loop {
        match peer.receive(SECRET).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert_eq!(place.last_refusal().as_deref(), Some("revoked"));
    let mut again = Peer::new(Variant::SotwAds, server.address).with_tls(with_cart);
    assert!(is_refused(&mut again).await);
    server.stop().await;
}

/// Streams that ask the authority for nothing end, too, and none is begun on a connection that stands.
#[tokio::test]
async fn every_stream_of_a_revoked_client_ends() {
    for variant in VARIANTS {
        let mut place = Place::new();
        let server = start(place.builder(Some(tls(true)))).await;
        let old = peer::cluster("old", "");
        server
            .handle
            .commit("", std::slice::from_ref(&old))
            .unwrap();
        let [cart, bank] = [CART, BANK].map(|name| place.leaf(name));
        let mut peers = Vec::new();
        for leaf in [&cart, &bank] {
            let tls = client(&mut place, Some(leaf));
            let mut peer = Peer::new(variant, server.address).with_tls(tls);
            peer.subscribe(CLUSTER, &["*"]).await.unwrap();
            peer.accept(CLUSTER, &["*"]).await;
            peers.push(peer);
        }
        let [of_cart, of_bank] = &mut *peers else {
            unreachable!("there are two")
        };
        let which = Which::Serial(cart.record.serial);
        let now = UnixTime::now();
        place.authority.revoke(now, &which, "test").unwrap();
        let status = of_cart.receive(CLUSTER).await.unwrap_err();
        assert_eq!(
            status.code(),
            Code::PermissionDenied,
            "{variant:?} {status:?}"
        );
        assert_eq!(place.last_refusal().as_deref(), Some("revoked"));
        let again = of_cart.subscribe_again(CLUSTER, &["*"]).await;
        let status = match again {
            Ok(()) => of_cart.receive(CLUSTER).await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(
            status.code(),
            Code::PermissionDenied,
            "{variant:?} {status:?}"
        );
        let new = peer::cluster("new", "");
        server
            .handle
            .commit("", std::slice::from_ref(&new))
            .unwrap();
        let response = of_bank.accept(CLUSTER, &["*"]).await;
        assert!(
            response.names.contains(&"new".to_owned()),
            "the other one stays"
        );
        server.stop().await;
    }
}

async fn is_refused(peer: &mut Peer) -> bool {
    match peer.subscribe(SECRET, &["default"]).await {
        Err(_) => true,
        Ok(()) => peer.receive(SECRET).await.is_err(),
    }
}

#[tokio::test]
async fn clients_nobody_vouches_for_are_not_let_in() {
    let mut place = Place::new();
    let server = start(place.builder(Some(tls(true)))).await;
    let mut other = Place::new();
    let stranger = other.leaf(CART);
    for leaf in [None, Some(&stranger)] {
        let tls = client(&mut place, leaf);
        let mut peer = Peer::new(Variant::SotwAds, server.address).with_tls(tls);
        assert!(is_refused(&mut peer).await);
        place
            .says_of_handshakes(leaf.map_or("no certificates", |_| "invalid peer certificate"))
            .await;
    }
    // Plain text is no TLS.
    let mut plain = Peer::new(Variant::SotwAds, server.address);
    assert!(is_refused(&mut plain).await);
    server.stop().await;

    // Without the demand a client without a certificate may come with a token.
    let server = start(place.builder(Some(tls(false)))).await;
    let without = client(&mut place, None);
    let token = place.token(BANK);
    let mut peer = Peer::new(Variant::SotwAds, server.address).with_tls(without);
    peer = peer.with_token(&token);
    peer.subscribe(SECRET, &[BANK]).await.unwrap();
    certificate(&peer.accept(SECRET, &[BANK]).await, BANK);
    server.stop().await;
}

/// A way to a root needs three certificates; whoever sends hundreds wants to keep the verifier busy.
#[tokio::test]
async fn a_client_with_an_oversized_chain_is_sent_away_and_audited() {
    let mut place = Place::new();
    let server = start(place.builder(Some(tls(true)))).await;
    let mut cart = place.leaf(CART);
    cart.chain = cart.chain.repeat(300);
    let tls = client(&mut place, Some(&cart));
    let mut peer = Peer::new(Variant::SotwAds, server.address).with_tls(tls);
    assert!(is_refused(&mut peer).await);
    place.says_of_handshakes("TooLarge").await;
    server.stop().await;
}

#[tokio::test]
async fn slow_handshakes_delay_nobody() {
    let mut place = Place::new();
    let server = start(place.builder(Some(tls(true)))).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(
            tokio::net::TcpStream::connect(server.address)
                .await
                .unwrap(),
        );
    }
    let cart = place.leaf(CART);
    let tls = client(&mut place, Some(&cart));
    let mut peer = Peer::new(Variant::SotwAds, server.address).with_tls(tls);
    peer.subscribe(SECRET, &["default"]).await.unwrap();
    peer.accept(SECRET, &["default"]).await;
    drop(idle);
    server.stop().await;
}
