//! The discovery messages as this server reads and writes them.
//!
//! They are wire-compatible with `envoy.service.discovery.v3` (a test encodes and decodes both
//! ways) and differ in memory only: a resource in a response is one shared [`Bytes`] that already
//! holds the encoded message, because an embedded message and a `bytes` field look the same on the
//! wire; requests decode only the fields a server acts on, so a node's metadata costs nothing.

use bytes::Bytes;

/// The fields of `config.core.v3.Node` the server acts on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Node {
    /// Who the client is.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The service the client belongs to.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Program name, for the status page.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Optional protocol features the client understands.
    #[prost(string, repeated, tag = "10")]
    pub client_features: Vec<String>,
}

/// `google.rpc.Status` without details.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// `google.rpc.Code`.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Text for people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `service.discovery.v3.ResourceLocator`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ResourceLocator {
    /// Name to subscribe to.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Entries of `dynamic_parameters`, undecoded: their presence is all that matters.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub dynamic_parameters: Vec<Bytes>,
}

/// `service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DiscoveryRequest {
    /// Version the client runs.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Sent at least in the first request of a stream (S-2).
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// The whole subscription.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// Resource type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Response this request answers.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Present exactly in a refusal (S-22).
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
    /// More names.
    #[prost(message, repeated, tag = "7")]
    pub resource_locators: Vec<ResourceLocator>,
}

/// One entry of a `map<string, string>`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StringEntry {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// Sent at least in the first request of a stream (S-2).
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// Resource type.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to add to the subscription.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to take out of the subscription.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// Versions the client holds from an earlier stream.
    #[prost(message, repeated, tag = "5")]
    pub initial_resource_versions: Vec<StringEntry>,
    /// Response this request answers; empty in a spontaneous request.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Present exactly in a refusal.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
    /// More names to add.
    #[prost(message, repeated, tag = "8")]
    pub resource_locators_subscribe: Vec<ResourceLocator>,
    /// More names to take out.
    #[prost(message, repeated, tag = "9")]
    pub resource_locators_unsubscribe: Vec<ResourceLocator>,
}

/// `config.core.v3.ControlPlane`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ControlPlane {
    /// Which server answered.
    #[prost(string, tag = "1")]
    pub identifier: String,
}

/// `service.discovery.v3.DiscoveryResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DiscoveryResponse {
    /// Version of the contents.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Encoded `google.protobuf.Any` each.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    /// Resource type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Identifies this response in the answer.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Which server answered.
    #[prost(message, optional, tag = "6")]
    pub control_plane: Option<ControlPlane>,
}

/// `service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// For people only (B-59).
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Encoded `service.discovery.v3.Resource` each.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    /// Resource type.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Identifies this response in the answer.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that do not exist.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// Which server answered.
    #[prost(message, optional, tag = "7")]
    pub control_plane: Option<ControlPlane>,
}

/// `google.protobuf.Any` with shared payload.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Any {
    /// Type of the payload.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Encoded message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `service.discovery.v3.Resource` as this server writes it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Resource {
    /// Version of the contents.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Encoded `google.protobuf.Any`; absent in a heartbeat (B-81).
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub resource: Option<Bytes>,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// How long the client may keep it without hearing of it again.
    #[prost(message, optional, tag = "6")]
    pub ttl: Option<Duration>,
}

/// Type URL of [`Resource`], for wrapping it in state-of-the-world responses (S-34).
pub const RESOURCE_TYPE_URL: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

#[cfg(test)]
mod tests {
    use prost::Message;
    use xds_proto::pb::envoy::config::core::v3 as core;
    use xds_proto::pb::envoy::service::discovery::v3 as pb;
    use xds_proto::pb::google::protobuf;
    use xds_proto::pb::google::rpc;

    use super::*;

    #[test]
    fn requests_decode_what_envoy_types_encode() {
        let node = core::Node {
            id: "n".to_owned(),
            cluster: "c".to_owned(),
            user_agent_name: "envoy".to_owned(),
            client_features: vec!["f".to_owned()],
            locality: Some(core::Locality {
                zone: "z".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let detail = rpc::Status {
            code: 13,
            message: "no".to_owned(),
            details: Vec::new(),
        };
        let sotw = pb::DiscoveryRequest {
            version_info: "1".to_owned(),
            node: Some(node.clone()),
            resource_names: vec!["a".to_owned(), "b".to_owned()],
            type_url: "t".to_owned(),
            response_nonce: "9".to_owned(),
            error_detail: Some(detail.clone()),
            resource_locators: vec![pb::ResourceLocator {
                name: "l".to_owned(),
                dynamic_parameters: [("k".to_owned(), "v".to_owned())].into(),
            }],
        };
        let own = DiscoveryRequest::decode(sotw.encode_to_vec().as_slice()).unwrap();
        assert_eq!(own.node.as_ref().unwrap().client_features, ["f"]);
        assert_eq!(own.resource_locators[0].dynamic_parameters.len(), 1);
        assert_eq!(own.error_detail.as_ref().unwrap().message, "no");
        assert_eq!((own.resource_names.len(), &*own.response_nonce), (2, "9"));

        let delta = pb::DeltaDiscoveryRequest {
            node: Some(node),
            type_url: "t".to_owned(),
            resource_names_subscribe: vec!["a".to_owned()],
            resource_names_unsubscribe: vec!["b".to_owned()],
            initial_resource_versions: [("a".to_owned(), "1".to_owned())].into(),
            response_nonce: "9".to_owned(),
            error_detail: Some(detail),
            ..Default::default()
        };
        let own = DeltaDiscoveryRequest::decode(delta.encode_to_vec().as_slice()).unwrap();
        assert_eq!(own.initial_resource_versions[0].value, "1");
        assert_eq!(own.resource_names_unsubscribe, ["b"]);
        assert_eq!(own.node.unwrap().user_agent_name, "envoy");
    }

    #[test]
    fn responses_encode_what_envoy_types_decode() {
        let any = Any {
            type_url: "t".to_owned(),
            value: Bytes::from_static(b"body"),
        };
        let any_bytes = Bytes::from(any.encode_to_vec());
        let control_plane = Some(ControlPlane {
            identifier: "weir".to_owned(),
        });
        let own = DiscoveryResponse {
            version_info: "1".to_owned(),
            resources: vec![any_bytes.clone()],
            type_url: "t".to_owned(),
            nonce: "9".to_owned(),
            control_plane: control_plane.clone(),
        };
        let theirs = pb::DiscoveryResponse::decode(own.encode_to_vec().as_slice()).unwrap();
        let expected_any = protobuf::Any {
            type_url: "t".to_owned(),
            value: b"body".to_vec(),
        };
        assert_eq!(theirs.resources, std::slice::from_ref(&expected_any));
        assert_eq!(theirs.encode_to_vec(), own.encode_to_vec());

        let resource = Resource {
            version: "7".to_owned(),
            resource: Some(any_bytes),
            name: "a".to_owned(),
            ttl: Some(Duration {
                seconds: 3,
                nanos: 0,
            }),
        };
        let own = DeltaDiscoveryResponse {
            system_version_info: "1".to_owned(),
            resources: vec![Bytes::from(resource.encode_to_vec())],
            type_url: "t".to_owned(),
            nonce: "9".to_owned(),
            removed_resources: vec!["gone".to_owned()],
            control_plane,
        };
        let theirs = pb::DeltaDiscoveryResponse::decode(own.encode_to_vec().as_slice()).unwrap();
        assert_eq!(theirs.resources[0].resource, Some(expected_any));
        assert_eq!(theirs.resources[0].ttl.as_ref().unwrap().seconds, 3);
        assert_eq!(theirs.removed_resources, ["gone"]);
        assert_eq!(theirs.control_plane.unwrap().identifier, "weir");
    }
}
