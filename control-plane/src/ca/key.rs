//! Kinds of keys: which are strong enough, and how they are made and kept.
//!
//! Private keys are PKCS#8 in PEM; nothing here prints one except the functions that say so.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::KeyPair;
use rcgen::PublicKeyData;
use rcgen::SignatureAlgorithm;
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::Deserialize;
use serde::Serialize;
use x509_parser::oid_registry::OID_EC_P256;
use x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY;
use x509_parser::oid_registry::OID_NIST_EC_P384;
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::refusal::Refusal;
use super::secret;
use super::secret::Secret;
use crate::limits::RSA_BITS_MAX;
use crate::limits::RSA_BITS_MIN;

/// A kind of key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    /// What everybody understands and the fastest to sign with.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// For those whose rules ask for it.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// Not understood by stock Envoy, so off unless allowed.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// For peers that know nothing else; made with 2048 bits here, taken up to 8192.
    #[serde(rename = "rsa")]
    Rsa,
}

/// A kind that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of key; ecdsa-p256, ecdsa-p384, ed25519 and rsa are")]
pub struct UnknownKind(String);

impl KeyKind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::EcdsaP256, Self::EcdsaP384, Self::Ed25519, Self::Rsa];

    /// How it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }

    fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
        }
    }

    /// Makes a key that signs, with its text in PEM.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(self) -> Result<(KeyPair, Secret), rcgen::Error> {
        let pair = match self {
            Self::Ed25519 => generate_ed25519()?,
            Self::EcdsaP256 | Self::EcdsaP384 | Self::Rsa => {
                KeyPair::generate_for(self.algorithm())?
            }
        };
        Ok(secret::part(pair))
    }
}

impl FromStr for KeyKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A public key that is strong enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    /// The content of `subjectPublicKey`.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Takes a key somebody else made.
    ///
    /// # Errors
    /// When it is of an unknown kind or too weak.
    pub fn parse(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, Refusal> {
        let algorithm = &info.algorithm.algorithm;
        let kind = if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = info.algorithm.parameters.as_ref();
            let curve = curve.and_then(|curve| curve.as_oid().ok());
            match curve {
                Some(curve) if curve == OID_EC_P256 => KeyKind::EcdsaP256,
                Some(curve) if curve == OID_NIST_EC_P384 => KeyKind::EcdsaP384,
                Some(curve) => return Err(unknown(format!("elliptic curve {curve}"))),
                None => return Err(unknown("an unnamed elliptic curve".to_owned())),
            }
        } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
            check_rsa(info)?;
            KeyKind::Rsa
        } else if *algorithm == OID_SIG_ED25519 {
            KeyKind::Ed25519
        } else {
            return Err(unknown(format!("algorithm {algorithm}")));
        };
        let bytes = info.subject_public_key.data.to_vec();
        Ok(Self { kind, bytes })
    }

    /// The public half of a key made here.
    #[must_use]
    pub fn of(kind: KeyKind, pair: &KeyPair) -> Self {
        Self {
            kind,
            bytes: pair.der_bytes().to_vec(),
        }
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.kind.algorithm()
    }
}

/// In the old form of PKCS#8: OpenSSL 3.0 cannot read the new one, which holds the public key, too.
fn generate_ed25519() -> Result<KeyPair, rcgen::Error> {
    let failed = |_| rcgen::Error::RingUnspecified;
    let pair = Ed25519KeyPair::generate().map_err(failed)?;
    let document = pair.to_pkcs8v1().map_err(failed)?;
    let document = PrivatePkcs8KeyDer::from(document.as_ref());
    KeyPair::from_pkcs8_der_and_sign_algo(&document, &rcgen::PKCS_ED25519)
}

fn check_rsa(info: &SubjectPublicKeyInfo<'_>) -> Result<(), Refusal> {
    let Ok(Parsed::RSA(key)) = info.parsed() else {
        return Err(unknown("an RSA key that cannot be read".to_owned()));
    };
    let bits = bits_of(key.modulus);
    if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        Ok(())
    } else {
        Err(Refusal::KeyWeak { bits })
    }
}

/// The size of a big-endian number.
fn bits_of(modulus: &[u8]) -> usize {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let digits = modulus.get(zeros..).unwrap_or_default();
    let leading = digits.first().map_or(0, |first| first.leading_zeros());
    (digits.len() * 8).saturating_sub(leading as usize)
}

fn unknown(kind: String) -> Refusal {
    Refusal::KeyUnknown { kind }
}
