//! The listener filters, one function each.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::listener_filter::ProxyProtocol;
use crate::config::listener_filter::TlsInspector;
use crate::config::listener_filter::TlvRule;
use crate::downstream::Downstream;
use crate::downstream::Metadatum;
use crate::downstream::ProtocolList;
use crate::downstream::Tlv;
use crate::downstream::Transport;
use crate::listener::inspect::Refused;
use crate::listener::inspect::client_hello;
use crate::listener::inspect::client_hello::ClientHello;
use crate::listener::inspect::first_line;
use crate::net::NetStream;
use crate::net::proxy_protocol;
use crate::net::proxy_protocol::Header;
use crate::net::proxy_protocol::Version;
use crate::net::stream::PEEK_BYTES_MAX;
use crate::telemetry::stats::HttpInspectorStats;
use crate::telemetry::stats::ProxyProtocolStats;
use crate::telemetry::stats::TlsInspectorStats;

/// What TLS begins with.
const RECORD_HANDSHAKE: u8 = 22;

/// `original_dst`: the address before a redirect by netfilter; what was not redirected stays.
pub(super) fn original_dst(stream: &NetStream, downstream: &mut Downstream) {
    if let Some(original) = stream.original_destination() {
        restore_local(downstream, original);
    }
}

fn restore_local(downstream: &mut Downstream, local: std::net::SocketAddr) {
    if downstream.local != Some(local) {
        downstream.local = Some(local);
        downstream.found_mut().local_is_restored = true;
    }
}

/// `proxy_protocol`: the client, and the address it wanted, as the proxy before us says.
pub(super) async fn proxy_protocol(
    config: &ProxyProtocol,
    stream: &NetStream,
    downstream: &mut Downstream,
    stats: &Arc<ProxyProtocolStats>,
) -> Result<(), Refused> {
    let looked = stream.peek_until(PEEK_BYTES_MAX, |bytes| match proxy_protocol::read(bytes) {
        proxy_protocol::Reading::More => None,
        proxy_protocol::Reading::Header(header) => {
            let tlvs = kept_tlvs(config, &header, bytes);
            let metadata = metadata(&config.rules, header.tlvs(bytes));
            Some(Ok(Some((header, tlvs, metadata))))
        }
        proxy_protocol::Reading::Broken(version) => Some(Err(version)),
        proxy_protocol::Reading::None => Some(Ok(None)),
    });
    let version = match looked.await? {
        Some(Ok(Some((header, tlvs, metadata))))
            if !config.disallowed.contains(&header.version) =>
        {
            stream.skip(header.length)?;
            count_found(stats, header.version);
            take_header(downstream, &header, tlvs, metadata);
            return Ok(());
        }
        Some(Ok(Some((header, ..)))) => Some(header.version),
        Some(Err(version)) => Some(version),
        Some(Ok(None)) => None,
        None => return Err(Refused::Left),
    };
    // What is no header, or one of a version that is not looked for, may be the client's own bytes.
    let is_own = version.is_none_or(|version| config.disallowed.contains(&version));
    if is_own && config.is_optional {
        stats.not_found_allowed().inc();
        return Ok(());
    }
    match version {
        None => stats.not_found_disallowed().inc(),
        Some(Version::V1) if is_own => stats.v1_disallowed().inc(),
        Some(Version::V2) if is_own => stats.v2_disallowed().inc(),
        Some(Version::V1) => stats.v1_error().inc(),
        Some(Version::V2) => stats.v2_error().inc(),
    }
    Err(Refused::Filter)
}

fn kept_tlvs(config: &ProxyProtocol, header: &Header, bytes: &[u8]) -> Vec<Tlv> {
    header
        .tlvs(bytes)
        .filter(|(kind, _)| config.kept_tlvs.keeps(*kind))
        .map(|(kind, value)| Tlv {
            kind,
            value: value.into(),
        })
        .collect()
}

/// What rules make of TLVs; of a label the first counts as metadata and the last as filter state, as in
/// Envoy.
fn metadata<'a>(rules: &[TlvRule], tlvs: impl Iterator<Item = (u8, &'a [u8])>) -> Vec<Metadatum> {
    let mut found: Vec<Metadatum> = Vec::new();
    if rules.is_empty() {
        return found;
    }
    let mut seen = [false; 256]; // so that many TLVs of one type cost next to nothing
    for (kind, value) in tlvs {
        let Some(rule) = rules.iter().find(|rule| rule.kind == kind) else {
            continue;
        };
        let is_again = std::mem::replace(&mut seen[usize::from(kind)], true);
        let known = found.iter().position(|known| known.label == rule.label);
        if !rule.label.is_state && (is_again || known.is_some()) {
            continue;
        }
        if let Some(known) = known {
            found.swap_remove(known);
        }
        let value = if rule.is_base64 {
            STANDARD.encode(value)
        } else {
            readable(value)
        };
        found.push(Metadatum {
            label: Arc::clone(&rule.label),
            value: value.into(),
        });
    }
    found
}

/// As text; each byte that is no UTF-8 becomes `!`.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

fn take_header(
    downstream: &mut Downstream,
    header: &Header,
    tlvs: Vec<Tlv>,
    metadata: Vec<Metadatum>,
) {
    if let Some((source, destination)) = header.addresses {
        downstream.peer = Some(source);
        restore_local(downstream, destination);
    }
    let found = downstream.found_mut();
    found.is_announced = true;
    found.tlvs = tlvs;
    found.metadata = metadata;
}

fn count_found(stats: &ProxyProtocolStats, version: Version) {
    match version {
        Version::V1 => stats.v1_found().inc(),
        Version::V2 => stats.v2_found().inc(),
    }
}

/// `tls_inspector`: server name and application protocols of a TLS client.
pub(super) async fn tls(
    config: TlsInspector,
    stream: &NetStream,
    downstream: &mut Downstream,
    stats: &Arc<TlsInspectorStats>,
) -> Result<(), Refused> {
    let looked = stream.peek_until(config.bytes_max, |bytes| {
        match client_hello::read(bytes, config.bytes_max) {
            client_hello::Reading::More => {
                let is_full = bytes.len() >= config.bytes_max;
                is_full.then_some((client_hello::Reading::TooBig, true))
            }
            reading => Some((reading, bytes.first() == Some(&RECORD_HANDSHAKE))),
        }
    });
    match looked.await? {
        None => Err(Refused::Left),
        Some((client_hello::Reading::Hello(hello), _)) => {
            count_hello(stats, &hello);
            let found = downstream.found_mut();
            found.transport = Transport::Tls;
            found.server_name = hello.server_name;
            found.application_protocols = hello.application_protocols;
            Ok(())
        }
        Some((client_hello::Reading::TooBig, _)) => {
            stats.client_hello_too_big().inc();
            Err(Refused::Filter)
        }
        Some((client_hello::Reading::NotTls | client_hello::Reading::More, begins_as_tls)) => {
            stats.tls_not_found().inc();
            if begins_as_tls && config.close_broken {
                return Err(Refused::Filter);
            }
            Ok(())
        }
    }
}

fn count_hello(stats: &TlsInspectorStats, hello: &ClientHello) {
    stats.tls_found().inc();
    match hello.server_name {
        Some(_) => stats.sni_found().inc(),
        None => stats.sni_not_found().inc(),
    }
    if hello.application_protocols.is_empty() {
        stats.alpn_not_found().inc();
    } else {
        stats.alpn_found().inc();
    }
}

/// `http_inspector`: the version of HTTP, unless the client speaks TLS.
pub(super) async fn http(
    stream: &NetStream,
    downstream: &mut Downstream,
    stats: &Arc<HttpInspectorStats>,
) -> Result<(), Refused> {
    if downstream.found().transport == Transport::Tls {
        return Ok(());
    }
    let looked = stream.peek_until(first_line::BYTES_MAX, |bytes| {
        match first_line::read(bytes) {
            first_line::Reading::More => None,
            reading => Some(reading),
        }
    });
    // A line without end is no HTTP, or too long to be looked at.
    let reading = looked.await?.unwrap_or(first_line::Reading::NotHttp);
    match reading {
        first_line::Reading::Http10 => stats.http10_found().inc(),
        first_line::Reading::Http11 => stats.http11_found().inc(),
        first_line::Reading::Http2 => stats.http2_found().inc(),
        first_line::Reading::More | first_line::Reading::NotHttp => {
            stats.http_not_found().inc();
        }
    }
    if let Some(protocol) = reading.protocol() {
        downstream.found_mut().application_protocols =
            ProtocolList::from_wire(protocol).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::Label;

    fn rule(kind: u8, key: &str, is_base64: bool) -> TlvRule {
        TlvRule {
            kind,
            label: Arc::new(Label {
                namespace: "n".into(),
                key: key.into(),
                is_state: false,
            }),
            is_base64,
        }
    }

    #[test]
    fn the_first_tlv_of_a_label_is_kept_as_its_rule_says() {
        let rules = [
            rule(1, "text", false),
            rule(2, "text", false),
            rule(3, "binary", true),
        ];
        let tlvs: [(u8, &[u8]); 6] = [
            (9, b"nobody asked"),
            (2, b"a\xffb\xe2\x82c"),
            (2, b"again"),
            (1, b"too late"),
            (3, b"\0\xff"),
            (3, b""),
        ];
        let found = metadata(&rules, tlvs.into_iter());
        let found: Vec<_> = found
            .iter()
            .map(|one| (&*one.label.key, &*one.value))
            .collect();
        assert_eq!(found, [("text", "a!b!!c"), ("binary", "AP8=")]);
        assert_eq!(metadata(&[], tlvs.into_iter()), []);
    }
}
