//! `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`: where a stream goes, and for how long.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Name;
use crate::config::access_log::AccessLog;
use crate::config::added_tlv::AddedTlv;
use crate::config::added_tlv::TlvMerge;
use crate::config::hash_policy::HashSource;
use crate::config::subset::Criteria;

/// The TCP proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpProxy {
    /// Prefix of its statistics.
    pub stat_prefix: Name,
    /// One of them is taken, by weight; at least one.
    pub clusters: Vec<WeightedCluster>,
    /// Connections in which this is the same go to one member, if the cluster's policy hashes.
    pub hash_source: Option<HashSource>,
    /// No byte moved, either way; `None` is no limit.
    pub idle_timeout: Option<Duration>,
    /// Age at which a connection is closed.
    pub max_duration: Option<Duration>,
    /// That age grows by a random share of itself up to this, so that connections that came together
    /// do not go together.
    pub max_duration_jitter: f64,
    /// When the upstream is connected to.
    pub connect_when: ConnectWhen,
    /// How often an upstream connection is tried, at least once.
    pub connect_attempts_max: u32,
    /// Pause before another try; none if there is none.
    pub backoff: Option<Backoff>,
    /// All are written.
    pub access_logs: Vec<AccessLog>,
    /// When, besides at the end.
    pub log_times: LogTimes,
    /// Told to upstreams that take the PROXY protocol, like TLVs of the client's own header.
    pub added_tlvs: Vec<AddedTlv>,
    /// What becomes of those then.
    pub tlv_merge: TlvMerge,
}

/// `UpstreamConnectMode`. The handshake of the client's TLS is always over by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectWhen {
    /// At once.
    #[default]
    Accepted,
    /// Once the client has sent something.
    Data {
        /// Most of it that is read before the upstream is connected to.
        early_bytes_max: usize,
    },
}

/// One choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedCluster {
    /// Its name.
    pub name: Name,
    /// Its share of the sum, which is at least 1 and fits u32.
    pub weight: u32,
    /// What is asked of its members.
    pub criteria: Option<Arc<Criteria>>,
}

/// `core.v3.BackoffStrategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Grows with each try, from this.
    pub base: Duration,
    /// To this.
    pub max: Duration,
}

/// When an entry is written before the connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogTimes {
    /// When it begins.
    pub on_start: bool,
    /// When the upstream connection stands.
    pub on_connected: bool,
    /// Again and again.
    pub interval: Option<Duration>,
}

impl Backoff {
    /// The pause before try number `attempt` (the second is 2): random between nothing and a bound
    /// that doubles, as Envoy's jittered exponential backoff.
    pub fn pause(self, attempt: u32, random: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1).min(16));
        let bound = self.base.saturating_mul(doubled).min(self.max);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }
}
