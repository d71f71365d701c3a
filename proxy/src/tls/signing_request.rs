//! A key of our own, and the request to have it signed (PKCS #10, RFC 2986).
//!
//! ECDSA with P-256 only. The few structures of such a request are written here directly.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::PrivatePkcs8KeyDer;

/// A private key that was made here.
pub struct OwnKey(EcdsaKeyPair);

/// The library could not make, use or write a key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the cryptographic library failed, perhaps for want of randomness")]
pub struct KeyFailure;

impl From<aws_lc_rs::error::Unspecified> for KeyFailure {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

impl OwnKey {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, KeyFailure> {
        Ok(Self(EcdsaKeyPair::generate(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
        )?))
    }

    /// For those who serve with it.
    ///
    /// # Errors
    /// When the library cannot write it.
    pub fn to_der(&self) -> Result<PrivateKeyDer<'static>, KeyFailure> {
        let document = self.0.to_pkcs8v1()?;
        let key = PrivatePkcs8KeyDer::from(document.as_ref().to_vec());
        Ok(key.into())
    }

    /// A request for a certificate with this name, or with the name the signer decides on; in PEM.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn request(&self, uri: Option<&str>) -> Result<String, KeyFailure> {
        let info = sequence(&[
            &element(INTEGER, &[&[0]]), // version 1
            &sequence(&[]),             // no subject: names are alternative names here
            &self.public_key(),
            &element(CONTEXT_0, &[&uri.map(name_wanted).unwrap_or_default()]),
        ]);
        let signature = self.0.sign(&SystemRandom::new(), &info)?;
        let algorithm = sequence(&[ECDSA_WITH_SHA256]);
        let signature = element(BIT_STRING, &[&[0], signature.as_ref()]);
        Ok(pem(&sequence(&[&info, &algorithm, &signature])))
    }

    fn public_key(&self) -> Vec<u8> {
        let algorithm = sequence(&[EC_PUBLIC_KEY, PRIME256V1]);
        let point = element(BIT_STRING, &[&[0], self.0.public_key().as_ref()]);
        sequence(&[&algorithm, &point])
    }
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnKey")
    }
}

/// The attribute that asks for a subject alternative name, a URI.
fn name_wanted(uri: &str) -> Vec<u8> {
    let names = sequence(&[&element(URI, &[uri.as_bytes()])]);
    let extension = sequence(&[SUBJECT_ALT_NAME, &element(OCTET_STRING, &[&names])]);
    let wanted = element(SET, &[&sequence(&[&extension])]);
    sequence(&[EXTENSION_REQUEST, &wanted])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

/// Tag, length, content (X.690 section 8.1).
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut element = vec![tag];
    let bytes = length.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0);
    let bytes = bytes.get(first.unwrap_or(bytes.len() - 1)..);
    let bytes = bytes.unwrap_or_default();
    if length >= 0x80 {
        // At most eight of them.
        element.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
    }
    element.extend_from_slice(bytes);
    for part in parts {
        element.extend_from_slice(part);
    }
    element
}

fn pem(der: &[u8]) -> String {
    let mut pem = "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned();
    for (i, letter) in STANDARD.encode(der).chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE REQUEST-----\n");
    pem
}

const BIT_STRING: u8 = 0x03;
const CONTEXT_0: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// `GeneralName.uniformResourceIdentifier`.
const URI: u8 = 0x86;

/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// 1.2.840.10045.3.1.7
const PRIME256V1: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

/// 1.2.840.10045.4.3.2
const ECDSA_WITH_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// 1.2.840.113549.1.9.14
const EXTENSION_REQUEST: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 3, 0x55, 0x1d, 17];

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1;
    use aws_lc_rs::signature::UnparsedPublicKey;
    use rustls_pki_types::CertificateSigningRequestDer;
    use rustls_pki_types::pem::PemObject;
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::extensions::ParsedExtension;
    use x509_parser::prelude::FromDer;

    use super::*;

    /// The names in a request, which is signed by its own key.
    fn names(request: &str, key: &OwnKey) -> Vec<String> {
        let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap();
        let (rest, read) = X509CertificationRequest::from_der(&der).unwrap();
        assert!(rest.is_empty());
        let info = &read.certification_request_info;
        let point = &*info.subject_pki.subject_public_key.data;
        assert_eq!(point, key.0.public_key().as_ref());
        let signed = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        signed.verify(info.raw, &read.signature_value.data).unwrap();
        let extensions = read.requested_extensions().into_iter().flatten();
        let names = extensions.flat_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => names.general_names.clone(),
            other => panic!("{other:?}"),
        });
        names.map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_request_has_the_name_and_the_key() {
        // Lengths of one, two and three bytes.
        for path in ["a".to_owned(), "b".repeat(150), "c".repeat(1_900)] {
            let uri = format!("spiffe://mesh.example/{path}");
            let key = OwnKey::generate().unwrap();
            let request = key.request(Some(&uri)).unwrap();
            assert_eq!(names(&request, &key), [format!("URI({uri})")]);
            let again = EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_ASN1_SIGNING,
                key.to_der().unwrap().secret_der(),
            );
            assert_eq!(
                again.unwrap().public_key().as_ref(),
                key.0.public_key().as_ref()
            );
        }
    }

    #[test]
    fn without_a_name_none_is_asked_for() {
        let key = OwnKey::generate().unwrap();
        let request = key.request(None).unwrap();
        assert!(names(&request, &key).is_empty());
        assert!(request.lines().all(|line| line.len() <= 64));
    }
}
