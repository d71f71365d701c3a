//! The certificates of both ends, made when the test starts, as files.

use std::path::PathBuf;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PKCS_RSA_SHA256;
use rcgen::SignatureAlgorithm;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

/// The name a client must have.
pub(super) const CLIENT: &str = "client.test";

/// Common names of the servers' certificates. The first is shown where no name fits.
pub(super) const SERVERS: [&str; 4] = ["usual", "exact-ecdsa", "exact-rsa", "wild"];

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

/// `NAME.pem` and `NAME.key` of everybody, and `ca.pem`.
pub(super) struct Files {
    folder: TempDir,
    /// Who vouches for the servers, and for clients that are let in.
    pub(super) root: CertificateDer<'static>,
}

impl Files {
    pub(super) fn new() -> Self {
        let root = Authority::self_signed(authority("root"), key()).expect("it is sound");
        let other = Authority::self_signed(authority("other"), key()).expect("it is sound");
        let files = Self {
            folder: tempfile::tempdir().expect("a directory"),
            root: root.der().clone(),
        };
        files.write("ca.pem", &root.pem());
        let rsa = &PKCS_RSA_SHA256;
        let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
        for (name, host, kind) in [
            ("usual", "usual.test", ecdsa),
            ("exact-ecdsa", "exact.test", ecdsa),
            ("exact-rsa", "exact.test", rsa),
            ("wild", "*.wild.test", ecdsa),
        ] {
            files.leaf(name, leaf(name, host), kind, &root);
        }
        files.leaf("right", leaf("right", CLIENT), ecdsa, &root);
        files.leaf("foreign", leaf("foreign", CLIENT), ecdsa, &other);
        files.leaf("stranger", leaf("stranger", "stranger.test"), ecdsa, &root);
        let mut expired = leaf("expired", CLIENT);
        expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
        expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
        files.leaf("expired", expired, ecdsa, &root);
        files
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As `tls_certificates`.
    pub(super) fn servers(&self) -> Value {
        let one = |name: &str| {
            json!({
                "certificate_chain": {"filename": self.path(&format!("{name}.pem"))},
                "private_key": {"filename": self.path(&format!("{name}.key"))},
            })
        };
        SERVERS.iter().map(|name| one(name)).collect()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    fn leaf(
        &self,
        name: &str,
        params: CertificateParams,
        kind: &'static SignatureAlgorithm,
        by: &Authority,
    ) {
        let key = KeyPair::generate_for(kind).expect("a key");
        let certificate = params.signed_by(&key, by).expect("it is sound");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }
}

pub(super) fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

pub(super) fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(name: &str, host: &str) -> CertificateParams {
    let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
