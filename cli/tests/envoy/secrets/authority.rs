//! Roots, and leaves as secrets.

use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::RevokedCertParams;
use rcgen::date_time_ymd;
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
        self.issue_with(named(name))
    }

    /// One with this serial number, by which it can be revoked.
    pub(super) fn numbered(&self, name: &str, serial: u64) -> Leaf {
        let mut params = named(name);
        params.serial_number = Some(serial.into());
        self.issue_with(params)
    }

    /// One that ends so many seconds after 1970.
    pub(super) fn ending(&self, name: &str, end: Duration) -> Leaf {
        let mut params = named(name);
        params.not_after = date_time_ymd(1970, 1, 1) + end;
        self.issue_with(params)
    }

    /// One that begins and ends so many seconds after 1970.
    pub(super) fn living(&self, name: &str, begin: Duration, end: Duration) -> Leaf {
        let mut params = named(name);
        params.not_before = date_time_ymd(1970, 1, 1) + begin;
        params.not_after = date_time_ymd(1970, 1, 1) + end;
        self.issue_with(params)
    }

    /// A list that revokes this serial number, as PEM.
    pub(super) fn revoking(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("it is sound");
        list.pem().expect("it is sound")
    }

    fn issue_with(&self, mut params: CertificateParams) -> Leaf {
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
    revoking(name, roots, None)
}

/// The same with a revocation list.
pub(super) fn revoking(name: &str, roots: &[&Authority], list: Option<String>) -> Value {
    let pem: String = roots.iter().map(|root| root.pem()).collect();
    let mut validation = json!({"trusted_ca": {"inline_string": pem}});
    if let Some(list) = list {
        validation["crl"] = json!({"inline_string": list});
    }
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
