//! Every bound of the data plane, each with its reason. Network input never grows memory past these.

use std::time::Duration;

/// Largest HTTP/1 head or HTTP/2 header list accepted, bytes: Envoy's default (60 KiB), so that
/// what a stock Envoy accepts is accepted here.
pub const REQUEST_HEADERS_BYTES_MAX: usize = 60 * 1024;

/// Most header fields of one message: Envoy's default; each costs about 100 bytes of table.
pub const HEADER_COUNT_MAX: usize = 100;

/// Bytes buffered per connection and direction before reading stops: Envoy's edge guide. The
/// backpressure tests hold resident memory flat against it.
pub const BUFFER_BYTES: usize = 32 * 1024;

/// Bytes kept of a connection, each way, when its listener or cluster says nothing: Envoy's default. What
/// is buffered of a stream is less anyway; bodies kept for another attempt are not.
pub const CONNECTION_BUFFER_BYTES: usize = 1024 * 1024;

/// What is read at once, however little may be kept: a page. Less would be one system call after the
/// other.
pub const BUFFER_BYTES_MIN: usize = 4 * 1024;

/// Concurrent streams of one downstream HTTP/2 connection: Envoy's edge guide.
pub const HTTP2_STREAMS_MAX: u32 = 100;

/// HTTP/2 window of one stream, bytes: Envoy's edge guide.
pub const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;

/// HTTP/2 window of one connection, bytes: Envoy's edge guide.
pub const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes queued for sending per HTTP/2 stream: 100 streams then hold 3.2 MB, not h2's 40 MB.
pub const HTTP2_SEND_BUFFER: usize = 32 * 1024;

/// Streams reset by us for peer errors before the connection is closed (CVE-2025-8671).
pub const HTTP2_LOCAL_RESETS_MAX: usize = 100;

/// Streams reset by the peer before they were accepted (CVE-2023-44487).
pub const HTTP2_PENDING_RESETS_MAX: usize = 20;

/// Sum of chunk extension bytes of one message: they are dropped on re-framing, so only the cost of
/// skipping them matters (security case S6).
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// From the client's connection, its TLS included, to its first request's head of HTTP/1, and from the
/// first byte of any other head to its last. Envoy has no limit, which a slow client can use.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// No byte moved on a stream, either way: Envoy's `stream_idle_timeout` default.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Until the peer of a connection that has said its last closes, too: Envoy's `delayed_close_timeout` default.
pub const DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Until the client of an HTTP/2 connection that ends has answered that it knows: Envoy's `drain_timeout`
/// default.
pub const HTTP2_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// No stream on a connection: Envoy's `idle_timeout` default.
pub const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// For the streams of a connection that is asked to go, before it is cut: Envoy's default drain
/// time.
pub const DRAIN_TIME: Duration = Duration::from_secs(600);

/// How long an HTTP/1 connection that is asked to go waits for one more request, whose answer says so:
/// a client that sends while its connection is closed cannot know whether to send again.
pub const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// How long both ends of a WebSocket have to answer that it goes away, before it is cut: a round trip of
/// anybody, and little beside the drain time that is over then.
pub const LAST_WORD: Duration = Duration::from_secs(1);

/// Endpoints of a cluster that are drained by hand: beyond this it is the control plane's task.
pub const DRAINED_ENDPOINTS_MAX: usize = 1024;

/// Categories of requests that a control plane wants dropped: each is a draw for each request. gRPC's
/// control planes send a handful, Envoy takes one.
pub const DROP_CATEGORIES_MAX: usize = 16;

/// Categories of a cluster whose dropped requests are counted: those of some assignments, one after the other.
pub const DROP_CATEGORIES_KEPT_MAX: usize = 64;

/// Selectors of subsets in one cluster: each member is looked at once for each of them.
pub const SUBSET_SELECTORS_MAX: usize = 64;

/// Names of one selector, and of what a route asks: they are compared at each pick.
pub const SUBSET_KEYS_MAX: usize = 16;

/// Criteria that a route has one after another: each is a pick that may find nobody.
pub const SUBSET_FALLBACKS_MAX: usize = 16;

/// Subsets of one cluster. Each has a balancer, and that of a table takes 64 KiB or more; requests for
/// those beyond it fall back as if nobody were there. Envoy has no bound.
pub const SUBSETS_MAX: usize = 4096;

/// Members of all subsets of one cluster together: with lists that stand for any of their values a few
/// bytes of configuration would make millions.
pub const SUBSET_MEMBERSHIPS_MAX: usize = 1 << 20;

/// Whole response, when the route says nothing: Envoy's default.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);

/// Upstream connect, when the cluster says nothing: Envoy's default.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle upstream connections kept per host and worker: beyond this a burst has passed and sockets
/// cost more than a new handshake.
pub const IDLE_UPSTREAM_PER_HOST: usize = 256;

/// Open downstream connections of the process, when the runtime says nothing: with 32 KiB each way it
/// is 3 GiB at the very worst.
pub const DOWNSTREAM_CONNECTIONS_MAX: usize = 50_000;

/// Open downstream connections of one listener, when the runtime says nothing: Envoy's edge guide.
pub const LISTENER_CONNECTIONS_MAX: usize = 10_000;

/// Descriptors that new downstream connections leave to upstream connections, pipes, logs and the
/// admin interface: a quarter of what the process may have, but no more than this.
pub const DESCRIPTORS_RESERVED_MAX: u64 = 4096;

/// Largest regular expression program, bytes: linear-time, but the compiled form is not free.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Resources of one type held from one control plane: 4x the largest published mesh.
pub const RESOURCES_MAX: usize = 400_000;

/// Largest gRPC message accepted from a control plane, bytes. Stock servers send one type in one
/// message; 10,000 clusters are about 10 MB.
pub const XDS_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Metadata sent with each stream to a gRPC server, keys and values, bytes: what servers commonly take
/// as a whole list of headers.
pub const GRPC_METADATA_BYTES_MAX: usize = 16 * 1024;

/// Entries of that metadata: a server has use for a few.
pub const GRPC_METADATA_ENTRIES_MAX: usize = 100;

/// Largest configuration kept on disk, bytes: ten times what 100,000 endpoints in 10,000 clusters need.
pub const STATE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Largest answer of a signer, bytes: a chain of ten certificates has about 20 KB, with RSA twice that.
pub const SIGNER_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Largest token shown to a signer, bytes: a JWT of Kubernetes has about 1 KB, and servers take 16 KB
/// of headers.
pub const TOKEN_BYTES_MAX: u64 = 8 * 1024;

/// Longest SPIFFE ID, bytes: the standard's bound.
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// Length of the accept queue asked for, when a listener says nothing: Linux's default of
/// `net.core.somaxconn`, which caps it in any case.
pub const LISTEN_BACKLOG: u32 = 4096;

/// Connections accepted at one wake-up, when a listener says nothing: Envoy takes all there are,
/// which lets a burst starve the connections a worker already has.
pub const ACCEPTS_PER_EVENT: u32 = 16;

/// Largest file that holds a secret, bytes: a list of all public roots has 250 KB, a large
/// revocation list a few times that.
pub const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// From the choice of a filter chain to the end of its TLS handshake, when the chain says nothing:
/// Envoy has no limit, which a slow client can use.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Certificates a peer may show beside its leaf: honest chains have less than five, webpki goes no
/// further than six, and the ways it searches among certificates of one name grow as the factorial of
/// their number (security case T6).
pub const INTERMEDIATES_MAX: usize = 8;

/// How long a TLS session can be resumed, when the context says nothing: BoringSSL's default.
pub const TLS_SESSION_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// Sessions kept of one upstream host, whatever is configured: each has about 2 KB.
pub const TLS_SESSION_KEYS_MAX: usize = 64;

/// Largest ClientHello that is looked at, with headers: Envoy's default. A hello with post-quantum
/// key shares is about 2 KB.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// All listener filters of a connection together: Envoy's default.
pub const LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);

/// Body that is answered in place of a cluster whose breaker is open, bytes: enough for a page or an empty list; it is kept
/// in memory for each cluster.
pub const FALLBACK_BODY_BYTES_MAX: usize = 4096;

/// Hosts a least-request pick compares at most (`choice_count`): Envoy sets no bound, but each costs a
/// draw, and with so many it is as good as a full scan.
pub const LB_CHOICES_MAX: u32 = 64;

/// One in so many answers of a host that sent no load report is looked at for one, where reports are extra:
/// what is new is seen soon, and the others cost nothing.
pub const LOAD_REPORT_LOOKS: u64 = 16;

/// Longest load report that is read, bytes: one with a hundred metrics. Envoy sets no bound.
pub const LOAD_REPORT_BYTES_MAX: usize = 4096;

/// Metrics that make up a utilization: each number of each report is compared with all of them. Envoy
/// sets no bound.
pub const LOAD_REPORT_METRICS_MAX: usize = 32;

/// Places on a hash ring (`maximum_ring_size`), Envoy's bound: 12 bytes each, 100 MB of a cluster whose
/// weights ask for it.
pub const RING_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// Places in a Maglev table (`table_size`), Envoy's bound: up to 4 bytes each.
pub const MAGLEV_SIZE_MAX: u64 = 5_000_011;

/// Objects of filter state that one list makes: each is a text that is formatted for every request, or for every
/// connection. Envoy sets no bound.
pub const STATE_VALUES_MAX: usize = 64;

/// Parts of the hash of a request: each looks at the whole head of a request. Envoy sets no bound.
pub const HASH_POLICIES_MAX: usize = 64;

/// Shortest time between two health checks, and shortest wait for an answer: Envoy counts milliseconds.
pub const HEALTH_CHECK_TIME_MIN: Duration = Duration::from_millis(1);

/// Bytes of an answer to a health check that are looked at: Envoy sets no bound, but each running
/// check holds them.
pub const HEALTH_CHECK_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest name of a gRPC service that is asked for, bytes: a name of a package and a service has 100.
pub const HEALTH_CHECK_SERVICE_BYTES_MAX: usize = 4096;

/// What is kept of a host's health: Envoy keeps nothing. Enough for a host that flaps for some minutes.
pub const HEALTH_EVENTS_MAX: usize = 32;

/// Failed requests kept of a host, so that an ejection can name them: Envoy's default of consecutive
/// failures is five.
pub const FAILED_REQUESTS_MAX: usize = 16;

/// Longest id of a failed request that is kept, bytes: a UUID has 36.
pub const FAILED_REQUEST_ID_BYTES_MAX: usize = 64;

/// Bytes held for all clients of the process, beyond which no request body is kept for another attempt:
/// 1,000 of them with 1 MiB each would be a gigabyte. What is beyond is not tried again.
pub const HELD_BYTES_TOTAL: usize = 64 * 1024 * 1024;

/// Where a monitor knows how much memory there is, no more than one part in so many of it: the rest is for
/// buffers and windows, which come with each connection and are only counted.
pub const HELD_SHARE_OF_MEMORY: u64 = 4;

/// The same of the clients of one listener: they leave some of it to others.
pub const HELD_BYTES_PER_LISTENER: usize = 48 * 1024 * 1024;

/// The same of one connection: eight bodies of the usual largest size, whatever number of streams it
/// has; a sixth of its listener.
pub const HELD_BYTES_PER_CONNECTION: usize = 8 * 1024 * 1024;

/// Streams that one worker gives up at once when memory runs short: Envoy's number.
pub const RESETS_AT_ONCE: usize = 50;

/// Attempts of one request that are on their way at the same time (`HedgePolicy`). Clients may say how
/// often they want to be tried; each attempt has a stream and reads the kept body.
pub const ATTEMPTS_AT_ONCE: usize = 16;

/// Picks for one retry, when members are to be avoided (`host_selection_retry_max_attempts`): Envoy
/// sets no bound, but each costs as much as a request's first.
pub const RETRY_HOST_ATTEMPTS_MAX: u32 = 1000;
