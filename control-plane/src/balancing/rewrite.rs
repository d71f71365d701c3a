//! A cluster with another policy, and otherwise as it was written: of the bytes only one field is
//! replaced, so that fields this program does not know survive.

use prost::DecodeError;
use prost::Message;
use prost::encoding;
use prost::encoding::DecodeContext;
use xds_proto::any::pack;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::pb::envoy::config::cluster::v3::cluster::LbPolicy;
use xds_proto::pb::envoy::config::cluster::v3::load_balancing_policy::Policy;
use xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use xds_proto::pb::google::protobuf::Any;
use xds_proto::pb::weir::load_balancing::v1::Shadow;

use super::Override;
use super::Refused;
use super::legacy;
use crate::resource::Resource;

/// `Cluster.load_balancing_policy`.
const FIELD: u32 = 41;

/// The cluster as clients are sent it; `None` if that is as it was written. A cluster that was written
/// anew since and cannot be changed any more is left alone.
pub(crate) fn rewritten(resource: &Resource, over: &Override) -> Option<Resource> {
    if over.is_empty() {
        return None;
    }
    let any = Any::decode(resource.any().clone()).ok()?;
    let cluster = Cluster::decode(any.value.as_slice()).ok()?;
    let policy = policy(&cluster, over).ok()?;
    let mut value = without(&any.value, FIELD).ok()?;
    encoding::message::encode(FIELD, &policy, &mut value);
    resource.with_value(value).ok()
}

/// Whether this can stand over the cluster.
///
/// # Errors
/// When it cannot.
pub(crate) fn check(resource: &Resource, over: &Override) -> Result<(), Refused> {
    let any = Any::decode(resource.any().clone()).unwrap_or_default();
    let cluster = Cluster::decode(any.value.as_slice()).unwrap_or_default();
    if over.is_empty() {
        return Ok(());
    }
    policy(&cluster, over).map(|_| ())
}

/// What the field holds then.
fn policy(cluster: &Cluster, over: &Override) -> Result<LoadBalancingPolicy, Refused> {
    if cluster.lb_policy == i32::from(LbPolicy::ClusterProvided) {
        return Err(Refused::Provided {
            cluster: cluster.name.clone(),
        });
    }
    let own = || match &cluster.load_balancing_policy {
        Some(written) => Ok(written.clone()),
        None => legacy::typed(cluster),
    };
    let chosen = match &over.policy {
        Some(policy) => policy.clone(),
        None => own().map_err(|field| Refused::NoForm {
            cluster: cluster.name.clone(),
            field,
        })?,
    };
    let Some(shadow) = &over.shadow else {
        return Ok(chosen);
    };
    let mut active = chosen;
    active.policies.retain(|policy| !is_shadow(policy)); // one looks on
    let both = Shadow {
        active: Some(active.clone()),
        shadow: Some(shadow.clone()),
    };
    active.policies.insert(0, named("shadow", pack(&both)));
    Ok(active)
}

fn is_shadow(policy: &Policy) -> bool {
    let config = policy.typed_extension_config.as_ref();
    let any = config.and_then(|config| config.typed_config.as_ref());
    any.is_some_and(|any| xds_proto::any::unpack::<Shadow>(any).is_ok())
}

fn named(name: &str, any: Any) -> Policy {
    Policy {
        typed_extension_config: Some(TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(any),
        }),
    }
}

/// A message's bytes less one field.
fn without(bytes: &[u8], number: u32) -> Result<Vec<u8>, DecodeError> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let whole = rest;
        let (tag, wire_type) = encoding::decode_key(&mut rest)?;
        encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        let len = whole.len() - rest.len();
        if tag != number {
            kept.extend_from_slice(whole.get(..len).unwrap_or_default());
        }
    }
    Ok(kept)
}
