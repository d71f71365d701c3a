//! One resource, encoded once, versioned by its content.
//!
//! The encoded delta message holds the encoded `Any` as its tail, so both protocol variants are
//! served from one allocation shared by all groups and all clients. The payload is never changed:
//! unknown fields survive (prost would drop them on a round trip).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use prost::Message;
use prost::encoding;
use prost::encoding::WireType;
use xds_proto::pb::google::protobuf;
use xxhash_rust::xxh3::Xxh3;

use crate::wire;

mod reference;

pub use reference::Reference;
pub use reference::ReferenceError;

/// A resource ready to be sent.
pub struct Resource {
    type_url: Arc<str>,
    name: Arc<str>,
    version: Version,
    wrapped: Bytes,
    any: Bytes,
    references: Box<[Reference]>,
    ttl: Option<Duration>,
    origin: Option<Box<str>>,
}

/// Hash of type, name and content: equal on every replica (S-56).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// Reads a version a client sent; `None` if this server cannot have written it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }

    /// The version of a set: the sum of its members, so that one change costs one step and the
    /// order does not matter.
    #[must_use]
    pub fn of_set(members: impl IntoIterator<Item = Self>) -> Self {
        members
            .into_iter()
            .fold(Self(0), |sum, member| Self(sum.0.wrapping_add(member.0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Resource {
    /// Encodes a resource of a type whose message carries its name.
    ///
    /// # Errors
    /// When the payload does not decode as the type it claims to be, or has no name.
    pub fn new(any: &protobuf::Any) -> Result<Self, ReferenceError> {
        let name = reference::name_of(any)?;
        Self::named(any, &name)
    }

    /// Encodes a resource under a name of the caller's choice; the way to serve types this crate
    /// does not know.
    ///
    /// # Errors
    /// When the payload does not decode as the type it claims to be.
    pub fn named(any: &protobuf::Any, name: &str) -> Result<Self, ReferenceError> {
        let references = reference::references_of(any)?;
        let version = version_of(&any.type_url, name, &any.value);
        let (wrapped, any_bytes) = encode(any, name, version);
        Ok(Self {
            type_url: Arc::from(any.type_url.as_str()),
            name: Arc::from(name),
            version,
            wrapped,
            any: any_bytes,
            references: references.into(),
            ttl: None,
            origin: None,
        })
    }

    /// The same resource with another payload of its type, where it was written.
    ///
    /// # Errors
    /// When the payload does not decode as its type.
    pub fn with_value(&self, value: Vec<u8>) -> Result<Self, ReferenceError> {
        let type_url = self.type_url.as_ref().to_owned();
        let changed = Self::named(&protobuf::Any { type_url, value }, &self.name)?;
        Ok(Self {
            ttl: self.ttl,
            origin: self.origin.clone(),
            ..changed
        })
    }

    /// Lets clients that support it forget the resource when the server falls silent (S-80).
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Says where the resource was written, for messages to people.
    #[must_use]
    pub fn with_origin(mut self, origin: &str) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Type of the resource.
    #[must_use]
    pub fn type_url(&self) -> &Arc<str> {
        &self.type_url
    }

    /// Name within its type.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Version of the content.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The encoded `google.protobuf.Any`.
    #[must_use]
    pub fn any(&self) -> &Bytes {
        &self.any
    }

    /// The encoded `service.discovery.v3.Resource` without TTL.
    #[must_use]
    pub fn wrapped(&self) -> &Bytes {
        &self.wrapped
    }

    /// What the resource refers to.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// How long a client may keep it without hearing of it again.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Where it was written: a file and a line, or the caller's words.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The encoded `service.discovery.v3.Resource` with its TTL and, unless it is a heartbeat,
    /// its body.
    #[must_use]
    pub fn wrapped_with_ttl(&self, heartbeat: bool) -> Bytes {
        let ttl = self.ttl.map(|ttl| wire::Duration {
            seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            nanos: ttl.subsec_nanos().cast_signed(),
        });
        let message = wire::Resource {
            version: self.version.to_string(),
            resource: (!heartbeat).then(|| self.any.clone()),
            name: self.name.as_ref().to_owned(),
            ttl,
        };
        message.encode_to_vec().into()
    }

    /// The same content: a client that has one has the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.version == other.version && self.ttl == other.ttl
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

fn version_of(type_url: &str, name: &str, value: &[u8]) -> Version {
    let mut hash = Xxh3::new();
    for part in [type_url.as_bytes(), name.as_bytes(), value] {
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    Version(hash.digest())
}

/// Writes the delta message with the `Any` last, and returns both views of the one buffer.
fn encode(any: &protobuf::Any, name: &str, version: Version) -> (Bytes, Bytes) {
    let (version, name) = (version.to_string(), name.to_owned());
    let any_len = any.encoded_len();
    let mut buf = BytesMut::with_capacity(any_len + name.len() + version.len() + 24);
    encoding::string::encode(1, &version, &mut buf);
    encoding::string::encode(3, &name, &mut buf);
    encoding::encode_key(2, WireType::LengthDelimited, &mut buf);
    encoding::encode_varint(any_len as u64, &mut buf);
    any.encode_raw(&mut buf);
    let wrapped = buf.freeze();
    let any = wrapped.slice(wrapped.len() - any_len..);
    (wrapped, any)
}

#[cfg(test)]
mod tests {
    use xds_proto::pb::envoy::config::cluster::v3::Cluster;
    use xds_proto::pb::envoy::service::discovery::v3 as discovery;

    use super::*;
    use crate::types;

    fn cluster(name: &str) -> protobuf::Any {
        let message = Cluster {
            name: name.to_owned(),
            ..Default::default()
        };
        protobuf::Any {
            type_url: types::CLUSTER.to_owned(),
            value: message.encode_to_vec(),
        }
    }

    #[test]
    fn one_buffer_serves_both_variants() {
        let any = cluster("a");
        let resource = Resource::new(&any).unwrap();
        let wrapped = discovery::Resource::decode(resource.wrapped().clone()).unwrap();
        assert_eq!(wrapped.name, "a");
        assert_eq!(wrapped.version, resource.version().to_string());
        assert_eq!(wrapped.resource, Some(any.clone()));
        assert_eq!(protobuf::Any::decode(resource.any().clone()).unwrap(), any);
        let (whole, part) = (
            resource.wrapped().as_ptr_range(),
            resource.any().as_ptr_range(),
        );
        assert!(whole.start < part.start && whole.end == part.end);
    }

    #[test]
    fn s56_version_depends_on_content_only() {
        let version = |any: &protobuf::Any| Resource::new(any).unwrap().version();
        assert_eq!(version(&cluster("a")), version(&cluster("a")));
        assert_ne!(version(&cluster("a")), version(&cluster("b")));
        assert_eq!(
            Version::parse(&version(&cluster("a")).to_string()),
            Some(version(&cluster("a")))
        );
        for foreign in [
            "",
            "1",
            "+000000000000001",
            "00000000000000001",
            "000000000000000g",
        ] {
            assert_eq!(Version::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn b81_heartbeat_has_version_and_ttl_but_no_body() {
        let resource = Resource::new(&cluster("a"))
            .unwrap()
            .with_ttl(Duration::from_millis(1500));
        let beat = discovery::Resource::decode(resource.wrapped_with_ttl(true)).unwrap();
        assert_eq!(
            (beat.resource, beat.version),
            (None, resource.version().to_string())
        );
        let ttl = beat.ttl.unwrap();
        assert_eq!((ttl.seconds, ttl.nanos), (1, 500_000_000));
        let full = discovery::Resource::decode(resource.wrapped_with_ttl(false)).unwrap();
        assert!(full.resource.is_some() && full.ttl.is_some());
    }

    #[test]
    fn a_payload_that_is_not_its_type_is_refused() {
        let any = protobuf::Any {
            type_url: types::CLUSTER.to_owned(),
            value: vec![0xff],
        };
        assert!(matches!(
            Resource::new(&any),
            Err(ReferenceError::Decode { .. })
        ));
        let any = protobuf::Any {
            type_url: "type.googleapis.com/own".to_owned(),
            value: vec![0xff],
        };
        assert!(matches!(
            Resource::new(&any),
            Err(ReferenceError::Unnamed { .. })
        ));
        assert_eq!(&**Resource::named(&any, "x").unwrap().name(), "x");
    }
}
