//! Upstream clusters as they live: members, balancing, connections.
//!
//! | file | holds |
//! |---|---|
//! | `breaker` | how much may be on its way to a cluster |
//! | `host` | one member, and the set of them with its balancer |
//! | `cluster` | a cluster's stable cell, and the value swapped in it |
//! | `connect` | a new connection to a host, counted |
//! | `departure` | hosts that leave, until what runs on them has ended |
//! | `dropped` | how many requests were dropped, and for what |
//! | `dns` | the names of `STRICT_DNS` clusters |
//! | `health` | who is fit |
//! | `in_flight` | how many requests a host answers right now |
//! | `introduction` | PROXY protocol headers: who the client is |
//! | `latency` | what was measured of members, and weights that follow it |
//! | `learned` | all that balancing learns while a cluster lives |
//! | `load_balancer` | which member takes the next request |
//! | `load_report` | what servers say of their load, and weights that follow it |
//! | `original` | members of clusters that send where the client wanted to go |
//! | `pace` | how long attempts take, for hedges |
//! | `pool` | a worker's open connections, by member |
//! | `servers` | servers whose certificates connections stand on |
//! | `shadow` | a policy that looks on |
//! | `text_hash` | the hash of a text that is not kept |
//! | `transport` | what stands between a socket and what is spoken on it |
//! | `zone` | the zone the proxy is in, and where those like it are |

pub mod breaker;
pub mod cluster;
pub mod connect;
pub mod departure;
pub mod dns;
pub mod dropped;
pub mod health;
pub mod host;
pub mod in_flight;
mod introduction;
pub mod latency;
pub mod learned;
pub mod load_balancer;
pub mod load_report;
mod original;
pub mod pace;
pub mod pool;
pub(crate) mod servers;
pub mod shadow;
pub mod text_hash;
pub mod transport;
pub mod zone;

pub use breaker::Breakers;
pub use cluster::ClusterHandle;
pub use cluster::Picked;
pub use cluster::UpstreamCluster;
pub use host::Host;
pub use host::HostCounts;
pub use host::HostSet;
pub(crate) use introduction::made as made_tlv;
