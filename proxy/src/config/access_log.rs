//! Where and in what form exchanges are logged, and the `%COMMAND%` templates used there and in
//! header edits.

use std::path::PathBuf;

use crate::config::tls_fact::Side;
use crate::config::tls_fact::TlsFact;

/// One access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where entries go.
    pub sink: Sink,
    /// What an entry looks like.
    pub format: Format,
}

/// Where entries go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sink {
    /// Appended to a file, reopened on USR1.
    File(PathBuf),
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

/// What an entry looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// One JSON object per line; keys in the order given.
    Json {
        /// The members.
        fields: Vec<(Box<str>, JsonValue)>,
        /// Leave out members whose command has no value, instead of `null`.
        omit_empty: bool,
    },
    /// Text, as given (Envoy's default format ends with a line feed).
    Text(Template),
}

/// A member of a JSON entry.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonValue {
    /// A literal.
    Bool(bool),
    /// A literal.
    Null,
    /// A literal.
    Number(f64),
    /// A nested object.
    Object(Vec<(Box<str>, Self)>),
    /// Text with commands; a template that is one single numeric command gives a JSON number.
    Template(Template),
}

/// Literal text and commands in turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// In order of appearance.
    pub parts: Vec<TemplatePart>,
}

/// One part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// A `%COMMAND%`, with the longest number of bytes it may give (`%REQ(X):10%`).
    Command(Command, Option<usize>),
    /// Text.
    Literal(Box<str>),
}

/// How filter state is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterState {
    /// `FIELD:KEY`: one value.
    Field(Box<str>),
    /// `PLAIN`: all as text.
    Plain,
    /// `TYPED`: all as an object.
    Typed,
}

/// Envoy's command operators that are supported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `ACCESS_LOG_TYPE`: why the entry is written.
    AccessLogType,
    /// `BYTES_RECEIVED`: body bytes from the downstream.
    BytesReceived,
    /// `BYTES_SENT`: body bytes to the downstream.
    BytesSent,
    /// `CONNECTION_ID`.
    ConnectionId,
    /// `CONNECTION_TERMINATION_DETAILS`.
    ConnectionTerminationDetails,
    /// `DOWNSTREAM_DIRECT_REMOTE_ADDRESS`.
    DownstreamDirectRemoteAddress,
    /// `DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT`.
    DownstreamDirectRemoteAddressWithoutPort,
    /// `DOWNSTREAM_LOCAL_ADDRESS`.
    DownstreamLocalAddress,
    /// `DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT`.
    DownstreamLocalAddressWithoutPort,
    /// `DOWNSTREAM_LOCAL_PORT`.
    DownstreamLocalPort,
    /// `DOWNSTREAM_REMOTE_ADDRESS`.
    DownstreamRemoteAddress,
    /// `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`.
    DownstreamRemoteAddressWithoutPort,
    /// `DOWNSTREAM_REMOTE_PORT`.
    DownstreamRemotePort,
    /// `DOWNSTREAM_TRANSPORT_FAILURE_REASON`, which only connections have, not requests.
    DownstreamTransportFailureReason,
    /// `DURATION`: whole exchange, milliseconds.
    Duration,
    /// `DYNAMIC_METADATA(NAMESPACE:KEY)` of a connection; requests have none.
    DynamicMetadata {
        /// Whose it is.
        namespace: Box<str>,
        /// Which one; all as an object if there is none.
        key: Option<Box<str>>,
    },
    /// `FILTER_STATE(KEY:FIELD)` of a connection, for the one key there is.
    FilterState(FilterState),
    /// `HOSTNAME` of this machine.
    Hostname,
    /// What never has a value here: `VIRTUAL_CLUSTER_NAME`, ids of TLS sessions.
    Nothing,
    /// `PROTOCOL` of the downstream.
    Protocol,
    /// `REQ(NAME?ALTERNATIVE)`.
    Req {
        /// The header, lower case; `:path` and its like are allowed.
        name: Box<str>,
        /// Used if the first is not there.
        alternative: Option<Box<str>>,
    },
    /// `REQUESTED_SERVER_NAME`: what the TLS inspector found.
    RequestedServerName,
    /// `REQUEST_DURATION`: first to last byte of the request, milliseconds.
    RequestDuration,
    /// `REQUEST_HEADERS_BYTES`.
    RequestHeadersBytes,
    /// `RESP(NAME?ALTERNATIVE)`.
    Resp {
        /// The header, lower case.
        name: Box<str>,
        /// Used if the first is not there.
        alternative: Option<Box<str>>,
    },
    /// `RESPONSE_CODE`.
    ResponseCode,
    /// `RESPONSE_CODE_DETAILS`.
    ResponseCodeDetails,
    /// `RESPONSE_DURATION`: start to first response byte from the upstream, milliseconds.
    ResponseDuration,
    /// `RESPONSE_FLAGS`, short.
    ResponseFlags,
    /// `RESPONSE_FLAGS_LONG`.
    ResponseFlagsLong,
    /// `RESPONSE_TX_DURATION`: first upstream byte to last downstream byte, milliseconds.
    ResponseTxDuration,
    /// `ROUTE_NAME`.
    RouteName,
    /// `START_TIME(FORMAT)`: strftime with Envoy's `%3f`, `%s` and so on; none is ISO 8601 with
    /// milliseconds.
    StartTime(Option<Box<str>>),
    /// `DOWNSTREAM_TLS_VERSION` and its like, of either side.
    Tls(Side, TlsFact),
    /// `TRAILER(NAME?ALTERNATIVE)` of the response.
    Trailer {
        /// The trailer, lower case.
        name: Box<str>,
        /// Used if the first is not there.
        alternative: Option<Box<str>>,
    },
    /// `UPSTREAM_CLUSTER`.
    UpstreamCluster,
    /// `UPSTREAM_HOST`: address and port.
    UpstreamHost,
    /// `UPSTREAM_LOCAL_ADDRESS`.
    UpstreamLocalAddress,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`.
    UpstreamRequestAttemptCount,
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`.
    UpstreamTransportFailureReason,
    /// `VIRTUAL_HOST_NAME`.
    VirtualHostName,
}
