//! What a `%COMMAND%` about TLS gives.

use std::borrow::Cow;
use std::time::Duration;
use std::time::SystemTime;

use crate::config::tls_fact::Hash;
use crate::config::tls_fact::Name;
use crate::config::tls_fact::TlsFact;
use crate::net::tls::Facts;
use crate::net::tls::facts;
use crate::net::tls::facts::Names;
use crate::telemetry::access_log::command::Value;

/// The value of `fact`. What is computed or put together is allocated; nothing else is.
pub(super) fn value<'a>(fact: &'a TlsFact, tls: &'a Facts) -> Value<'a> {
    let peer = tls.peer.as_ref();
    match fact {
        TlsFact::Cipher => text(tls.cipher),
        TlsFact::Group => text(tls.group),
        TlsFact::Local(name) => named(tls.local.as_deref(), *name),
        TlsFact::Peer(name) => named(peer.map(|peer| peer.names()), *name),
        TlsFact::PeerCertificate => made(peer.map(|peer| peer.escaped_pem())),
        TlsFact::PeerChainFingerprints(hash) => made(peer.map(|peer| {
            let chain = peer.chain().iter().map(|one| fingerprint(one, *hash));
            chain.collect::<Vec<_>>().join(",")
        })),
        TlsFact::PeerChainSerials => made(peer.map(|peer| peer.serials().join(","))),
        TlsFact::PeerFingerprint(hash) => {
            let leaf = peer.and_then(|peer| peer.chain().first());
            made(leaf.map(|leaf| fingerprint(leaf, *hash)))
        }
        TlsFact::PeerIssuerFingerprint => {
            made(tls.issuer().map(|issuer| fingerprint(issuer, Hash::Sha256)))
        }
        TlsFact::PeerIssuerSerial => made(tls.issuer().and_then(|issuer| facts::serial_of(issuer))),
        TlsFact::PeerSerial => peer.map_or(Value::Absent, |peer| text(&peer.names().serial)),
        TlsFact::PeerValidSince(format) => {
            time(peer.map(|peer| peer.names().not_before), format.as_deref())
        }
        TlsFact::PeerValidUntil(format) => {
            time(peer.map(|peer| peer.names().not_after), format.as_deref())
        }
        TlsFact::ServerName => tls.server_name.as_deref().map_or(Value::Absent, text),
        TlsFact::Version => text(tls.version),
    }
}

fn named(names: Option<&Names>, name: Name) -> Value<'_> {
    let Some(names) = names else {
        return Value::Absent;
    };
    let list = match name {
        Name::Dns => &names.dns,
        Name::Email => &names.emails,
        Name::Ip => &names.ips,
        Name::Issuer => return text(&names.issuer),
        Name::Other => &names.others,
        Name::Subject => return text(&names.subject),
        Name::Uri => &names.uris,
    };
    match list.as_slice() {
        [] => Value::Absent,
        [one] => text(one),
        several => made(Some(several.join(","))),
    }
}

fn fingerprint(certificate: &[u8], hash: Hash) -> String {
    match hash {
        Hash::Sha1 => facts::sha1(certificate),
        Hash::Sha256 => facts::sha256(certificate),
    }
}

/// An empty name is no name.
fn text(text: &str) -> Value<'_> {
    match text {
        "" => Value::Absent,
        text => Value::Text(Cow::Borrowed(text.as_bytes())),
    }
}

fn made(text: Option<String>) -> Value<'static> {
    match text {
        None => Value::Absent,
        Some(text) if text.is_empty() => Value::Absent,
        Some(text) => Value::Text(Cow::Owned(text.into_bytes())),
    }
}

/// A time before 1970 is shown as 1970.
fn time(seconds: Option<i64>, format: Option<&str>) -> Value<'_> {
    seconds.map_or(Value::Absent, |seconds| {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Value::Time(SystemTime::UNIX_EPOCH + since, format)
    })
}
