//! Every bound of the server, each with its reason.
//!
//! Constants are bounds nobody should need to move; [`Limits`] holds those an operator may.

use std::time::Duration;

/// Bounds an operator may change.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams open at once over all connections. An idle stream costs a few KiB, so the default
    /// stays near 100 MiB; past it a client gets RESOURCE_EXHAUSTED and retries with backoff.
    pub streams_max: usize,
    /// Streams on one connection: one ADS stream, or one per type and cluster without ADS.
    pub streams_per_connection_max: u32,
    /// Connections open at once; the rest wait in the kernel's accept queue.
    pub connections_max: usize,
    /// Bytes of one request. Envoy repeats every name in each SotW request: 30,000 names of
    /// 100 bytes fit.
    pub request_bytes_max: usize,
    /// Resource bytes in one response before it is split. Many clients accept 4 MiB (S-61).
    pub response_bytes_max: usize,
    /// Names one stream may subscribe to per type.
    pub names_max: usize,
    /// Bytes of subscribed names per stream and type. Bounds what distinct long names can hold.
    pub name_bytes_max: usize,
    /// How long a push waits for the acknowledgment of the push before it. Envoy keeps a CDS
    /// acknowledgment back while clusters warm, so this must end.
    pub ack_timeout: Duration,
    /// How long a stale cluster or assignment outlives the routes that named it, when the client
    /// does not confirm those routes (S-70).
    pub removal_timeout: Duration,
    /// The same on a stream that carries neither listeners nor routes, where no confirmation can
    /// come.
    pub removal_delay: Duration,
    /// HTTP/2 ping interval; a dead peer is noticed within interval plus timeout.
    pub keepalive_interval: Duration,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
    /// How long a save must be followed by silence before the directory is read.
    pub settle_quiet: Duration,
    /// The longest a continuous series of saves may delay reading the directory.
    pub settle_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: 20_000,
            streams_per_connection_max: 1_024,
            connections_max: 20_000,
            request_bytes_max: 4 << 20,
            response_bytes_max: 2 << 20,
            names_max: 65_536,
            name_bytes_max: 8 << 20,
            ack_timeout: Duration::from_secs(5),
            removal_timeout: Duration::from_secs(5),
            removal_delay: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            settle_quiet: Duration::from_millis(10),
            settle_max: Duration::from_millis(40),
        }
    }
}

/// Types one stream may speak about. The API has about 15; the rest is room for own types.
pub const TYPES_PER_STREAM_MAX: usize = 32;

/// Bytes of a type URL. The longest in the API has about 120.
pub const TYPE_URL_BYTES_MAX: usize = 512;

/// Bytes of one resource name. `xdstp` names carry parameters; more than this is an attack.
pub const NAME_BYTES_MAX: usize = 4_096;

/// Bytes kept of a refusal's text: enough to read, and to find the names of the culprits.
pub const ERROR_TEXT_BYTES_MAX: usize = 4_096;

/// Responses of one type that may be unacknowledged before the oldest is forgotten. Envoy
/// acknowledges several delta responses at once after warming; more is a client that never does.
pub const IN_FLIGHT_MAX: usize = 16;

/// Names kept per type in the change log. A client further behind pays one comparison of both
/// sets, which is still correct.
pub const CHANGE_LOG_MAX: usize = 4_096;

/// Requests taken from a stream before a response is considered, so that a client that never
/// stops asking still gets answers. Responses are computed from the last state, not per request.
pub const REQUESTS_PER_TURN_MAX: usize = 64;

/// Bytes of one file of the resource directory. A million endpoints in YAML are about 100 MB; a
/// set of that size belongs in several files.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Files read from the resource directory.
pub const FILES_MAX: usize = 10_000;

/// Mistakes kept for the status after a failed load. Nobody reads more in one go.
pub const MISTAKES_MAX: usize = 100;
