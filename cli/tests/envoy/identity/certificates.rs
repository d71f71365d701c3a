//! The authority and everybody it vouches for, made when the test starts.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::OtherNameValue;
use rcgen::SanType;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS12;
use rustls::version::TLS13;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::typed;

/// The name of the server.
pub(super) const SERVER: &str = "server.test";

/// The clients that have a certificate.
pub(super) const CLIENTS: [&str; 4] = ["rich", "bare", "nameless", "below"];

/// Certificates, and the files in which proxies find theirs.
pub(super) struct Certificates {
    directory: TempDir,
    root: CertificateDer<'static>,
    clients: Vec<(&'static str, Leaf)>,
}

/// Of TLS.
#[derive(Clone, Copy, Debug)]
pub(super) enum Version {
    Tls12,
    Tls13,
}

struct Leaf {
    /// Its own certificate first.
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pem: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Certificates {
    pub(super) fn new() -> Self {
        let root = Authority::self_signed(authority("root \"x\""), key()).expect("it is sound");
        let below = Authority::signed_by(authority("below"), key(), &root).expect("it is sound");
        let below_der = below.der().clone();
        let other = Authority::self_signed(authority("other"), key()).expect("it is sound");
        let clients = CLIENTS.into_iter().chain(["stranger"]).map(|name| {
            let leaf = match name {
                "stranger" => Leaf::new(client(name), &other, &[]),
                "below" => Leaf::new(client(name), &below, std::slice::from_ref(&below_der)),
                _ => Leaf::new(client(name), &root, &[]),
            };
            (name, leaf)
        });
        let clients: Vec<_> = clients.collect();
        let directory = tempfile::tempdir().expect("a directory");
        let server = Leaf::new(server(), &root, &[]);
        let files = [
            ("ca.pem", root.pem()),
            ("client.pem", clients[0].1.pem.clone()),
            ("client.key", clients[0].1.key.serialize_pem()),
            ("server.pem", server.pem),
            ("server.key", server.key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).expect("a file");
        }
        Self {
            directory,
            root: root.der().clone(),
            clients,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn own(&self, role: &str) -> Value {
        json!([{
            "certificate_chain": {"filename": self.file(&format!("{role}.pem"))},
            "private_key": {"filename": self.file(&format!("{role}.key"))},
        }])
    }

    /// Shows the certificate of the first client.
    pub(super) fn upstream(&self) -> Value {
        let common = json!({
            "tls_certificates": self.own("client"),
            "validation_context": {"trusted_ca": {"filename": self.file("ca.pem")}},
            "tls_params": {
                "cipher_suites": ["ECDHE-ECDSA-AES128-GCM-SHA256"], "ecdh_curves": ["X25519", "P-256"],
                // Envoy's usual maximum for clients, not ours.
                "tls_maximum_protocol_version": "TLSv1_2",
            },
        });
        // A resumed session of TLS 1.2 has no key exchange, and with us no group.
        let context =
            json!({"common_tls_context": common, "sni": "also.test", "max_session_keys": 0});
        let name = "extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        json!({"name": "tls", "typed_config": typed(name, context)})
    }

    /// Asks for a certificate and takes none for an answer.
    pub(super) fn downstream(&self) -> Value {
        let common = json!({
            "tls_certificates": self.own("server"),
            "validation_context": {"trusted_ca": {"filename": self.file("ca.pem")}},
        });
        let context = json!({"common_tls_context": common, "require_client_certificate": false});
        let name = "extensions.transport_sockets.tls.v3.DownstreamTlsContext";
        json!({"name": "tls", "typed_config": typed(name, context)})
    }

    /// What a client trusts and shows; every handshake is a full one.
    pub(super) fn client(&self, name: Option<&str>) -> Arc<ClientConfig> {
        self.client_of(name, Version::Tls13)
    }

    /// The same with this version, one suite, and one group before the other.
    pub(super) fn client_of(&self, name: Option<&str>, version: Version) -> Arc<ClientConfig> {
        let (version, suite) = match version {
            Version::Tls12 => {
                let suite = aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
                (&TLS12, suite)
            }
            Version::Tls13 => (&TLS13, aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256),
        };
        let provider = CryptoProvider {
            cipher_suites: vec![suite],
            // The second for certificates alone: BoringSSL wants their curve offered, too.
            kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("it is sound");
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("the provider has them")
            .with_root_certificates(roots);
        let leaf = name.and_then(|name| self.clients.iter().find(|(known, _)| *known == name));
        let mut config = match leaf {
            None => builder.with_no_client_auth(),
            Some((_, leaf)) => {
                let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).expect("a key");
                let configured = builder.with_client_auth_cert(leaf.chain.clone(), key);
                configured.expect("key and certificate fit")
            }
        };
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

impl Leaf {
    fn new(params: CertificateParams, by: &Authority, above: &[CertificateDer<'static>]) -> Self {
        let key = key();
        let certificate = params.signed_by(&key, by).expect("it is sound");
        let mut chain = vec![certificate.der().clone()];
        chain.extend_from_slice(above);
        Self {
            chain,
            pem: certificate.pem(),
            key,
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Test, Inc");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server() -> CertificateParams {
    let mut params = leaf(&[
        uri("spiffe://us/one"),
        uri("spiffe://us/two;x"),
        dns(SERVER),
        dns("also.test"),
        SanType::IpAddress([127, 0, 0, 1].into()),
        other("server@realm"),
    ]);
    params.distinguished_name.push(DnType::CommonName, SERVER);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn client(name: &str) -> CertificateParams {
    let names = match name {
        "rich" => vec![
            uri("spiffe://them/one"),
            uri("spiffe://them/a,b;c"),
            dns("one.test"),
            dns("*.two.test"),
            SanType::Rfc822Name("me@one.test".try_into().expect("ASCII")),
            other("me@realm"),
            other("ü"),
            SanType::IpAddress([10, 1, 2, 3].into()),
            SanType::IpAddress("2001:db8::1".parse().expect("literal")),
        ],
        "nameless" => vec![uri("spiffe://them/nameless")],
        "below" => vec![dns("below.test")],
        _ => Vec::new(),
    };
    let mut params = leaf(&names);
    let subject = &mut params.distinguished_name;
    match name {
        "nameless" => {}
        "rich" => {
            subject.push(DnType::CountryName, "DE");
            subject.push(DnType::OrganizationName, "A \"quoted\", Inc\\ü");
            subject.push(DnType::CommonName, "#cli;ent+<1> ");
        }
        name => subject.push(DnType::CommonName, name),
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// No subject yet.
fn leaf(names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// A name of another kind: the user principal name of Windows.
fn other(text: &str) -> SanType {
    let kind = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    SanType::OtherName((kind, OtherNameValue::Utf8String(text.to_owned())))
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ASCII"))
}
