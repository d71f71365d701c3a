//! The last configuration that was good, kept on disk: a proxy that starts while its control plane is
//! away serves from it.
//!
//! What is kept are the resources as received, so that they are decoded and staged again like any
//! others. Secrets are not kept, nor a resource that holds a private key itself.
//!
//! | file | holds |
//! |---|---|
//! | `disk` | the directory: one writer on a thread of its own, one reader at the start |
//! | `format` | the bytes of the file |

mod disk;
mod format;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use bytes::Bytes;
use xds_proto::pb::envoy::config::core::v3::Node;

use crate::config::Name;
use crate::config::filter_chain::TransportSocket;
use crate::config::tls::Tickets;
use crate::xds::resource::Resource;
use crate::xds::resource::ResourceType;
pub use disk::Directory;
pub use disk::Writer;

/// All that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// When.
    pub at: SystemTime,
    /// Whose configuration it is: id and cluster of the node.
    pub node: (String, String),
    /// The resources.
    pub resources: Vec<SavedResource>,
}

/// One resource as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedResource {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: String,
    /// The value of its `Any`.
    pub body: Bytes,
}

/// What a proxy does with a state directory.
#[derive(Debug)]
pub struct State {
    /// What was read at the start, if there was something.
    pub saved: Option<Saved>,
    /// Keeps what comes.
    pub writer: Writer,
}

/// Whose configuration it is.
pub fn node_of(node: &Node) -> (String, String) {
    (node.id.clone(), node.cluster.clone())
}

/// What begins a private key in PEM, whatever its kind.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";

/// Whether a resource must not be written to disk: it holds a private key, or keys of session
/// tickets. Keys in files are only named.
pub fn holds_secret(resource: &Resource, body: &[u8]) -> bool {
    let has_tickets = match resource {
        Resource::Listener(listener) => {
            let chains = listener.filter_chains.iter();
            let mut chains = chains.chain(&listener.default_filter_chain);
            chains.any(|chain| {
                let TransportSocket::Tls(tls) = &chain.transport_socket else {
                    return false;
                };
                matches!(tls.tickets, Tickets::Keys(_))
            })
        }
        Resource::Secret(_) => true,
        Resource::Cluster(_) | Resource::Endpoints(_) | Resource::RouteConfig(_) => false,
    };
    has_tickets || memchr::memmem::find(body, PRIVATE_KEY).is_some()
}
