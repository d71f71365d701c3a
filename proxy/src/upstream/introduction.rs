//! Who the client is, as a PROXY protocol header to the upstream.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::config::added_tlv::AddedTlv;
use crate::config::added_tlv::TlvValue;
use crate::config::cluster::ProxyHeader;
use crate::config::endpoint::Address;
use crate::downstream::Downstream;
use crate::downstream::Tlv;
use crate::net::proxy_protocol;
use crate::net::proxy_protocol::Version;
use crate::telemetry::access_log;
use crate::telemetry::access_log::ExchangeRecord;

/// The header of a connection to `host` from our end of it; of one for several clients it says
/// nothing.
pub(super) fn write(
    header: &ProxyHeader,
    client: Option<&Downstream>,
    (host, local): (&Address, Option<SocketAddr>),
) -> Vec<u8> {
    let addresses = client.and_then(|client| client.peer.zip(client.local));
    match header.version {
        Version::V1 => proxy_protocol::write_v1(addresses),
        Version::V2 => {
            let own = client.map_or(&[][..], |client| &client.found().tlvs);
            // What is added takes the place of what came, as in Envoy.
            let is_added = |kind: u8| header.added_tlvs.iter().any(|added| added.kind == kind);
            let is_passed = |kind: u8| header.passed_tlvs.keeps(kind) && !is_added(kind);
            let passed = own.iter().filter(|tlv| is_passed(tlv.kind));
            let added: Vec<Tlv> = header
                .added_tlvs
                .iter()
                .map(|added| made(added, &of_connection(host, local)))
                .collect();
            proxy_protocol::write_v2(addresses, added.iter().chain(passed))
        }
    }
}

/// What a cluster's templates know: nothing of the client, as in Envoy, where they see the connection
/// to the upstream as if it were a client's.
fn of_connection(host: &Address, local: Option<SocketAddr>) -> ExchangeRecord<'_> {
    let remote = match host {
        Address::Socket(address) => Some(*address),
        Address::Pipe(_) => None,
    };
    #[expect(clippy::disallowed_methods, reason = "a template may ask for it")]
    let now = SystemTime::now();
    ExchangeRecord {
        upstream_host: Some(host),
        downstream_remote_address: remote,
        downstream_direct_remote_address: remote,
        downstream_local_address: local,
        ..ExchangeRecord::new(now)
    }
}

/// With its value.
pub(crate) fn made(added: &AddedTlv, record: &ExchangeRecord<'_>) -> Tlv {
    let value: Cow<'_, [u8]> = match &added.value {
        TlvValue::Bytes(bytes) => Cow::Borrowed(bytes),
        TlvValue::Template(template) => {
            let mut text = Vec::new();
            access_log::plain(template, record, &mut text);
            Cow::Owned(text)
        }
    };
    Tlv {
        kind: added.kind,
        value: value.into(),
    }
}
