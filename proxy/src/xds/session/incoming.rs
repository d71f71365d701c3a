//! One response of either variant, in one form.
//!
//! It unwraps `envoy.service.discovery.v3.Resource` where SotW uses it (S-34); it judges nothing.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use xds_proto::pb::envoy::service::discovery::v3 as discovery;
use xds_proto::pb::google::protobuf as wkt;
use xds_proto::pb::google::rpc::Status;

use crate::config::Name;
use crate::xds::resource::ResourceType;

const WRAPPER_URL: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// A response as it came.
#[derive(Clone, Debug)]
pub enum Response {
    /// Incremental.
    Delta(Box<discovery::DeltaDiscoveryResponse>),
    /// State of the world.
    Sotw(Box<discovery::DiscoveryResponse>),
}

/// What a control plane says about a resource it cannot give (B-91).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The resource.
    pub name: Name,
    /// gRPC status code.
    pub code: i32,
    /// Its text.
    pub message: String,
}

impl ServerError {
    /// The resource does not exist or may not be seen, which waiting does not change; anything else
    /// is passing trouble.
    pub fn is_data_error(&self) -> bool {
        // google.rpc.Code: NOT_FOUND and PERMISSION_DENIED.
        matches!(self.code, 5 | 7)
    }
}

/// [`Response`] with the differences of the variants taken out.
pub(super) struct Incoming {
    pub(super) type_url: String,
    /// SotW: what an ACK repeats. Delta: for debugging only (B-59).
    pub(super) version: String,
    pub(super) nonce: String,
    pub(super) items: Vec<Item>,
    pub(super) removed: Vec<Name>,
    pub(super) errors: Vec<ServerError>,
    pub(super) is_delta: bool,
}

/// One resource of a response.
pub(super) struct Item {
    /// Known before decoding only if it came wrapped.
    pub(super) name: Option<Name>,
    pub(super) version: String,
    pub(super) ttl: Option<Duration>,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// No body: the TTL goes on (B-81).
    Heartbeat,
    /// The wrapper could not be read, or the body is of another type than the response.
    Malformed(String),
    Resource(Bytes),
}

impl Incoming {
    pub(super) fn new(response: Response) -> Self {
        match response {
            Response::Delta(r) => Self::from_delta(*r),
            Response::Sotw(r) => Self::from_sotw(*r),
        }
    }

    fn from_delta(r: discovery::DeltaDiscoveryResponse) -> Self {
        let url = &r.type_url;
        let items = r
            .resources
            .into_iter()
            .map(|w| Item::wrapped(w, url))
            .collect();
        Self {
            items,
            version: r.system_version_info,
            nonce: r.nonce,
            removed: (r.removed_resources.into_iter())
                .chain(r.removed_resource_names.into_iter().map(|n| n.name))
                .map(Into::into)
                .collect(),
            errors: r
                .resource_errors
                .into_iter()
                .filter_map(server_error)
                .collect(),
            type_url: r.type_url,
            is_delta: true,
        }
    }

    fn from_sotw(r: discovery::DiscoveryResponse) -> Self {
        let url = &r.type_url;
        let items = (r.resources.into_iter())
            .map(|any| Item::plain(any, url, &r.version_info))
            .collect();
        Self {
            items,
            version: r.version_info,
            nonce: r.nonce,
            removed: Vec::new(),
            errors: r
                .resource_errors
                .into_iter()
                .filter_map(server_error)
                .collect(),
            type_url: r.type_url,
            is_delta: false,
        }
    }

    /// The type, if it is one of ours.
    pub(super) fn resource_type(&self) -> Option<ResourceType> {
        ResourceType::from_type_url(&self.type_url)
    }
}

impl Item {
    fn plain(any: wkt::Any, type_url: &str, version: &str) -> Self {
        if any.type_url == WRAPPER_URL {
            return match discovery::Resource::decode(any.value.as_slice()) {
                Ok(wrapper) => {
                    let mut item = Self::wrapped(wrapper, type_url);
                    version.clone_into(&mut item.version);
                    item
                }
                Err(e) => Self {
                    name: None,
                    version: version.to_owned(),
                    ttl: None,
                    body: Body::Malformed(format!("resource wrapper: {e}")),
                },
            };
        }
        Self {
            name: None,
            version: version.to_owned(),
            ttl: None,
            body: Body::new(any, type_url),
        }
    }

    fn wrapped(wrapper: discovery::Resource, type_url: &str) -> Self {
        let name = match wrapper.resource_name {
            Some(n) if wrapper.name.is_empty() => n.name,
            _ => wrapper.name,
        };
        Self {
            name: (!name.is_empty()).then(|| name.into()),
            version: wrapper.version,
            // A TTL that is no sensible length of time is taken as none.
            ttl: wrapper.ttl.and_then(|d| {
                let nanos = u32::try_from(d.nanos).ok().filter(|n| *n < 1_000_000_000)?;
                Some(Duration::new(u64::try_from(d.seconds).ok()?, nanos))
            }),
            body: wrapper
                .resource
                .map_or(Body::Heartbeat, |any| Body::new(any, type_url)),
        }
    }
}

impl Body {
    fn new(any: wkt::Any, type_url: &str) -> Self {
        if any.type_url == type_url {
            return Self::Resource(any.value.into());
        }
        let found = super::nack::clip(&any.type_url, 200);
        Self::Malformed(format!(
            "type URL {found} does not match the message-wide type URL {type_url}"
        ))
    }
}

fn server_error(e: discovery::ResourceError) -> Option<ServerError> {
    let Status { code, message, .. } = e.error_detail.unwrap_or_default();
    Some(ServerError {
        name: e.resource_name?.name.into(),
        code,
        message: super::nack::clip(&message, 1024).to_owned(),
    })
}
