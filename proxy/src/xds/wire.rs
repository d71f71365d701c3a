//! The real [`Decoder`] and [`Loader`]: `decode` and `xds_proto::load` behind the traits the other
//! rooms know.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use xds_proto::Pool;
use xds_proto::load;

use super::decode;
use super::decode::DecodeError;
use super::decode::FieldError;
use super::file::FileContent;
use super::file::Loader;
use super::resource::Decoded;
use super::resource::Decoder;
use super::resource::Refusal;
use super::resource::Resource;
use super::resource::ResourceType;
use crate::config::Name;

/// Decodes with `xds::decode`.
#[derive(Clone, Copy, Debug, Default)]
pub struct WireDecoder;

impl Decoder for WireDecoder {
    fn decode(&self, resource_type: ResourceType, body: &[u8]) -> Result<Decoded, Refusal> {
        let decoded = match resource_type {
            ResourceType::Cluster => decode::cluster(body).map(|d| {
                let name = d.value.name.clone();
                decoded(name, Resource::Cluster(Arc::new(d.value)), &d.warnings)
            }),
            ResourceType::Endpoints => decode::endpoints(body).map(|d| {
                let (name, endpoints) = d.value;
                decoded(name, Resource::Endpoints(Arc::new(endpoints)), &d.warnings)
            }),
            ResourceType::Listener => decode::listener(body).map(|d| {
                let name = d.value.name.clone();
                decoded(name, Resource::Listener(Arc::new(d.value)), &d.warnings)
            }),
            ResourceType::RouteConfig => decode::route_config(body).map(|d| {
                let name = d.value.name.clone();
                decoded(name, Resource::RouteConfig(Arc::new(d.value)), &d.warnings)
            }),
            ResourceType::Secret => decode::secret(body).map(|d| {
                let (name, secret) = d.value;
                decoded(name, Resource::Secret(Arc::new(secret)), &d.warnings)
            }),
        };
        decoded.map_err(refusal)
    }
}

fn decoded(name: Name, resource: Resource, warnings: &[FieldError]) -> Decoded {
    Decoded {
        name,
        resource,
        warnings: warnings.iter().map(ToString::to_string).collect(),
    }
}

fn refusal(error: DecodeError) -> Refusal {
    let mut detail = String::new();
    for (i, field) in error.errors.iter().enumerate() {
        let separator = if i == 0 { "" } else { ", " };
        let _ = write!(detail, "{separator}{field}");
    }
    Refusal {
        name: error.resource.into(),
        detail,
    }
}

/// Reads files in YAML or JSON, shaped like a `DiscoveryResponse`.
///
/// The descriptors this needs take tens of megabytes, so they live only while a file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileLoader;

impl Loader for FileLoader {
    fn load(&self, resource_type: ResourceType, path: &Path) -> Result<FileContent, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        let pool = Pool::new();
        let file = load::resources(&pool, path, &text).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            errors.join("\n")
        })?;
        let mut bodies = Vec::with_capacity(file.resources.len());
        for resource in file.resources {
            if resource.any.type_url != resource_type.type_url() {
                let (origin, found) = (resource.origin, resource.any.type_url);
                return Err(format!(
                    "{origin}: {found} where {} belongs",
                    resource_type.type_url()
                ));
            }
            bodies.push(resource.any.value.into());
        }
        Ok(FileContent {
            version: file.version_info,
            bodies,
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use xds_proto::pb::envoy::config::cluster::v3::Cluster;
    use xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;

    use super::FileLoader;
    use super::WireDecoder;
    use crate::xds::file::Loader;
    use crate::xds::resource::Decoder;
    use crate::xds::resource::Resource;
    use crate::xds::resource::ResourceType;

    #[test]
    fn resources_come_with_their_names() {
        let assignment = ClusterLoadAssignment {
            cluster_name: "svc".to_owned(),
            ..Default::default()
        };
        let decoded = WireDecoder.decode(ResourceType::Endpoints, &assignment.encode_to_vec());
        let decoded = decoded.unwrap();
        assert_eq!(&*decoded.name, "svc");
        assert!(matches!(decoded.resource, Resource::Endpoints(_)));
    }

    #[test]
    fn refusals_name_the_resource_and_the_field() {
        let cluster = Cluster {
            name: "c".to_owned(),
            connect_timeout: Some(xds_proto::pb::google::protobuf::Duration {
                seconds: -1,
                nanos: 0,
            }),
            ..Default::default()
        };
        let refusal = WireDecoder.decode(ResourceType::Cluster, &cluster.encode_to_vec());
        let refusal = refusal.unwrap_err();
        assert_eq!(&*refusal.name, "c");
        assert!(
            refusal.detail.contains("connect_timeout: "),
            "{}",
            refusal.detail
        );
        let garbage = WireDecoder.decode(ResourceType::Cluster, &[0xff]);
        assert_eq!(&*garbage.unwrap_err().name, "");
    }

    #[test]
    fn files_of_the_right_type_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eds.yaml");
        let text = "version_info: '7'\nresources:\n- '@type': \
            type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment\n  cluster_name: svc\n";
        std::fs::write(&path, text).unwrap();
        let content = FileLoader.load(ResourceType::Endpoints, &path).unwrap();
        assert_eq!(content.version, "7");
        let decoded = WireDecoder
            .decode(ResourceType::Endpoints, &content.bodies[0])
            .unwrap();
        assert_eq!(&*decoded.name, "svc");
        let error = FileLoader.load(ResourceType::Cluster, &path).unwrap_err();
        assert!(error.contains("ClusterLoadAssignment where"), "{error}");
    }
}
