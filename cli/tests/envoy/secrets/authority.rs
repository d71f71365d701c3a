//! Roots, and leaves as secrets.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use serde_json::json;

use crate::identity::typed;

/// The name in every leaf.
pub(super) const HOST: &str = "server.test";

/// One that issues certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) chain: String,
    pub(super) key: String,
    /// What tells it from others.
    pub(super) der: CertificateDer<'static>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key());
        Self(issuer.expect("it is sound"))
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A leaf for [`HOST`] with this common name, for both sides.
    pub(super) fn issue(&self, name: &str) -> Leaf {
        let mut params = named(name);
        params.subject_alt_names = vec![rcgen::SanType::DnsName(HOST.try_into().expect("a name"))];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = key();
        let certificate = params.signed_by(&key, &self.0).expect("it is sound");
        Leaf {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }
}

impl Leaf {
    /// As a `Secret`.
    pub(super) fn secret(&self, name: &str) -> Value {
        certificate(name, &self.chain, &self.key)
    }

    /// A `Secret` whose key belongs to another certificate.
    pub(super) fn unsound(&self, name: &str) -> Value {
        certificate(name, &self.chain, &key().serialize_pem())
    }
}

/// Trust in these roots, as a `Secret`.
pub(super) fn trust(name: &str, roots: &[&Authority]) -> Value {
    let pem: String = roots.iter().map(|root| root.pem()).collect();
    let validation = json!({"trusted_ca": {"inline_string": pem}});
    secret(name, json!({"validation_context": validation}))
}

fn certificate(name: &str, chain: &str, key: &str) -> Value {
    let certificate = json!({
        "certificate_chain": {"inline_string": chain},
        "private_key": {"inline_string": key},
    });
    secret(name, json!({"tls_certificate": certificate}))
}

pub(super) fn secret(name: &str, mut value: Value) -> Value {
    value["name"] = name.into();
    typed("extensions.transport_sockets.tls.v3.Secret", value)
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}
