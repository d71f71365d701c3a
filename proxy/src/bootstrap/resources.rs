//! `static_resources`: the same decoders as for resources of a control plane.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

use prost::Message;
use prost::Name as MessageName;
use xds_proto::pb::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_proto::pb::google::protobuf::Any;

use super::StaticResource;
use crate::config::Cluster;
use crate::config::Listener;
use crate::config::Name;
use crate::config::cluster::CAN_BE_ASKED;
use crate::config::identity::Identity;
use crate::config::secret::SecretRef;
use crate::config::secret::SecretSource;
use crate::xds::decode::Context;
use crate::xds::decode::Origin;
use crate::xds::decode::cluster;
use crate::xds::decode::listener;
use crate::xds::decode::tls::secret;
use crate::xds::resource::ReadSecret;
use crate::xds::stage::secrets_of_cluster;
use crate::xds::stage::secrets_of_listener;

/// What stands in the file.
#[derive(Debug, Default)]
pub(super) struct Statics {
    pub(super) listeners: Vec<StaticResource<Listener>>,
    pub(super) clusters: Vec<StaticResource<Cluster>>,
    pub(super) secrets: BTreeMap<Name, StaticResource<ReadSecret>>,
}

/// Reads them.
pub(super) fn decode(context: &mut Context, statics: StaticResources) -> Statics {
    let StaticResources {
        listeners,
        clusters,
        secrets,
    } = statics;
    let secrets = self::secrets(context, secrets);
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
        secrets,
    }
}

fn secrets(
    context: &mut Context,
    secrets: Vec<Secret>,
) -> BTreeMap<Name, StaticResource<ReadSecret>> {
    let mut names = HashSet::new();
    let secrets = context.each("secrets", secrets, |context, message| {
        let raw = pack(&message);
        let name: Name = message.name.as_str().into();
        let value = Arc::new(secret::decode(context, message)?);
        unique(context, &mut names, &name)?;
        Some((name, StaticResource { value, raw }))
    });
    secrets.into_iter().collect()
}

/// What stands in the file names secrets that can come.
pub(super) fn check_secrets(
    context: &mut Context,
    (listeners, clusters): (&[StaticResource<Listener>], &[StaticResource<Cluster>]),
    (secrets, identity): (
        &BTreeMap<Name, StaticResource<ReadSecret>>,
        Option<&Identity>,
    ),
    has_ads: bool,
) {
    let objection = |named: &SecretRef| {
        let name = &named.key.name;
        if identity.is_some_and(|one| one.keys().contains(&named.key)) {
            return None;
        }
        match named.key.source {
            SecretSource::Bootstrap => (!secrets.contains_key(name)).then(|| {
                format!("the secret {name:?} has no sds_config and is not among the secrets here")
            }),
            SecretSource::Ads => (!has_ads)
                .then(|| format!("the secret {name:?} comes by ads, which needs ads_config")),
            SecretSource::File(_) => None,
            SecretSource::Grpc(ref server) => {
                let is_here = |name: &&Name| {
                    clusters
                        .iter()
                        .any(|one| one.value.name == **name && one.value.can_be_asked())
                };
                let missing = server.clusters.iter().find(|name| !is_here(name))?;
                Some(format!(
                    "the secret {name:?} comes from {missing:?}, which is no cluster here that gRPC can be spoken with: {CAN_BE_ASKED}"
                ))
            }
        }
    };
    context.field("static_resources", |context| {
        for (i, cluster) in clusters.iter().enumerate() {
            let mut named = secrets_of_cluster(&cluster.value);
            if let Some(reason) = named.find_map(objection) {
                context.reject(&format!("clusters[{i}]"), reason);
            }
        }
        for (i, listener) in listeners.iter().enumerate() {
            let mut named = secrets_of_listener(&listener.value);
            if let Some(reason) = named.find_map(objection) {
                context.reject(&format!("listeners[{i}]"), reason);
            }
        }
    });
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
