//! TLVs that the proxy itself adds to those of the client, for upstreams that take the PROXY protocol
//! (`proxy_protocol_tlvs`).

use crate::config::added_tlv::TlvMerge;
use crate::config::tcp_proxy::TcpProxy;
use crate::downstream::Downstream;
use crate::downstream::Tlv;
use crate::telemetry::access_log::ExchangeRecord;
use crate::upstream::made_tlv;

/// Puts them where the client's own are kept.
pub(super) fn announce(
    config: &TcpProxy,
    downstream: &mut Downstream,
    record: impl FnOnce(&Downstream) -> ExchangeRecord<'_>,
) {
    let is_announced = downstream.found().is_announced;
    if config.added_tlvs.is_empty() || is_announced && config.tlv_merge == TlvMerge::AddIfAbsent {
        return;
    }
    let record = record(downstream);
    let added = config
        .added_tlvs
        .iter()
        .map(|added| made_tlv(added, &record));
    let mut added: Vec<Tlv> = added.collect();
    let own = &mut downstream.found_mut().tlvs;
    match config.tlv_merge {
        TlvMerge::AddIfAbsent | TlvMerge::Append => own.append(&mut added),
        TlvMerge::Overwrite => {
            own.retain(|own| added.iter().all(|added| added.kind != own.kind));
            added.append(own);
            *own = added;
        }
    }
}
