//! `TlsSessionTicketKeys`: keys for session tickets that proxies share.

use std::sync::Arc;

use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;

use super::super::Context;
use super::super::data_source;

/// Bytes of a key for session tickets.
const TICKET_KEY_BYTES: usize = 80;

/// Reads the keys; the first seals.
pub(super) fn keys(
    context: &mut Context,
    keys: pb::TlsSessionTicketKeys,
) -> Option<Vec<Arc<[u8; TICKET_KEY_BYTES]>>> {
    let pb::TlsSessionTicketKeys { keys } = keys;
    if keys.is_empty() {
        return context.refuse("keys", "must not be empty");
    }
    let keys = context.each("keys", keys, |context, key| {
        let key = data_source::secret(context, key)?;
        let Ok(key) = <[u8; TICKET_KEY_BYTES]>::try_from(key) else {
            return context.refuse("", "must have exactly 80 bytes");
        };
        Some(Arc::new(key))
    });
    Some(keys)
}
