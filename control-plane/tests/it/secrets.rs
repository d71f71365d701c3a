//! Secrets of the CA for clients of all four variants, over plain connections and TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control_plane::Server;
use control_plane::ca::Authority;
use control_plane::ca::SpiffeId;
use control_plane::ca::access;
use control_plane::ca::authority::Bundle;
use control_plane::ca::authority::KeySource;
use control_plane::ca::authority::Leaf;
use control_plane::ca::authority::Options;
use control_plane::ca::authority::Order;
use control_plane::ca::authority::Which;
use control_plane::ca::certificate::check_chain;
use control_plane::ca::key::KeyKind;
use control_plane::source::secrets::Tls;
use control_plane::types::CLUSTER;
use control_plane::types::SECRET;
use prost::Message;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;
use webpki::KeyUsage;
use xds_proto::pb::envoy::config::core::v3::DataSource;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use xds_proto::pb::google::protobuf::Any;

use crate::peer;
use crate::peer::Peer;
use crate::peer::Response;
use crate::peer::Running;
use crate::peer::VARIANTS;
use crate::peer::Variant;

const CART: &str = "spiffe://mesh.example/cart";
const BANK: &str = "spiffe://mesh.example/bank";
const DOMAIN: &str = "spiffe://mesh.example";
const SERVER: &str = "spiffe://mesh.example/control-plane";

/// The authority's directory, and another process that works on it.
struct Place {
    dir: TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new("mesh.example".parse().unwrap());
        let path = dir.path().join("ca");
        let authority = Authority::init(&path, &options, UnixTime::now()).unwrap();
        Self { dir, authority }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn builder(&self, tls: Option<Tls>) -> control_plane::server::Builder {
        let authority = Authority::open(&self.path().join("ca")).unwrap();
        Server::builder().authority(authority, tls)
    }

    fn token(&mut self, name: &str) -> String {
        let life = Duration::from_secs(600);
        let token = self
            .authority
            .token(UnixTime::now(), &id(name), life, "test");
        token.unwrap().expose().to_owned()
    }

    fn leaf(&mut self, name: &str) -> Leaf {
        let order = Order {
            name: &id(name),
            key: KeySource::Made(KeyKind::EcdsaP256),
            life: None,
            actor: "test",
        };
        self.authority.issue(UnixTime::now(), &order).unwrap()
    }

    /// The reason of the last refusal in the audit log.
    fn last_refusal(&self) -> Option<String> {
        let log = std::fs::read_to_string(self.path().join("ca/audit.log")).unwrap();
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut refused = lines.filter(|line| line["event"] == "refuse");
        refused
            .next_back()
            .map(|line| line["reason"].as_str().unwrap().to_owned())
    }
}

fn id(name: &str) -> SpiffeId {
    name.parse().unwrap()
}

async fn start(builder: control_plane::server::Builder) -> Running {
    let server = Running::start(builder).await;
    server.handle.commit("", &[]).unwrap();
    server
}

fn text(source: Option<&DataSource>) -> &str {
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::InlineString(text)) => text,
        other => panic!("inline text, not {other:?}"),
    }
}

fn secret<'a>(response: &'a Response, name: &str) -> &'a Any {
    let place = response.names.iter().position(|known| known == name);
    &response.resources[place.unwrap_or_else(|| panic!("{name} in {:?}", response.names))]
}

fn certificate(response: &Response, name: &str) -> pb::TlsCertificate {
    match pb::Secret::decode(&*secret(response, name).value)
        .unwrap()
        .r#type
    {
        Some(Type::TlsCertificate(certificate)) => certificate,
        other => panic!("a certificate, not {other:?}"),
    }
}

fn roots(response: &Response, name: &str) -> pb::CertificateValidationContext {
    match pb::Secret::decode(&*secret(response, name).value)
        .unwrap()
        .r#type
    {
        Some(Type::ValidationContext(context)) => context,
        other => panic!("roots, not {other:?}"),
    }
}

fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Whether somebody with these roots lets the owner of this chain in.
fn accepts(context: &pb::CertificateValidationContext, chain: &str) -> Result<(), String> {
    let lists = CertificateRevocationListDer::pem_slice_iter(text(context.crl.as_ref()).as_bytes());
    let lists: Vec<_> = lists.collect::<Result<_, _>>().unwrap();
    let (chain, roots) = (ders(chain), ders(text(context.trusted_ca.as_ref())));
    let usages = [KeyUsage::client_auth(), KeyUsage::server_auth()];
    check_chain(
        &chain[0],
        &chain[1..],
        &roots,
        &lists,
        (&usages, UnixTime::now()),
    )
    .map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_client_gets_its_own_certificate_and_the_roots_in_every_variant() {
    for variant in VARIANTS {
        let mut place = Place::new();
        let server = start(place.builder(None)).await;
        let names = ["default", "ROOTCA", CART, DOMAIN, BANK, "other"];
        let mut peer = Peer::new(variant, server.address).with_token(&place.token(CART));
        peer.subscribe(SECRET, &names).await.unwrap();
        let response = peer.accept(SECRET, &names).await;
        let mut got = response.names.clone();
        got.sort_unstable();
        assert_eq!(got, ["ROOTCA", "default", DOMAIN, CART], "{variant:?}");
        for (own, trusted) in [("default", "ROOTCA"), (CART, DOMAIN)] {
            let own = certificate(&response, own);
            let chain = text(own.certificate_chain.as_ref());
            accepts(&roots(&response, trusted), chain).unwrap();
            assert!(text(own.private_key.as_ref()).contains("PRIVATE KEY"));
            assert_eq!(
                access::caller_of(&ders(chain)[0]).identity(),
                Some(&id(CART))
            );
        }
        if let Variant::DeltaAds | Variant::DeltaSeparate = variant {
            let mut removed = response.removed.clone();
            removed.sort_unstable();
            assert_eq!(
                removed,
                ["other", BANK],
                "nobody waits for what never comes"
            );
        }
        assert!(matches!(
            place.last_refusal().as_deref(),
            Some("unknown_secret" | "not_yours")
        ));
        server.stop().await;
    }
}

#[tokio::test]
async fn what_others_must_hear_of_is_pushed_in_every_variant() {
    for variant in VARIANTS {
        let mut place = Place::new();
        let server = start(place.builder(None)).await;
        let names = ["default", "ROOTCA"];
        let mut peer = Peer::new(variant, server.address).with_token(&place.token(CART));
        peer.subscribe(SECRET, &names).await.unwrap();
        let first = peer.accept(SECRET, &names).await;
        let own = certificate(&first, "default");
        let chain = text(own.certificate_chain.as_ref()).to_owned();

        let now = UnixTime::now();
        place
            .authority
            .rotate_root(now, Duration::from_secs(3_600), "test")
            .unwrap();
        let second = peer.accept(SECRET, &names).await;
        let trusted = roots(&second, "ROOTCA");
        assert_eq!(
            ders(text(trusted.trusted_ca.as_ref())).len(),
            2,
            "{variant:?}"
        );
        accepts(&trusted, &chain).unwrap();

        let own = access::caller_of(&ders(&chain)[0]);
        let access::Caller::Certificate { serial, .. } = own else {
            panic!("a certificate")
        };
        let which = Which::Serial(serial.parse().unwrap());
        place
            .authority
            .revoke(UnixTime::now(), &which, "test")
            .unwrap();
        let third = peer.accept(SECRET, &names).await;
        let trusted = roots(&third, "ROOTCA");
        assert!(
            accepts(&trusted, &chain)
                .unwrap_err()
                .contains("CertRevoked")
        );
        let new = certificate(&third, "default");
        accepts(&trusted, text(new.certificate_chain.as_ref())).unwrap();
        server.stop().await;
    }
}

#[tokio::test]
async fn strangers_get_no_secret_and_no_reason_to_wait() {
    let place = Place::new();
    let server = start(place.builder(None)).await;
    let names = ["default", "ROOTCA"];
    let mut peer = Peer::new(Variant::DeltaAds, server.address);
    peer.subscribe(SECRET, &names).await.unwrap();
    let response = peer.accept(SECRET, &names).await;
    assert!(response.resources.is_empty() && response.removed.len() == 2);
    assert_eq!(place.last_refusal().as_deref(), Some("anonymous"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_opens_one_stream_and_a_bad_one_none() {
    let mut place = Place::new();
    let server = start(place.builder(None)).await;
    let token = place.token(CART);
    for (token, is_good, label) in [
        (&*token, true, None),
        (&*token, false, Some("token_used")),
        ("weir1.eA.eA", false, Some("token_forged")),
        ("", false, Some("token_malformed")),
    ] {
        let mut peer = Peer::new(Variant::SotwAds, server.address).with_token(token);
        peer.subscribe(SECRET, &["default"]).await.unwrap();
        match peer.receive(SECRET).await {
            Ok(response) => assert!(is_good && response.unwrap().names == ["default"]),
            Err(status) => {
                assert!(
                    !is_good && status.code() == Code::Unauthenticated,
                    "{status:?}"
                );
                assert_eq!(place.last_refusal().as_deref(), label);
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_secret_somebody_wrote_is_not_the_business_of_the_authority() {
    let mut place = Place::new();
    let server = start(place.builder(None)).await;
    let written = pb::Secret {
        name: "default".to_owned(),
        r#type: Some(Type::TlsCertificate(pb::TlsCertificate::default())),
    };
    let written = Any {
        type_url: SECRET.to_owned(),
        value: written.encode_to_vec(),
    };
    server
        .handle
        .commit("", std::slice::from_ref(&written))
        .unwrap();
    let names = ["default", "ROOTCA"];
    let mut peer = Peer::new(Variant::DeltaAds, server.address).with_token(&place.token(CART));
    peer.subscribe(SECRET, &names).await.unwrap();
    let response = peer.accept(SECRET, &names).await;
    assert_eq!(secret(&response, "default"), &written);
    roots(&response, "ROOTCA");
    // Gone from there, it is the authority's.
    server.handle.commit("", &[]).unwrap();
    let response = peer.accept(SECRET, &names).await;
    if response.removed.is_empty() {
        certificate(&response, "default");
    } else {
        certificate(&peer.accept(SECRET, &names).await, "default");
    }
    server.stop().await;
}

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
