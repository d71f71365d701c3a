//! What our certificates and revocation lists look like, and whether a chain holds.
//!
//! Leaves are X.509-SVIDs: one URI name, critical key usage of a digital signature, both extended
//! key usages, no authority. Decides nothing about who gets one.

use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateRevocationListParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::DnValue;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyIdMethod;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::RevokedCertParams;
use rcgen::SanType;
use rcgen::SerialNumber;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::UnixTime;
use webpki::ALL_VERIFICATION_ALGS;
use webpki::BorrowedCertRevocationList;
use webpki::CertRevocationList;
use webpki::EndEntityCert;
use webpki::KeyUsage;
use webpki::RevocationOptionsBuilder;
use webpki::anchor_from_trusted_cert;
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::identity::TrustDomain;

/// When a certificate begins and ends, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: u64,
    /// The last one.
    pub until: u64,
}

/// Why a certificate could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library says no.
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// Not a certificate.
    #[error("the certificate cannot be read: {0}")]
    Read(String),
    /// The chain does not hold.
    #[error("the chain does not hold: {0}")]
    Chain(#[from] webpki::Error),
    /// A subject we could not repeat byte by byte as the issuer of what it signs.
    #[error(
        "the subject of the issuing certificate is of a form that is not supported; give it plain, single attributes"
    )]
    Subject,
}

/// Which place an authority has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Signed by itself; signs intermediates.
    Root,
    /// Signs leaves.
    Intermediate,
}

/// The certificate of an authority.
pub(super) fn authority(
    domain: &TrustDomain,
    rank: Rank,
    id: &str,
    validity: Validity,
    serial: &[u8],
) -> Result<CertificateParams, CertificateError> {
    let mut params = with_validity(validity, serial);
    let common_name = format!("Weir {id} of {domain}");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Weir");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let below = match rank {
        Rank::Root => 1,
        Rank::Intermediate => 0,
    };
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&domain.id())?];
    params.use_authority_key_identifier_extension = rank == Rank::Intermediate;
    Ok(params)
}

/// The certificate of a workload.
pub(super) fn leaf(
    name: &str,
    validity: Validity,
    serial: &[u8],
) -> Result<CertificateParams, CertificateError> {
    let mut params = with_validity(validity, serial);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Weir");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = vec![uri(name)?];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, CertificateError> {
    Ok(SanType::URI(text.try_into()?))
}

fn with_validity(validity: Validity, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(validity.from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(validity.until);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = DistinguishedName::new();
    params
}

/// One line of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) serial: Vec<u8>,
    pub(super) at: u64,
}

/// The revocation list of `issuer`.
pub(super) fn revocation_list(
    issuer: &Issuer<'_, KeyPair>,
    issuer_der: &[u8],
    entries: &[Entry],
    number: u64,
    validity: Validity,
) -> Result<rcgen::CertificateRevocationList, CertificateError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let revoked = entries.iter().map(|entry| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&entry.serial),
        revocation_time: epoch + Duration::from_secs(entry.at),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: epoch + Duration::from_secs(validity.from),
        next_update: epoch + Duration::from_secs(validity.until),
        crl_number: SerialNumber::from_slice(&number.to_be_bytes()),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: key_id(&parse(issuer_der)?),
    };
    Ok(params.signed_by(issuer)?)
}

/// Makes a certificate and its key sign.
pub(super) fn issuer(
    der: &[u8],
    key: KeyPair,
) -> Result<Issuer<'static, KeyPair>, CertificateError> {
    let certificate = parse(der)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name_of(certificate.subject())?;
    params.key_identifier_method = key_id(&certificate);
    Ok(Issuer::new(params, key))
}

/// Reads one certificate with nothing after it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertificateError::Read("bytes after its end".to_owned())),
        Err(error) => Err(CertificateError::Read(error.to_string())),
    }
}

/// When it begins and ends.
pub(super) fn validity_of(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    Validity {
        from: seconds(validity.not_before.timestamp()),
        until: seconds(validity.not_after.timestamp()),
    }
}

fn key_id(certificate: &X509Certificate<'_>) -> KeyIdMethod {
    let mut extensions = certificate.extensions().iter();
    let found = extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    found.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
}

/// The same name, to be written again. What could come out differently is refused.
fn name_of(name: &X509Name<'_>) -> Result<DistinguishedName, CertificateError> {
    let mut known = DistinguishedName::new();
    for part in name.iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err(CertificateError::Subject);
        };
        let oid: Option<Vec<u64>> = attribute.attr_type().iter().map(Iterator::collect);
        let kind = DnType::from_oid(&oid.ok_or(CertificateError::Subject)?);
        if known.get(&kind).is_some() {
            return Err(CertificateError::Subject);
        }
        let text = attribute.as_str().map_err(|_| CertificateError::Subject)?;
        let value = match attribute.attr_value().tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into()?),
            _ => return Err(CertificateError::Subject),
        };
        known.push(kind, value);
    }
    Ok(known)
}

/// Whether the chain leads to one of the roots at this time, for each of the uses.
///
/// # Errors
/// The reason why not.
pub fn check_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
    revoked: &[CertificateRevocationListDer<'_>],
    (usages, now): (&[KeyUsage], UnixTime),
) -> Result<(), CertificateError> {
    let anchors: Result<Vec<_>, _> = roots.iter().map(anchor_from_trusted_cert).collect();
    let lists: Result<Vec<_>, _> = revoked
        .iter()
        .map(|list| BorrowedCertRevocationList::from_der(list).map(CertRevocationList::from))
        .collect();
    let (anchors, lists) = (anchors?, lists?);
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    for usage in usages {
        let revocation = RevocationOptionsBuilder::new(&lists).ok();
        EndEntityCert::try_from(leaf)?.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            now,
            *usage,
            revocation.map(RevocationOptionsBuilder::build),
            None,
        )?;
    }
    Ok(())
}
