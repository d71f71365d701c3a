//! Certificates for tests, made when they are asked for.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::LazyLock;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::date_time_ymd;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;

use crate::config::tls::Certificate;

/// One that issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

/// The same for all tests that do not care.
pub(crate) static CA: LazyLock<Authority> = LazyLock::new(|| Authority::new("ca"));

/// `a.example`, of [`CA`].
pub(crate) static LEAF: LazyLock<Leaf> = LazyLock::new(|| CA.issue("DNS:a.example"));

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// `names` as OpenSSL writes them: `DNS:a.example,URI:spiffe://a/b`.
    pub(crate) fn issue(&self, names: &str) -> Leaf {
        self.issue_with(params(names))
    }

    pub(crate) fn issue_with(&self, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    /// A certificate for this key.
    pub(crate) fn sign(
        &self,
        params: CertificateParams,
        key: &impl rcgen::PublicKeyData,
    ) -> rcgen::Certificate {
        params.signed_by(key, &self.issuer).unwrap()
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A list that revokes these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> rcgen::CertificateRevocationList {
        let revoked = serials.iter().map(|serial| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }
}

/// Of a leaf for handshakes of either side.
pub(crate) fn params(names: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| match name.split_once(':').unwrap() {
            ("DNS", text) => SanType::DnsName(text.try_into().unwrap()),
            ("EMAIL", text) => SanType::Rfc822Name(text.try_into().unwrap()),
            ("IP", text) => SanType::IpAddress(text.parse::<IpAddr>().unwrap()),
            ("URI", text) => SanType::URI(text.try_into().unwrap()),
            (kind, _) => unreachable!("{kind} is no kind"),
        })
        .collect();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params
}

impl Leaf {
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn certificate(&self) -> Arc<Certificate> {
        Arc::new(Certificate {
            chain: vec![self.der.clone()],
            key: PrivateKeyDer::try_from(self.key.serialize_der()).unwrap(),
            path: None,
        })
    }
}
