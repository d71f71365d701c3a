//! The name of a top-level resource, read without decoding the rest of it.

use prost::Message;

use crate::pb::google::protobuf::Any;
use crate::type_url::ResourceType;

/// Why a resource has no readable name.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// The bytes are no message.
    #[error("malformed {kind} resource")]
    Malformed {
        /// Type of the resource.
        kind: ResourceType,
        /// What the wire format objects to.
        source: prost::DecodeError,
    },
    /// Not one of the types xDS names resources of.
    #[error("{type_url} is not a resource type")]
    NotAResource {
        /// The type found.
        type_url: String,
    },
}

/// What all resource types share: field 1 is the name, `cluster_name` in `ClusterLoadAssignment`.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// The name under which xDS clients ask for this resource; empty where it has none.
///
/// # Errors
///
/// When the type is not one of [`ResourceType`], or the bytes are malformed.
pub fn resource_name(any: &Any) -> Result<String, NameError> {
    let Some(kind) = ResourceType::from_url(&any.type_url) else {
        return Err(NameError::NotAResource {
            type_url: any.type_url.clone(),
        });
    };
    match Named::decode(any.value.as_slice()) {
        Ok(named) => Ok(named.name),
        Err(source) => Err(NameError::Malformed { kind, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::NameError;
    use super::resource_name;
    use crate::any::pack;
    use crate::pb::envoy::config::cluster::v3::Cluster;
    use crate::pb::envoy::config::core::v3::TypedExtensionConfig;
    use crate::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use crate::pb::envoy::config::listener::v3::Listener;
    use crate::pb::envoy::config::route::v3::RouteConfiguration;
    use crate::pb::envoy::config::route::v3::ScopedRouteConfiguration;
    use crate::pb::envoy::config::route::v3::VirtualHost;
    use crate::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
    use crate::pb::envoy::service::runtime::v3::Runtime;
    use crate::pb::google::protobuf::Any;

    #[test]
    fn every_resource_type_yields_its_name() {
        let name = || "n".to_owned();
        let all = [
            pack(&Cluster {
                name: name(),
                ..Cluster::default()
            }),
            pack(&ClusterLoadAssignment {
                cluster_name: name(),
                ..ClusterLoadAssignment::default()
            }),
            pack(&Listener {
                name: name(),
                ..Listener::default()
            }),
            pack(&RouteConfiguration {
                name: name(),
                ..RouteConfiguration::default()
            }),
            pack(&Runtime {
                name: name(),
                layer: None,
            }),
            pack(&ScopedRouteConfiguration {
                name: name(),
                ..ScopedRouteConfiguration::default()
            }),
            pack(&Secret {
                name: name(),
                r#type: None,
            }),
            pack(&TypedExtensionConfig {
                name: name(),
                typed_config: None,
            }),
            pack(&VirtualHost {
                name: name(),
                ..VirtualHost::default()
            }),
        ];
        for any in all {
            assert_eq!(
                resource_name(&any).expect(&any.type_url),
                "n",
                "{}",
                any.type_url
            );
        }
    }

    #[test]
    fn other_types_and_broken_bytes_are_errors() {
        let other = Any {
            type_url: "type.googleapis.com/google.protobuf.Duration".to_owned(),
            value: Vec::new(),
        };
        assert!(matches!(
            resource_name(&other),
            Err(NameError::NotAResource { .. })
        ));

        let broken = Any {
            type_url: crate::type_url::LISTENER.to_owned(),
            value: vec![0x0a, 0xff],
        };
        assert!(matches!(
            resource_name(&broken),
            Err(NameError::Malformed { .. })
        ));
    }
}
