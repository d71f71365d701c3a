//! One certificate in plain words.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use rustls_pki_types::UnixTime;
use serde_json::Value;
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_EC_P256;
use x509_parser::oid_registry::OID_NIST_EC_P384;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::moment::Moment;

/// What is worth knowing.
#[derive(Debug)]
pub(super) struct Described {
    subject: String,
    issuer: String,
    serial: String,
    names: Vec<String>,
    key: String,
    from: u64,
    until: u64,
    role: String,
}

impl Described {
    pub(super) fn new(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| format!("a certificate cannot be read: {error}"))?;
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let validity = certificate.validity();
        Ok(Self {
            subject: name(&certificate.subject().to_string()),
            issuer: name(&certificate.issuer().to_string()),
            serial: certificate
                .raw_serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            names: names(&certificate),
            key: key(certificate.public_key()),
            from: seconds(validity.not_before.timestamp()),
            until: seconds(validity.not_after.timestamp()),
            role: role(&certificate),
        })
    }

    pub(super) fn text(&self, place: usize, now: UnixTime) -> String {
        let Self {
            subject,
            issuer,
            serial,
            key,
            role,
            ..
        } = self;
        let (from, until) = (Moment::new(self.from), Moment::new(self.until));
        let names = match &*self.names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        format!(
            "{place}  {role}\n   \
             subject  {subject}\n   \
             names    {names}\n   \
             issuer   {issuer}\n   \
             valid    {from} to {until}, {state}\n   \
             key      {key}\n   \
             serial   {serial}",
            state = self.state(now)
        )
    }

    pub(super) fn json(&self, now: UnixTime) -> Value {
        json!({
            "subject": self.subject,
            "names": self.names,
            "issuer": self.issuer,
            "from": Moment::new(self.from).to_string(),
            "until": Moment::new(self.until).to_string(),
            "seconds_left": self.until.saturating_sub(now.as_secs()),
            "state": self.state(now),
            "key": self.key,
            "serial": self.serial,
            "role": self.role,
        })
    }

    fn state(&self, now: UnixTime) -> String {
        let now = now.as_secs();
        if now < self.from {
            return format!(
                "NOT YET VALID: begins {}",
                Moment::new(self.from).seen_from(now)
            );
        }
        let end = Moment::new(self.until).seen_from(now);
        if now > self.until {
            format!("EXPIRED: ended {end}")
        } else {
            format!("ends {end}")
        }
    }
}

fn name(text: &str) -> String {
    if text.is_empty() {
        "none".to_owned()
    } else {
        printable(text)
    }
}

/// Somebody else wrote it, and it goes to a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(text) => format!("DNS {text}"),
        GeneralName::URI(text) => format!("URI {text}"),
        GeneralName::RFC822Name(text) => format!("mail {text}"),
        GeneralName::IPAddress(bytes) => address(bytes),
        other => other.to_string(),
    });
    names.map(|name| printable(&name)).collect()
}

fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return format!("IP {}", Ipv4Addr::from(v4));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => format!("IP {}", Ipv6Addr::from(v6)),
        Err(_) => format!("IP of {} bytes", bytes.len()),
    }
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = &info.algorithm;
    if algorithm.algorithm == OID_SIG_ED25519 {
        return "Ed25519".to_owned();
    }
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let digits = key.modulus.iter().skip_while(|byte| **byte == 0).count();
            format!("RSA {} bits", digits * 8)
        }
        Ok(PublicKey::EC(_)) => {
            let curve = algorithm
                .parameters
                .as_ref()
                .and_then(|curve| curve.as_oid().ok());
            match curve {
                Some(curve) if curve == OID_EC_P256 => "ECDSA P-256".to_owned(),
                Some(curve) if curve == OID_NIST_EC_P384 => "ECDSA P-384".to_owned(),
                Some(curve) => format!("ECDSA on curve {curve}"),
                None => "ECDSA on an unnamed curve".to_owned(),
            }
        }
        _ => format!("algorithm {}", algorithm.algorithm),
    }
}

fn role(certificate: &X509Certificate<'_>) -> String {
    if !certificate.is_ca() {
        let usage = certificate.extended_key_usage().ok().flatten();
        return match usage.map(|usage| (usage.value.server_auth, usage.value.client_auth)) {
            Some((true, true)) => "certificate of a server and client",
            Some((true, false)) => "certificate of a server",
            Some((false, true)) => "certificate of a client",
            _ => "certificate",
        }
        .to_owned();
    }
    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
        return "root".to_owned();
    }
    "intermediate authority".to_owned()
}
