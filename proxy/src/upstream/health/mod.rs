//! Who of a cluster is fit: by asking (active checks), and by what is answered (outlier detection).
//!
//! All of it runs on one thread of its own, which is started when the first cluster asks for it, so
//! that neither workers nor the control side wait for it. A cluster has one supervisor there, a host
//! one task. Verdicts are flags of the host; a set of hosts is built anew when they change.
//!
//! ```text
//! apply ──clusters──► monitor ──► supervisor ──► watch (one per host) ──► checker
//!                                     │ ▲             session: thresholds, waits
//!    cluster ◄── flags changed ───────┘ └── bell ◄── workers: answers, failures
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `flags` | why a host takes no load |
//! | `state` | what is known of a host, what a cluster's hosts have in common |
//! | `session` | thresholds and waits of one host, sans-IO |
//! | `checker` | asking once |
//! | `watch` | asking one host again and again |
//! | `supervisor` | all of one cluster |
//! | `outlier` | judging by answers |
//! | `monitor` | all clusters, and the thread |
//! | `timeline` | what happened to a host |
//! | `event_log` | the same as lines of JSON in a file |

mod checker;
mod event_log;
pub mod flags;
pub mod monitor;
pub mod outlier;
pub mod session;
pub mod state;
mod supervisor;
#[cfg(test)]
mod tests;
pub mod timeline;
mod watch;

pub use flags::HealthFlags;
pub use monitor::Monitor;
pub use monitor::Watched;
pub use state::Care;
pub use state::HostHealth;
