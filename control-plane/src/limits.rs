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

/// Bytes of a SPIFFE id: the standard's bound.
pub const SPIFFE_ID_BYTES_MAX: usize = 2_048;

/// Bytes of a trust domain: the standard's bound.
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// Bytes of a certificate signing request. One with an RSA key of 8,192 bits has about 3 KiB.
pub const SIGNING_REQUEST_BYTES_MAX: usize = 16 << 10;

/// Bytes of the bundle of another trust domain: thirty roots with the largest keys.
pub const FEDERATED_BUNDLE_BYTES_MAX: usize = 256 << 10;

/// Roots of another trust domain. During a rotation there are two; every proxy holds all of them.
pub const FEDERATED_ROOTS_MAX: usize = 32;

/// Certificates between a leaf and its root that somebody else gives us. Every handshake of every proxy
/// carries them; real ones are two or three.
pub const CHAIN_MAX: usize = 8;

/// Other trust domains that are believed. Every proxy holds the roots of all.
pub const FEDERATED_MAX: usize = 64;

/// Bits of the largest RSA key. Larger ones cost every peer milliseconds in each handshake, and
/// the common verifiers stop here.
pub const RSA_BITS_MAX: usize = 8_192;

/// Bits of the smallest RSA key (NIST SP 800-57: 112 bits of strength).
pub const RSA_BITS_MIN: usize = 2_048;

/// Signing requests worked on or waiting at once; each waits for the disk for milliseconds.
pub const SIGNINGS_MAX: usize = 256;

/// Bytes of a call with a signing request: the request, its metadata, and room.
pub const SIGNING_CALL_BYTES_MAX: usize = 2 * SIGNING_REQUEST_BYTES_MAX;

/// Certificates an identity gets at once for keys of its own: a thousand replicas of one service may
/// start together.
pub const SIGNED_BURST_MAX: u64 = 1_000;

/// So many more it gets each second: as many replicas with the shortest leafs renew theirs. A core
/// signs two hundred times as many.
pub const SIGNED_PER_SECOND: u64 = 10;

/// Identities whose last certificates are remembered; those who wait long are forgotten first.
pub const SIGNED_KNOWN_MAX: usize = 100_000;

/// The longest life of a leaf. One that lives longer than a month is one nobody has seen renewed.
pub const LEAF_LIFE_MAX: Duration = Duration::from_hours(31 * 24);

/// The shortest life of a leaf: less, and clocks decide whether it was ever valid.
pub const LEAF_LIFE_MIN: Duration = Duration::from_mins(1);

/// How far before its making a certificate becomes valid, for peers whose clocks are behind.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Serial numbers reserved on disk at once: one write in so many leaves, and so many numbers
/// lost by a crash.
pub const SERIALS_RESERVED: u64 = 1_024;

/// Bytes of the CA's state. A revocation has about 150 bytes, so this is about 100,000 of them.
pub const CA_STATE_BYTES_MAX: usize = 16 << 20;

/// Revocations at once. Each is in the list every proxy holds, 40 bytes; they go when the
/// certificate would have expired anyway.
pub const REVOCATIONS_MAX: usize = 50_000;

/// Join tokens used up and not yet expired, which are remembered so that none is used twice.
pub const USED_TOKENS_MAX: usize = 50_000;

/// Bytes of a join token; one holds an id, three numbers and a SPIFFE id.
pub const TOKEN_BYTES_MAX: usize = 6_144;

/// The longest life of a join token.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_hours(24);

/// Bytes of the index of issued leaves past which expired ones are dropped from it: a few ten
/// thousand leaves.
pub const ISSUED_BYTES_COMPACT: u64 = 8 << 20;

/// Bytes of a text in the audit log that somebody else wrote.
pub const AUDIT_TEXT_BYTES_MAX: usize = 512;

/// Refusals that are written to the audit log per second; the rest is counted, and the next line
/// says how many. Whoever is refused can ask as often as the network allows.
pub const AUDIT_REFUSALS_PER_SECOND: u64 = 100;

/// How long one process waits for another that changes the CA's state; a change takes
/// milliseconds.
pub const CA_LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long a root signs. Replacing it means telling everybody, so not often.
pub const ROOT_LIFE: Duration = Duration::from_hours(10 * 365 * 24);

/// How long an intermediate signs; half of that when it is replaced in time.
pub const INTERMEDIATE_LIFE: Duration = Duration::from_hours(365 * 24);

/// How long before its first leaf a new authority is told to everybody, unless asked otherwise:
/// proxies that know neither its root nor its revocation list would refuse that leaf.
pub const SPREAD: Duration = Duration::from_hours(1);

/// How long a revocation list holds. Longer than leaves live, so that a dead control plane ends
/// leaves first.
pub const REVOCATION_LIST_LIFE: Duration = Duration::from_hours(7 * 24);

/// How often the CA looks whether an authority must be replaced or removed.
pub const CA_MAINTENANCE: Duration = Duration::from_hours(1);

/// Authorities of one rank at once; a rotation each hour would need so many.
pub const AUTHORITIES_MAX: usize = 32;

/// Secrets of the CA one stream may ask for. A proxy has use for four names; more is a mistake.
pub const OWN_SECRETS_MAX: usize = 64;

/// How long a stream waits for the CA before it answers without. The CA takes milliseconds; this
/// is for a disk that hangs.
pub const OWN_SECRETS_PATIENCE: Duration = Duration::from_secs(1);

/// How often the CA looks whether another process changed its state, such as `weir ca revoke`.
pub const CA_POLL: Duration = Duration::from_secs(1);

/// From accept to the end of the TLS handshake. A handshake is two round trips.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How far the clock may be after the last time the CA did anything. A running one notes the time
/// each day; more than the life of an intermediate means that everything would be made anew.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_hours(400 * 24);

/// How often the CA notes the time when nothing else happens.
pub const CLOCK_NOTED: Duration = Duration::from_hours(24);

/// How long revocations and used tokens are remembered after their end, in case it was the clock
/// that ended them.
pub const REFUSALS_KEPT: Duration = Duration::from_hours(30 * 24);

/// Clusters whose policy was changed while they run. The state is written as a whole, so it must stay small.
pub const OVERRIDES_MAX: usize = 10_000;

/// Policies in one list of preference. A client takes the first it knows; three are many.
pub const POLICIES_MAX: usize = 16;

/// Bytes of such a list; the largest policy of the API takes a few hundred.
pub const POLICY_BYTES_MAX: usize = 64 << 10;

/// Bytes of the file that keeps them: past this somebody else wrote it.
pub const OVERRIDES_BYTES_MAX: u64 = 1 << 30;

/// Connections to the API at once: people and their scripts.
pub const API_CONNECTIONS_MAX: usize = 64;

/// Names of clusters in an answer that says which there are.
pub const NAMES_TOLD_MAX: usize = 20;
