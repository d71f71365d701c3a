//! Listeners (`envoy.config.listener.v3.Listener`) and the HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::config::Name;
use crate::config::RouteConfig;
use crate::config::access_log::AccessLog;
use crate::config::chain_selector::ChainSelector;
use crate::config::client_certificate::ForwardClientCertificate;
use crate::config::cluster::Http2Options;
use crate::config::endpoint::Address;
use crate::config::filter_chain::FilterChain;
use crate::config::filter_state::StateFilter;
use crate::config::listener_filter::ListenerFilter;
use crate::config::prefix_map::IpPrefix;
use crate::config::session::SessionFilter;
use crate::config::socket::ListenAddress;
use crate::config::socket::SocketOptions;
use crate::config::upgrade::Upgrade;

/// One listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// Where it accepts; port 0 only if it comes from the bootstrap.
    pub address: Address,
    /// Where it accepts as well.
    pub additional_addresses: Vec<ListenAddress>,
    /// Of the sockets of the first address.
    pub socket_options: SocketOptions,
    /// In order; each finds out something of a connection.
    pub listener_filters: Vec<ListenerFilter>,
    /// For all listener filters together; `None` is no limit.
    pub listener_filters_timeout: Option<Duration>,
    /// Go on with what is known when the time is over, instead of closing.
    pub continue_on_listener_filters_timeout: bool,
    /// At least one, or a default.
    pub filter_chains: Vec<Arc<FilterChain>>,
    /// Used when none matches.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// Which of them takes a connection.
    pub selector: Arc<ChainSelector>,
    /// All are written at the end of each connection.
    pub access_logs: Vec<AccessLog>,
    /// Length of the accept queue.
    pub backlog: u32,
    /// One socket per worker.
    pub reuse_port: bool,
    /// Accept at most this many connections at one wake-up.
    pub accepts_per_event: u32,
    /// The limit of the process is not for its connections, which count all the same.
    pub ignores_process_limit: bool,
    /// What is done because of overload is not done to its connections.
    pub ignores_overload: bool,
    /// It has sockets of its own; if not, connections come from a listener that hands them over.
    pub binds: bool,
    /// A connection that was redirected goes to the listener for the address it wanted, if there is one.
    pub hands_over: bool,
    /// Each worker gets as many connections as the others.
    pub balances_exactly: bool,
    /// Its name in statistics; its address if it is empty.
    pub stat_prefix: Name,
}

impl Listener {
    /// What decides whether its sockets can stay: where they are bound, and how.
    pub fn binding(&self) -> (Vec<(&Address, &SocketOptions)>, bool, bool) {
        let first = std::iter::once((&self.address, &self.socket_options));
        let others = self.additional_addresses.iter();
        let others = others.map(|other| (&other.address, &other.options));
        (first.chain(others).collect(), self.reuse_port, self.binds)
    }

    /// The options of all addresses, in the order of [`Self::binding`].
    pub fn all_options(&self) -> impl Iterator<Item = &SocketOptions> {
        let others = self.additional_addresses.iter().map(|other| &other.options);
        std::iter::once(&self.socket_options).chain(others)
    }
}

/// A time that is longer by a random part, which is another one for each connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jittered {
    /// At least so long.
    pub time: Duration,
    /// At most so much longer: 1 is twice as long.
    pub jitter: f64,
}

impl Jittered {
    /// How long it is for a connection whose part, between 0 and 1, this is.
    #[must_use]
    pub fn of(self, part: f64) -> Duration {
        self.time + self.time.mul_f64(self.jitter * part)
    }
}

/// `HttpConnectionManager`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConnectionManager {
    /// Prefix of its statistics.
    pub stat_prefix: Name,
    /// Which protocol is spoken.
    pub codec: Codec,
    /// Where the routes come from.
    pub routes: RouteSource,
    /// In order; the last is `Router`.
    pub http_filters: Vec<HttpFilter>,
    /// All are written.
    pub access_logs: Vec<AccessLog>,
    /// Value of the `server` header; Envoy's default is `envoy`, ours `weir`.
    pub server_name: HeaderValue,
    /// What becomes of the upstream's `server` header.
    pub server_header: ServerHeader,
    /// Text of the `via` header, if one is to be added.
    pub via: Option<HeaderValue>,
    /// Trust what stands in the connection's address rather than in `x-forwarded-for`.
    pub use_remote_address: bool,
    /// How many proxies before us are trusted.
    pub xff_trusted_hops: u32,
    /// Do not add the peer to `x-forwarded-for`.
    pub skip_xff_append: bool,
    /// Make `x-request-id` where none is (default on).
    pub generate_request_id: bool,
    /// Keep the `x-request-id` of an outside client.
    pub preserve_external_request_id: bool,
    /// Send `x-request-id` back to the downstream.
    pub always_set_request_id_in_response: bool,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_certificate: ForwardClientCertificate,
    /// From the first byte to the end of the request; `None` is no limit.
    pub request_timeout: Option<Duration>,
    /// Until the head is complete; `None` leaves `limits::REQUEST_HEAD_TIMEOUT`.
    pub request_headers_timeout: Option<Duration>,
    /// No byte on a stream; `None` is no limit.
    pub stream_idle_timeout: Option<Duration>,
    /// No byte taken of an answer by a client of HTTP/2, whose rest may still be with the upstream, as little is
    /// kept here (Envoy: which has come as a whole). Absent is the idle timeout; `Some(None)` is no limit.
    pub stream_flush_timeout: Option<Option<Duration>>,
    /// From the last byte of a connection until its client has closed it, too; `None` does not wait.
    pub delayed_close_timeout: Option<Duration>,
    /// How long a connection of HTTP/2 that is to end waits without a stream for its client to answer that it
    /// has heard of it.
    pub drain_timeout: Jittered,
    /// A connection without stream; `None` is no limit.
    pub idle_timeout: Option<Duration>,
    /// How long a request may take, all in all, when its route does not say; `None` is no limit.
    pub max_stream_duration: Option<Duration>,
    /// Whose requests come from inside and may say how they are treated; none without it.
    pub internal_addresses: Option<Vec<IpPrefix>>,
    /// A connection's age at which it is drained.
    pub max_connection_duration: Option<Jittered>,
    /// Requests after which a connection is drained.
    pub max_requests_per_connection: Option<u32>,
    /// Largest request head, bytes.
    pub request_headers_bytes_max: usize,
    /// Most header fields.
    pub header_count_max: usize,
    /// What becomes of header names with `_`.
    pub underscores: Underscores,
    /// Resolve `.` and `..` in paths (RFC 3986).
    pub normalize_path: bool,
    /// Take `//` as `/`.
    pub merge_slashes: bool,
    /// What becomes of `%2F` and `%5C` in paths.
    pub escaped_slashes: EscapedSlashes,
    /// Strip any port, or the listener's own, from the authority before routing.
    pub strip_host_port: StripHostPort,
    /// HTTP/1.0 is answered (default: 426, as Envoy).
    pub accept_http_10: bool,
    /// HTTP/2 towards the downstream.
    pub http2: Http2Options,
    /// Protocols that requests may go on as, unless their route says otherwise.
    pub upgrades: Vec<Upgrade>,
}

/// `HttpConnectionManager.codec_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// By the first bytes.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where routes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteSource {
    /// Part of the listener.
    Inline(Arc<RouteConfig>),
    /// Subscribed to under this name.
    Rds(Name),
}

/// The HTTP filters there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpFilter {
    /// The last one: sends to the upstream.
    Router {
        /// Do not add `x-envoy-*` headers.
        suppress_envoy_headers: bool,
        /// A request takes no longer than its sender, who is trusted, says it expects.
        respects_expected_timeout: bool,
    },
    /// Clients meet the member again that served them.
    Session(SessionFilter),
    /// Requests are given filter state.
    State(StateFilter),
}

/// `server_header_transformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// Only if the upstream sent none.
    AppendIfAbsent,
    /// Always ours.
    #[default]
    Overwrite,
    /// As the upstream sent it, or none.
    PassThrough,
}

/// `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// As any other.
    #[default]
    Allow,
    /// Taken out, the request goes on.
    Drop,
    /// The request is refused with 400.
    Reject,
}

/// `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// They stay.
    #[default]
    Keep,
    /// The request is refused with 400.
    Reject,
    /// They become slashes, and the request goes on.
    UnescapeAndForward,
    /// They become slashes, and the client is sent there with 307.
    UnescapeAndRedirect,
}

/// `strip_any_host_port` and `strip_matching_host_port`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripHostPort {
    /// Any port.
    Any,
    /// Only the port the listener has.
    Matching,
    /// None.
    #[default]
    None,
}
