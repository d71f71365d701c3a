//! What the data plane says about itself: counters, access logs and response flags.
//!
//! Nothing here decides anything, and nothing here makes a worker wait: counters are single-writer
//! cells, log entries are handed over full buffers at a time and dropped (and counted) when the
//! writer cannot keep up.
//!
//! | file | holds |
//! |---|---|
//! | `response_flag` | why an exchange ended as it did |
//! | `stats/` | counters, gauges, histograms, and the registry that lists them |
//! | `prometheus` | the registry as a Prometheus exposition |
//! | `text` | the registry as Envoy's `/stats`, text and JSON |
//! | `access_log/` | entry formats, template evaluation, sinks |
//! | `log` | changing the level of the diagnostic log while running |

pub mod access_log;
pub mod log;
pub mod prometheus;
pub mod response_flag;
pub mod stats;
pub mod text;

pub use response_flag::ResponseFlag;
pub use response_flag::ResponseFlags;
