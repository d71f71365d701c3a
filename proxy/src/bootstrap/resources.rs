//! `static_resources`: the same decoders as for resources of a control plane.

use std::collections::HashSet;
use std::sync::Arc;

use prost::Message;
use prost::Name as MessageName;
use xds_proto::pb::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use xds_proto::pb::google::protobuf::Any;

use super::StaticResource;
use crate::config::Cluster;
use crate::config::Listener;
use crate::config::Name;
use crate::xds::decode::Context;
use crate::xds::decode::Origin;
use crate::xds::decode::cluster;
use crate::xds::decode::listener;
use crate::xds::decode::unsupported;

/// What stands in the file.
#[derive(Debug, Default)]
pub(super) struct Statics {
    pub(super) listeners: Vec<StaticResource<Listener>>,
    pub(super) clusters: Vec<StaticResource<Cluster>>,
}

/// Reads them.
pub(super) fn decode(context: &mut Context, statics: StaticResources) -> Statics {
    let StaticResources {
        listeners,
        clusters,
        secrets,
    } = statics;
    // Whatever would use one is refused where it stands.
    unsupported!(context, warn "nothing uses it": secrets);
    let mut names = HashSet::new();
    let clusters = context.each("clusters", clusters, |context, message| {
        let raw = pack(&message);
        let value = Arc::new(cluster::decode(context, message)?);
        unique(context, &mut names, &value.name)?;
        Some(StaticResource { value, raw })
    });
    let mut names = HashSet::new();
    let listeners = context.each("listeners", listeners, |context, message| {
        let raw = pack(&message);
        let value = Arc::new(listener::decode(context, message, Origin::Bootstrap)?);
        unique(context, &mut names, &value.name)?;
        Some(StaticResource { value, raw })
    });
    Statics {
        listeners,
        clusters,
    }
}

fn pack<M: Message + MessageName>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

fn unique(context: &mut Context, names: &mut HashSet<Name>, name: &Name) -> Option<()> {
    if !names.insert(Arc::clone(name)) {
        return context.refuse("name", format!("{name:?} is used twice"));
    }
    Some(())
}
