//! What is taken from a certificate signing request: a key whose owner signed, and nothing else.
//!
//! Names in a request decide nothing. They must be the caller's own identity or absent, because a
//! request for anything else is a mistake or an attack, and both want to be told.

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::SignatureVerificationAlgorithm;
use rustls_pki_types::pem::PemObject;
use webpki::aws_lc_rs as verification;
use x509_parser::asn1_rs::Oid;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::GeneralName;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_PKCS1_SHA256WITHRSA;
use x509_parser::oid_registry::OID_PKCS1_SHA384WITHRSA;
use x509_parser::oid_registry::OID_PKCS1_SHA512WITHRSA;
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA256;
use x509_parser::oid_registry::OID_SIG_ECDSA_WITH_SHA384;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;

use super::identity::SpiffeId;
use super::key::KeyKind;
use super::key::PublicKey;
use super::refusal::Refusal;
use crate::limits::SIGNING_REQUEST_BYTES_MAX;

/// The key of a request in PEM; see [`key_of`].
///
/// # Errors
/// As [`key_of`], and when the text holds no request.
pub fn key_of_pem(text: &[u8], identity: &SpiffeId) -> Result<PublicKey, Refusal> {
    check_size(text)?;
    let der = CertificateSigningRequestDer::from_pem_slice(text)
        .map_err(|error| malformed(&error.to_string()))?;
    key_of(&der, identity)
}

/// The key of a request that `identity` sends.
///
/// # Errors
/// When the request is malformed, is not signed by its own key, has a weak or unknown key, asks
/// to become an authority, or names anybody but `identity`.
pub fn key_of(der: &[u8], identity: &SpiffeId) -> Result<PublicKey, Refusal> {
    check_size(der)?;
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|error| malformed(&error.to_string()))?;
    if !rest.is_empty() {
        return Err(malformed("there are bytes after its end"));
    }
    let info = &request.certification_request_info;
    let key = PublicKey::parse(&info.subject_pki)?;
    check_signature(&request, key.kind())?;
    for attribute in info.iter_attributes() {
        if let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() {
            for extension in &requested.extensions {
                check_extension(extension.parsed_extension(), identity)?;
            }
        }
    }
    Ok(key)
}

fn check_size(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > SIGNING_REQUEST_BYTES_MAX {
        let text = format!("it is longer than {SIGNING_REQUEST_BYTES_MAX} bytes");
        return Err(malformed(&text));
    }
    Ok(())
}

fn check_signature(request: &X509CertificationRequest<'_>, kind: KeyKind) -> Result<(), Refusal> {
    let named = &request.signature_algorithm.algorithm;
    let algorithm = algorithm_of(kind, named)
        .ok_or_else(|| malformed(&format!("it is signed with algorithm {named}")))?;
    let info = &request.certification_request_info;
    let (key, signature) = (
        &info.subject_pki.subject_public_key.data,
        &request.signature_value.data,
    );
    algorithm
        .verify_signature(key, info.raw, signature)
        .map_err(|_| Refusal::BadSignature)
}

fn algorithm_of(
    kind: KeyKind,
    named: &Oid<'_>,
) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    let known: &[(Oid<'_>, &'static dyn SignatureVerificationAlgorithm)] = match kind {
        KeyKind::EcdsaP256 => &[
            (OID_SIG_ECDSA_WITH_SHA256, verification::ECDSA_P256_SHA256),
            (OID_SIG_ECDSA_WITH_SHA384, verification::ECDSA_P256_SHA384),
        ],
        KeyKind::EcdsaP384 => &[
            (OID_SIG_ECDSA_WITH_SHA256, verification::ECDSA_P384_SHA256),
            (OID_SIG_ECDSA_WITH_SHA384, verification::ECDSA_P384_SHA384),
        ],
        KeyKind::Ed25519 => &[(OID_SIG_ED25519, verification::ED25519)],
        KeyKind::Rsa => &[
            (
                OID_PKCS1_SHA256WITHRSA,
                verification::RSA_PKCS1_2048_8192_SHA256,
            ),
            (
                OID_PKCS1_SHA384WITHRSA,
                verification::RSA_PKCS1_2048_8192_SHA384,
            ),
            (
                OID_PKCS1_SHA512WITHRSA,
                verification::RSA_PKCS1_2048_8192_SHA512,
            ),
        ],
    };
    let found = known.iter().find(|(oid, _)| oid == named);
    found.map(|(_, algorithm)| *algorithm)
}

fn check_extension(extension: &ParsedExtension<'_>, identity: &SpiffeId) -> Result<(), Refusal> {
    match extension {
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
            Err(Refusal::AsksForAuthority)
        }
        ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
            Err(Refusal::AsksForAuthority)
        }
        ParsedExtension::SubjectAlternativeName(names) => names
            .general_names
            .iter()
            .try_for_each(|name| check_name(name, identity)),
        ParsedExtension::ParseError { error } => Err(malformed(&error.to_string())),
        // Anything else a client may like to have is not taken over.
        _ => Ok(()),
    }
}

fn check_name(name: &GeneralName<'_>, identity: &SpiffeId) -> Result<(), Refusal> {
    let text = match name {
        GeneralName::URI(text) | GeneralName::DNSName(text) | GeneralName::RFC822Name(text) => {
            (*text).to_owned()
        }
        GeneralName::Invalid(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.to_string(),
    };
    if text.contains('*') {
        return Err(Refusal::NameWildcard { name: text });
    }
    if !matches!(name, GeneralName::URI(_)) {
        return Err(Refusal::NameForeign { name: text });
    }
    match text.parse::<SpiffeId>() {
        Err(reason) => Err(Refusal::NameInvalid { name: text, reason }),
        Ok(id) if id == *identity => Ok(()),
        Ok(id) if id.domain() != identity.domain() => Err(Refusal::OtherDomain { name: text }),
        Ok(_) => Err(Refusal::NameForeign { name: text }),
    }
}

fn malformed(reason: &str) -> Refusal {
    Refusal::Malformed {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
