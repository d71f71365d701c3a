//! The admin server: what runs, what it was told, how it does, and a few switches.
//!
//! Paths and shapes are Envoy's, so that people's habits, scripts and tools work; the short names
//! `/livez`, `/readyz` and `/metrics` stand beside them. It reads live state through one trait,
//! [`Inspect`], and never touches the data path.
//!
//! Invariants: nothing changes without a POST that no web page of another origin can send; bound to
//! loopback it answers only requests that name this machine; requests, connections and time are
//! bounded; a query parameter that is not understood is refused, not ignored; secrets are not shown.
//!
//! Besides `xds`, this room names `xds_proto`: only to print what was received.
//!
//! | file | holds |
//! |---|---|
//! | `state` | what the composition root must offer |
//! | `serve` | connections; with `http/codec` the only place that names hyper, as probes must not depend on the data path's codec |
//! | `guard` | which requests a browser could have been tricked into |
//! | `request` | query parameters |
//! | `reply` | what an endpoint answers |
//! | `route` | the table of endpoints, and `/help` |
//! | `redact` | secrets taken out of JSON |
//! | `endpoint/` | one file per endpoint |

mod endpoint;
mod guard;
mod redact;
mod reply;
mod request;
mod route;
mod serve;
mod state;
#[cfg(test)]
mod tests;

pub use serve::AdminListener;
pub use serve::serve;
pub use state::Admin;
pub use state::BuildInfo;
pub use state::CertificateView;
pub use state::ClusterView;
pub use state::ConfigError;
pub use state::ConfigView;
pub use state::DepartingView;
pub use state::HostStats;
pub use state::HostView;
pub use state::Inspect;
pub use state::LimitView;
pub use state::ListenerView;
pub use state::OutcomeView;
pub use state::Readiness;
pub use state::ResourceState;
pub use state::ResourceView;
pub use state::Resources;
pub use state::ServerInfo;
pub use state::ServerState;
pub use state::ThresholdsView;
pub use state::TlsContextView;
