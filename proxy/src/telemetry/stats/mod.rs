//! Counters, gauges and histograms of live components.
//!
//! Each component owns one struct of them (`ClusterStats`, `HttpStats`, ...), declared once with the
//! `stats!` macro of `define` and handed out by the [`Registry`]. Writing is
//! for workers and costs a load and a store; reading sums over workers and is for the control side.
//!
//! | file | holds |
//! |---|---|
//! | `worker` | which worker this thread is |
//! | `per_worker` | one cache-line-aligned slot per worker |
//! | `cell` | the handles: counter, gauge, level, status codes, flags |
//! | `histogram` | decimal log-linear distributions of durations |
//! | `define` | the macro that declares a group |
//! | `group` | what a reader sees of a group |
//! | `components` | the groups of the data plane |
//! | `registry` | groups by name |

// First: macros are visible only after their definition.
#[macro_use]
mod define;

mod balancer;
mod cell;
mod components;
mod group;
mod histogram;
mod per_worker;
mod registry;
#[cfg(test)]
mod tests;
pub mod worker;

pub use balancer::BalancerStats;
pub use balancer::SubsetStats;
pub use balancer::ZoneStats;
pub use cell::Codes;
pub use cell::Counter;
pub use cell::Flags;
pub use cell::Gauge;
pub use cell::GaugeGuard;
pub use cell::Level;
pub use components::AccessLogStats;
pub use components::CertificateStats;
pub use components::ClusterManagerStats;
pub use components::ClusterStats;
pub use components::ConnectionLimitStats;
pub use components::ControlPlaneStats;
pub use components::DrainStats;
pub use components::HealthCheckStats;
pub use components::HttpInspectorStats;
pub use components::HttpStats;
pub use components::InspectorStats;
pub use components::ListenerManagerStats;
pub use components::ListenerStats;
pub use components::OutlierStats;
pub use components::OverloadActionStats;
pub use components::OverloadResourceStats;
pub use components::ProxyProtocolStats;
pub use components::ServerStats;
pub use components::ShedPointStats;
pub use components::SubscriptionStats;
pub use components::TcpStats;
pub use components::TlsInspectorStats;
pub use components::TlsStats;
pub use group::Field;
pub use group::Group;
pub use group::Kind;
pub use group::Reading;
pub use group::Scope;
pub use histogram::Histogram;
pub use histogram::HistogramSnapshot;
pub use per_worker::PerWorker;
pub use registry::GroupList;
pub use registry::Registry;
pub use registry::Source;
