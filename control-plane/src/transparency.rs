//! Signed certificate timestamps (RFC 6962): how many logs say that they know a public certificate.
//!
//! Only those in the certificate itself are looked at. Who signed them is not checked, because that
//! needs the keys of all logs; what is checked keeps a certificate out that browsers would not take.

use std::collections::BTreeSet;

use prost::Message;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::asn1_rs::FromDer;
use x509_parser::asn1_rs::OctetString;
use x509_parser::asn1_rs::Oid;
use x509_parser::asn1_rs::oid;
use x509_parser::certificate::X509Certificate;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use crate::ca::certificate;

/// Why a certificate does not have what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The certificate is elsewhere.
    #[error(
        "its timestamps cannot be counted, because the certificate is not in this file; put it inline"
    )]
    Elsewhere,
    /// The list is not what it must be.
    #[error("its list of signed timestamps (1.3.6.1.4.1.11129.2.4.2) cannot be read: {0}")]
    Malformed(&'static str),
    /// Nothing to look at.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// Not enough.
    #[error("it carries signed timestamps of {found} logs, and {least} are required")]
    TooFew {
        /// Different logs.
        found: usize,
        /// How many are wanted.
        least: usize,
    },
}

/// Whether the certificate of an encoded `Secret` carries timestamps of at least so many logs; other
/// secrets do not need any.
///
/// # Errors
/// The reason why not.
pub fn check(secret: &[u8], least: usize, now: u64) -> Result<(), TimestampError> {
    let unreadable = |error: &dyn ToString| TimestampError::Unreadable(error.to_string());
    let secret = Secret::decode(secret).map_err(|error| unreadable(&error))?;
    let Some(Type::TlsCertificate(own)) = secret.r#type else {
        return Ok(());
    };
    let chain = own.certificate_chain.and_then(|source| source.specifier);
    let pem = match chain {
        Some(Specifier::InlineBytes(bytes)) => bytes,
        Some(Specifier::InlineString(text)) => text.into_bytes(),
        _ => return Err(TimestampError::Elsewhere),
    };
    let leaf = CertificateDer::from_pem_slice(&pem).map_err(|error| unreadable(&error))?;
    let leaf = certificate::parse(&leaf).map_err(|error| unreadable(&error))?;
    let found = logs(&leaf, now)?.len();
    if found < least {
        return Err(TimestampError::TooFew { found, least });
    }
    Ok(())
}

/// The ids of the logs whose timestamps a certificate carries. One from the future, or of a version
/// nobody knows yet, says nothing.
fn logs(certificate: &X509Certificate<'_>, now: u64) -> Result<BTreeSet<[u8; 32]>, TimestampError> {
    let mut extensions = certificate.extensions().iter();
    let Some(found) = extensions.find(|one| one.oid == LIST) else {
        return Ok(BTreeSet::new());
    };
    let (rest, list) = OctetString::from_der(found.value)
        .map_err(|_| TimestampError::Malformed("it is no octet string"))?;
    if !rest.is_empty() {
        return Err(TimestampError::Malformed("there are bytes after it"));
    }
    let list = list.as_cow();
    let mut all = Reader(list);
    let mut entries = Reader(all.opaque()?);
    all.end()?;
    if entries.0.is_empty() {
        return Err(TimestampError::Malformed("it is empty"));
    }
    let mut logs = BTreeSet::new();
    while !entries.0.is_empty() {
        logs.extend(log(entries.opaque()?, now)?);
    }
    Ok(logs)
}

/// The log of one timestamp (section 3.2).
fn log(entry: &[u8], now: u64) -> Result<Option<[u8; 32]>, TimestampError> {
    let mut entry = Reader(entry);
    let [version] = entry.array()?;
    if version != V1 {
        return Ok(None); // of another form
    }
    let id: [u8; 32] = entry.array()?;
    let milliseconds = u64::from_be_bytes(entry.array()?);
    entry.opaque()?; // extensions, of which there are none
    let _algorithm: [u8; 2] = entry.array()?;
    if entry.opaque()?.is_empty() {
        return Err(TimestampError::Malformed("a timestamp has no signature"));
    }
    entry.end()?;
    Ok((milliseconds / 1_000 <= now).then_some(id))
}

/// What is left to read, in the form of TLS (RFC 8446 section 3).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], TimestampError> {
        let cut = TimestampError::Malformed("it is cut off");
        let (taken, rest) = self.0.split_at_checked(len).ok_or(cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], TimestampError> {
        let mut array = [0; LEN];
        array.copy_from_slice(self.take(LEN)?);
        Ok(array)
    }

    /// Bytes with their length before them.
    fn opaque(&mut self) -> Result<&'a [u8], TimestampError> {
        let len = u16::from_be_bytes(self.array()?);
        self.take(usize::from(len))
    }

    fn end(&self) -> Result<(), TimestampError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(TimestampError::Malformed("there are bytes after it"))
    }
}

/// `SignedCertificateTimestampList`.
const LIST: Oid<'static> = oid!(1.3.6.1.4.1.11129.2.4.2);

const V1: u8 = 0;

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;
    use rcgen::CustomExtension;
    use rcgen::KeyPair;
    use xds_proto::pb::envoy::config::core::v3::DataSource;
    use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;

    use super::*;

    /// Some day of 2026.
    const NOW: u64 = 1_790_000_000;

    fn opaque(bytes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(bytes.len()).unwrap();
        [&len.to_be_bytes(), bytes].concat()
    }

    fn timestamp(version: u8, log: u8, seconds: u64) -> Vec<u8> {
        let time = (seconds * 1_000).to_be_bytes();
        let signature = opaque(&[7; 70]);
        [
            &[version][..],
            &[log; 32],
            &time,
            &opaque(&[]),
            &[4, 3],
            &signature,
        ]
        .concat()
    }

    fn list(entries: &[Vec<u8>]) -> Vec<u8> {
        let entries = entries.iter().map(|entry| opaque(entry));
        opaque(&entries.collect::<Vec<_>>().concat())
    }

    fn in_octets(content: &[u8]) -> Vec<u8> {
        let mut der = vec![4];
        let len = content.len();
        if len > 127 {
            der.push(0x82);
            der.extend(u16::try_from(len).unwrap().to_be_bytes());
        } else {
            der.push(u8::try_from(len).unwrap());
        }
        der.extend(content);
        der
    }

    fn secret(extension: Option<Vec<u8>>) -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        let oid = [1, 3, 6, 1, 4, 1, 11_129, 2, 4, 2];
        let extension = extension.map(|one| CustomExtension::from_oid_content(&oid, one));
        params.custom_extensions.extend(extension);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        with(Specifier::InlineString(certificate.pem()))
    }

    fn with(specifier: Specifier) -> Vec<u8> {
        let own = TlsCertificate {
            certificate_chain: Some(DataSource {
                specifier: Some(specifier),
                ..Default::default()
            }),
            ..Default::default()
        };
        let secret = Secret {
            name: "s".to_owned(),
            r#type: Some(Type::TlsCertificate(own)),
        };
        secret.encode_to_vec()
    }

    #[test]
    fn logs_are_counted_once_and_only_what_they_said_before_now() {
        let found = |entries: &[Vec<u8>]| {
            let secret = secret(Some(in_octets(&list(entries))));
            match check(&secret, 99, NOW) {
                Err(TimestampError::TooFew { found, least: 99 }) => found,
                other => panic!("{other:?}"),
            }
        };
        let (one, two) = (timestamp(0, 1, NOW), timestamp(0, 2, NOW - 9));
        assert_eq!(found(std::slice::from_ref(&one)), 1);
        assert_eq!(found(&[one.clone(), two.clone()]), 2);
        assert_eq!(found(&[one.clone(), one.clone(), two.clone()]), 2);
        assert_eq!(found(&[timestamp(0, 1, NOW + 1)]), 0, "of tomorrow");
        assert_eq!(
            found(&[timestamp(1, 1, NOW), two.clone()]),
            1,
            "of a later version"
        );
        let both = secret(Some(in_octets(&list(&[one, two]))));
        assert_eq!(check(&both, 2, NOW), Ok(()));
        let none = TimestampError::TooFew { found: 0, least: 1 };
        assert_eq!(check(&secret(None), 1, NOW), Err(none));
    }

    #[test]
    fn lists_that_are_none_are_told_and_never_counted() {
        let good = list(&[timestamp(0, 1, NOW)]);
        for end in 0..good.len() {
            let cut = secret(Some(in_octets(&good[..end])));
            let error = check(&cut, 1, NOW).unwrap_err();
            assert!(
                matches!(error, TimestampError::Malformed(_)),
                "{end}: {error}"
            );
        }
        let long = [&*good, &[0]].concat();
        let entry = timestamp(0, 1, NOW);
        let inner = list(&[[&*entry, &[0]].concat()]);
        let unsigned = list(&[[&entry[..entry.len() - 72], &[0, 0]].concat()]);
        for content in [long, inner, unsigned, opaque(&[])] {
            let error = check(&secret(Some(in_octets(&content))), 1, NOW).unwrap_err();
            assert!(matches!(error, TimestampError::Malformed(_)), "{error}");
        }
        let bare = check(&secret(Some(good)), 1, NOW);
        assert!(matches!(bare, Err(TimestampError::Malformed(_))));
    }

    #[test]
    fn only_certificates_need_them_and_those_must_be_there() {
        let other = Secret {
            name: "s".to_owned(),
            r#type: Some(Type::ValidationContext(Default::default())),
        };
        assert_eq!(check(&other.encode_to_vec(), 2, NOW), Ok(()));
        let elsewhere = with(Specifier::Filename("/x.pem".to_owned()));
        assert_eq!(check(&elsewhere, 1, NOW), Err(TimestampError::Elsewhere));
        let nothing = check(&with(Specifier::InlineString("x".to_owned())), 1, NOW);
        assert!(matches!(nothing, Err(TimestampError::Unreadable(_))));
    }
}
