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

mod tls;

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

impl Place {
    /// Waits for a line about a handshake with this text, which is written when the client is gone.
    async fn says_of_handshakes(&self, text: &str) {
        let is_it = |line: &Value| {
            line["reason"] == "certificate" && line["text"].as_str().unwrap().contains(text)
        };
        let said = async {
            loop {
                let log = std::fs::read_to_string(self.path().join("ca/audit.log")).unwrap();
                let mut lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
                if lines.any(|line| is_it(&line)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(20);
        let waited = tokio::time::timeout(limit, said).await;
        waited.unwrap_or_else(|_| panic!("a line with {text:?}"));
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
