//! The xDS server: serves routes, clusters, endpoints, certificates and any other v3 resource to
//! Envoy, gRPC and Weir proxies.
//!
//! It moves opaque resources: it decodes them only to learn what they refer to, never to change
//! them, and it knows nothing about how a proxy uses them. The exception is asked for: [`balancing`]
//! replaces one field of a cluster.
//!
//! | module | role |
//! |---|---|
//! | [`balancing`] | how clusters balance, changed while they run |
//! | [`ca`] | the certificate authority: who gets which certificate, and the state that proves it |
//! | [`client`] | calls the API of a running server |
//! | [`server`] | composition root: sources, store, gRPC services on one listener |
//! | [`source`] | where desired state comes from: a watched directory, or the [`Handle`] |
//! | [`resource`] | one resource, encoded once, versioned by its content |
//! | [`snapshot`] | what one node group is served, with its change log and consistency checks |
//! | [`store`] | the current snapshot of every group; commits are atomic |
//! | [`subscription`] | sans-IO: what one client wants, has and refused, for one type |
//! | [`stream`] | sans-IO: one stream, all its types, the order between them |
//! | [`service`] | tonic: the only I/O |
//! | [`status`] | who is connected, what each acknowledged or refused |
//! | [`transparency`] | whether public certificates carry signed timestamps |
//! | [`wire`] | the discovery messages, with payloads as shared bytes |
//!
//! Invariants: network input never panics and never grows memory past a bound in [`limits`]; a
//! client sees a committed set as a whole or not at all; a version a client refused is not sent to
//! it again until the resource changes; the cores take time as an argument.

pub mod balancing;
pub mod ca;
pub mod client;
pub mod limits;
pub mod resource;
pub mod server;
pub mod service;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod store;
pub mod stream;
pub mod subscription;
pub mod transparency;
pub mod types;
pub mod wire;

pub use limits::Limits;
pub use resource::Resource;
pub use server::Server;
pub use source::push::Handle;

pub use store::Store;
