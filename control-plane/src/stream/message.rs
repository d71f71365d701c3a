//! From a batch to the message on the wire.

use bytes::Bytes;
use prost::Message;

use crate::subscription::Batch;
use crate::subscription::Item;
use crate::wire;

/// The state-of-the-world response; payloads are shared, not copied.
#[must_use]
pub fn to_sotw(batch: Batch, identifier: &str) -> wire::DiscoveryResponse {
    wire::DiscoveryResponse {
        version_info: batch.version,
        resources: batch.items.iter().map(sotw_item).collect(),
        type_url: (*batch.type_url).to_owned(),
        nonce: batch.nonce,
        control_plane: control_plane(identifier),
    }
}

/// The delta response; payloads are shared, not copied.
#[must_use]
pub fn to_delta(batch: Batch, identifier: &str) -> wire::DeltaDiscoveryResponse {
    wire::DeltaDiscoveryResponse {
        system_version_info: batch.version,
        resources: batch.items.iter().map(delta_item).collect(),
        type_url: (*batch.type_url).to_owned(),
        nonce: batch.nonce,
        removed_resources: batch
            .removed
            .iter()
            .map(|name| (**name).to_owned())
            .collect(),
        control_plane: control_plane(identifier),
    }
}

fn delta_item(item: &Item) -> Bytes {
    if item.has_ttl {
        item.resource.wrapped_with_ttl(item.is_heartbeat)
    } else {
        item.resource.wrapped().clone()
    }
}

fn sotw_item(item: &Item) -> Bytes {
    if !item.has_ttl {
        return item.resource.any().clone();
    }
    let any = wire::Any {
        type_url: wire::RESOURCE_TYPE_URL.to_owned(),
        value: item.resource.wrapped_with_ttl(item.is_heartbeat),
    };
    any.encode_to_vec().into()
}

fn control_plane(identifier: &str) -> Option<wire::ControlPlane> {
    Some(wire::ControlPlane {
        identifier: identifier.to_owned(),
    })
}
