//! `%COMMAND%`s about TLS.

use crate::config::access_log::Command;
use crate::config::tls_fact::Hash;
use crate::config::tls_fact::Name;
use crate::config::tls_fact::Side;
use crate::config::tls_fact::TlsFact;

/// The command of this name, if it is about TLS.
pub(super) fn plain(name: &str) -> Option<Command> {
    let (side, name) = split(name)?;
    let fact = match name {
        // No session of ours has an id: tickets do without.
        "TLS_SESSION_ID" => return Some(Command::Nothing),
        "PEER_CERT" => TlsFact::PeerCertificate,
        "TLS_CIPHER" => TlsFact::Cipher,
        "TLS_GROUP" => TlsFact::Group,
        "TLS_VERSION" => TlsFact::Version,
        _ => match side {
            Side::Downstream => downstream(name)?,
            Side::Upstream => upstream(name)?,
        },
    };
    Some(Command::Tls(side, fact))
}

/// The same of those that may have a format.
pub(super) fn with_format(name: &str, format: Option<&str>) -> Option<Command> {
    let (side, name) = split(name)?;
    let format = format.filter(|format| !format.is_empty()).map(Into::into);
    let fact = match name {
        "PEER_CERT_V_END" => TlsFact::PeerValidUntil(format),
        "PEER_CERT_V_START" => TlsFact::PeerValidSince(format),
        _ => return None,
    };
    Some(Command::Tls(side, fact))
}

fn split(name: &str) -> Option<(Side, &str)> {
    let downstream = name.strip_prefix("DOWNSTREAM_");
    let downstream = downstream.map(|name| (Side::Downstream, name));
    downstream.or_else(|| Some((Side::Upstream, name.strip_prefix("UPSTREAM_")?)))
}

fn downstream(name: &str) -> Option<TlsFact> {
    Some(match name {
        "LOCAL_EMAIL_SAN" => TlsFact::Local(Name::Email),
        "LOCAL_OTHERNAME_SAN" => TlsFact::Local(Name::Other),
        "LOCAL_SUBJECT" => TlsFact::Local(Name::Subject),
        "PEER_CHAIN_FINGERPRINTS_1" => TlsFact::PeerChainFingerprints(Hash::Sha1),
        "PEER_CHAIN_FINGERPRINTS_256" => TlsFact::PeerChainFingerprints(Hash::Sha256),
        "PEER_CHAIN_SERIALS" => TlsFact::PeerChainSerials,
        "PEER_EMAIL_SAN" => TlsFact::Peer(Name::Email),
        "PEER_FINGERPRINT_1" => TlsFact::PeerFingerprint(Hash::Sha1),
        "PEER_FINGERPRINT_256" => TlsFact::PeerFingerprint(Hash::Sha256),
        "PEER_ISSUER_FINGERPRINT_256" => TlsFact::PeerIssuerFingerprint,
        "PEER_ISSUER_SERIAL" => TlsFact::PeerIssuerSerial,
        "PEER_OTHERNAME_SAN" => TlsFact::Peer(Name::Other),
        "PEER_SERIAL" => TlsFact::PeerSerial,
        _ => either(name)?,
    })
}

fn upstream(name: &str) -> Option<TlsFact> {
    match name {
        "SERVER_NAME" => Some(TlsFact::ServerName),
        _ => either(name),
    }
}

fn either(name: &str) -> Option<TlsFact> {
    Some(match name {
        "LOCAL_DNS_SAN" => TlsFact::Local(Name::Dns),
        "LOCAL_IP_SAN" => TlsFact::Local(Name::Ip),
        "LOCAL_URI_SAN" => TlsFact::Local(Name::Uri),
        "PEER_DNS_SAN" => TlsFact::Peer(Name::Dns),
        "PEER_IP_SAN" => TlsFact::Peer(Name::Ip),
        "PEER_ISSUER" => TlsFact::Peer(Name::Issuer),
        "PEER_SUBJECT" => TlsFact::Peer(Name::Subject),
        "PEER_URI_SAN" => TlsFact::Peer(Name::Uri),
        _ => return None,
    })
}
