//! The file a proxy starts with (`envoy.config.bootstrap.v3.Bootstrap`): who we are, what stands in
//! the file itself, and where the rest comes from.
//!
//! Reads text and messages, opens nothing. It shares the decoders of `xds::decode`, and their rule:
//! no field is ignored silently. Mistakes come with file, line and column.
//!
//! | file | reads |
//! |---|---|
//! | `channels` | whether the TLS to a server can be had before it is reached |
//! | `identity` | a certificate whose key is made here |
//! | `message` | the bootstrap and its small parts |
//! | `overload` | `overload_manager` |
//! | `resources` | static listeners, clusters and secrets |
//! | `runtime` | limits of connections in `layered_runtime` |
//! | `sources` | `dynamic_resources`: the aggregated stream and watched files |

mod channels;
mod identity;
mod message;
mod overload;
mod resources;
mod runtime;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use xds_proto::Pool;
use xds_proto::load::LoadError;
use xds_proto::load::Snippet;
use xds_proto::load::Spans;
use xds_proto::pb::envoy::config::bootstrap::v3 as pb;
use xds_proto::pb::envoy::config::core::v3::Node;
use xds_proto::pb::google::protobuf::Any;

use crate::config::Cluster;
use crate::config::ConnectionLimits;
use crate::config::Listener;
use crate::config::Name;
use crate::config::endpoint::Address;
use crate::config::identity::Identity;
use crate::config::overload::Overload;
use crate::config::zone::Home;
use crate::xds::decode::Context;
use crate::xds::decode::Decoded;
use crate::xds::decode::FieldError;
use crate::xds::resource::ReadSecret;

pub use sources::AdsConfig;
pub use sources::ConfigSourceKind;
pub use sources::Dynamic;

/// What a bootstrap says.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// What it was, for dumps.
    pub raw: Any,
    /// Who we are, as it goes over the wire.
    pub node: Node,
    /// `node.id`.
    pub node_id: Name,
    /// `node.cluster`.
    pub node_cluster: Name,
    /// The administration interface, if there is to be one.
    pub admin: Option<Admin>,
    /// Listeners of the file, in its order; names are unique.
    pub static_listeners: Vec<StaticResource<Listener>>,
    /// Clusters of the file, in its order; names are unique.
    pub static_clusters: Vec<StaticResource<Cluster>>,
    /// Secrets of the file, by name.
    pub static_secrets: BTreeMap<Name, StaticResource<ReadSecret>>,
    /// Where the rest comes from.
    pub dynamic: Dynamic,
    /// A certificate of our own, if one is wanted.
    pub identity: Option<Arc<Identity>>,
    /// What is watched, and what is done about it.
    pub overload: Option<Overload>,
    /// Where the proxy is, if requests are to be routed by it.
    pub home: Option<Home>,
    /// How many connections there may be.
    pub connection_limits: ConnectionLimits,
    /// Fields of the file that are set and have no effect; filled by [`load`] only.
    pub warnings: Vec<LoadError>,
}

/// The administration interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; port 0 takes any free one.
    pub address: Address,
}

/// A resource that stands in the bootstrap.
#[derive(Clone, Debug)]
pub struct StaticResource<T> {
    /// What it means.
    pub value: Arc<T>,
    /// What it was, for dumps.
    pub raw: Any,
}

/// Reads the text of a bootstrap file, YAML or JSON; `path` only names it in messages.
///
/// # Errors
/// Every mistake, with its place.
pub fn load(path: &Path, text: &str) -> Result<Bootstrap, Vec<LoadError>> {
    let loaded = xds_proto::load::bootstrap(&Pool::new(), path, text)?;
    let placed = |errors: Vec<FieldError>| -> Vec<LoadError> {
        errors
            .into_iter()
            .map(|error| place(&loaded.spans, text, error))
            .collect()
    };
    match from_pb(loaded.message) {
        Ok(Decoded { value, warnings }) => Ok(Bootstrap {
            warnings: placed(warnings),
            ..value
        }),
        Err(errors) => Err(placed(errors)),
    }
}

/// Reads a bootstrap that is already parsed.
///
/// # Errors
/// Every mistake, with its field path.
pub fn from_pb(message: pb::Bootstrap) -> Result<Decoded<Bootstrap>, Vec<FieldError>> {
    let mut context = Context::default();
    let value = message::decode(&mut context, message);
    context.finish(value)
}

fn place(spans: &Spans, text: &str, error: FieldError) -> LoadError {
    let FieldError {
        code,
        field,
        reason,
    } = error;
    let origin = spans.locate(&field);
    let line = usize::try_from(origin.line.saturating_sub(1)).ok();
    let line = line
        .and_then(|line| text.lines().nth(line))
        .unwrap_or_default();
    let shown: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SNIPPET_CHARACTERS_MAX)
        .collect();
    let column = usize::try_from(origin.column.saturating_sub(1)).unwrap_or(0);
    let indent = column.min(shown.chars().count());
    // What stands at the place up to the end of the word: the field's name.
    let width = shown
        .chars()
        .skip(indent)
        .take_while(|c| !c.is_whitespace() && *c != ':')
        .count();
    LoadError {
        code,
        origin,
        field,
        message: reason,
        suggestion: None,
        snippet: Snippet {
            text: shown.trim_end().to_owned(),
            indent,
            width: width.max(1),
        },
    }
}

/// Of a line that is shown with a mistake; JSON files may be one single line.
const SNIPPET_CHARACTERS_MAX: usize = 160;
