//! The one error of the data path: which side failed, why, and whether another try is safe. One
//! table turns it into status, response flag, details and text, in Envoy's words.

use std::fmt;

use http::StatusCode;

use crate::telemetry::ResponseFlag;

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// This proxy or its configuration.
    Local,
    /// The backend.
    Upstream,
}

/// Whether another try is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Only if the connection had carried another exchange before.
    IfReused,
    /// Never by itself.
    No,
    /// The upstream cannot have acted on it.
    Yes,
}

/// Why an exchange failed. Each reason has one row in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A breaker refuses what its cluster would get; the text says why.
    BreakerOpen(&'static str),
    /// A connection could not be made.
    ConnectFailed,
    /// A connection was not made in time.
    ConnectTimeout,
    /// The client went away.
    DownstreamGone,
    /// The client's HTTP is broken; the text says how.
    DownstreamProtocol(&'static str),
    /// The request's head or body took too long.
    DownstreamTimeout,
    /// All of it took longer than it may.
    DurationTimeout,
    /// The client speaks HTTP/1.0 or older, which is not accepted.
    DownstreamVersion,
    /// The certificate has ended that the connection to the upstream stood on.
    CertificateEnded,
    /// It held much when memory ran short.
    HeldTooMuch,
    /// The host has left, and its drain time is over.
    HostLeft,
    /// The control plane wants requests of the cluster dropped, all of them or a part.
    Dropped {
        /// No request is tried.
        all: bool,
    },
    /// The request is for another host than the one its connection was made to.
    Misdirected,
    /// The route names a cluster that does not exist.
    NoCluster,
    /// The cluster has no usable member.
    NoHealthyUpstream,
    /// No route matches.
    NoRoute,
    /// A limit of the cluster is reached.
    Overflow,
    /// Nothing moved on an attempt for longer than one may be silent.
    PerTryIdleTimeout,
    /// An attempt took longer than one may.
    PerTryTimeout,
    /// The overload manager ends connections of HTTP/1 that bring requests.
    Aborted,
    /// The overload manager refuses requests.
    Overloaded,
    /// The client stopped in the middle of its request.
    RequestIdle,
    /// Nothing moved on the stream.
    StreamIdle,
    /// The request may not go on as another protocol.
    UpgradeRefused,
    /// The upstream closed the connection.
    UpstreamClosed,
    /// The upstream's HTTP is broken.
    UpstreamProtocol,
    /// The upstream refused the stream before looking at it.
    UpstreamRefused,
    /// The upstream reset the stream.
    UpstreamReset,
    /// The route's timeout passed.
    UpstreamTimeout,
}

/// A failed exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyError {
    /// Who is to blame.
    pub side: Side,
    /// Why.
    pub reason: Reason,
    /// Whether another try is safe.
    pub retry: Retry,
}

/// How a reason is told to the client and to the log.
#[derive(Clone, Copy, Debug)]
pub struct Telling {
    /// The status of the local reply.
    pub status: StatusCode,
    /// The flag in logs and metrics.
    pub flag: Option<ResponseFlag>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// The body of the local reply.
    pub text: &'static str,
}

impl Reason {
    /// Its row of the table.
    #[expect(clippy::too_many_lines, reason = "one table")]
    pub fn telling(self) -> Telling {
        let row = |status, flag, details, text| Telling {
            status,
            flag,
            details,
            text,
        };
        match self {
            Self::BreakerOpen(details) => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamOverflow),
                details,
                "circuit breaker open",
            ),
            Self::ConnectFailed => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamConnectionFailure),
                "upstream_reset_before_response_started{remote_connection_failure}",
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
            ),
            Self::ConnectTimeout => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamConnectionFailure),
                "upstream_reset_before_response_started{connection_timeout}",
                "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
            ),
            Self::DownstreamGone => row(
                StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
                Some(ResponseFlag::DownstreamConnectionTermination),
                "downstream_remote_disconnect",
                "",
            ),
            Self::DownstreamProtocol(details) => row(
                StatusCode::BAD_REQUEST,
                Some(ResponseFlag::DownstreamProtocolError),
                details,
                "",
            ),
            Self::DownstreamTimeout => row(
                StatusCode::REQUEST_TIMEOUT,
                None,
                "request_overall_timeout",
                "request timeout",
            ),
            Self::DurationTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                None, // as with Envoy
                "max_duration_timeout",
                "downstream duration timeout",
            ),
            Self::DownstreamVersion => row(
                StatusCode::UPGRADE_REQUIRED,
                Some(ResponseFlag::DownstreamProtocolError),
                "low_version",
                "",
            ),
            Self::Dropped { all: false } => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::DropOverload),
                "drop_overload",
                "drop overload",
            ),
            Self::Dropped { all: true } => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UnconditionalDropOverload),
                "unconditional_drop_overload",
                "unconditional drop overload",
            ),
            Self::CertificateEnded => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamConnectionTermination),
                "upstream_certificate_ended",
                "the certificate of the connection to the upstream has ended; see /certs",
            ),
            // Told to logs alone: the stream is reset.
            Self::HeldTooMuch => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::OverloadManagerTerminated),
                "overload",
                "",
            ),
            Self::HostLeft => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamConnectionTermination),
                "upstream_host_left",
                "the upstream host has left, and its drain time is over",
            ),
            Self::Misdirected => row(
                StatusCode::MISDIRECTED_REQUEST,
                None,
                "misdirected_request",
                "this connection is for another host",
            ),
            Self::NoCluster => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::NoClusterFound),
                "cluster_not_found",
                "",
            ),
            Self::NoHealthyUpstream => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::NoHealthyUpstream),
                "no_healthy_upstream",
                "no healthy upstream",
            ),
            Self::NoRoute => row(
                StatusCode::NOT_FOUND,
                Some(ResponseFlag::NoRouteFound),
                "route_not_found",
                "",
            ),
            Self::Overflow => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamOverflow),
                "upstream_reset_before_response_started{overflow}",
                "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            ),
            Self::PerTryIdleTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                Some(ResponseFlag::UpstreamRequestTimeout),
                "upstream_per_try_idle_timeout",
                "upstream request timeout",
            ),
            Self::PerTryTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                Some(ResponseFlag::UpstreamRequestTimeout),
                "upstream_per_try_timeout",
                "upstream request timeout",
            ),
            Self::Aborted => row(
                StatusCode::INTERNAL_SERVER_ERROR,
                Some(ResponseFlag::DownstreamProtocolError),
                "overload",
                "Internal Server Error",
            ),
            Self::Overloaded => row(
                StatusCode::SERVICE_UNAVAILABLE,
                None,
                "overload",
                "overloaded",
            ),
            Self::RequestIdle => row(
                StatusCode::REQUEST_TIMEOUT,
                Some(ResponseFlag::StreamIdleTimeout),
                "stream_idle_timeout",
                "stream timeout",
            ),
            Self::StreamIdle => row(
                StatusCode::GATEWAY_TIMEOUT,
                Some(ResponseFlag::StreamIdleTimeout),
                "stream_idle_timeout",
                "stream timeout",
            ),
            Self::UpgradeRefused => row(StatusCode::FORBIDDEN, None, "upgrade_failed", ""),
            Self::UpstreamClosed => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamConnectionTermination),
                "upstream_reset_before_response_started{connection_termination}",
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            ),
            Self::UpstreamProtocol => row(
                StatusCode::BAD_GATEWAY,
                Some(ResponseFlag::UpstreamProtocolError),
                "upstream_reset_before_response_started{protocol_error}",
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error",
            ),
            Self::UpstreamRefused => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamRemoteReset),
                "upstream_reset_before_response_started{remote_refused_stream_reset}",
                "upstream connect error or disconnect/reset before headers. reset reason: remote refused stream reset",
            ),
            Self::UpstreamReset => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Some(ResponseFlag::UpstreamRemoteReset),
                "upstream_reset_before_response_started{remote_reset}",
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset",
            ),
            Self::UpstreamTimeout => row(
                StatusCode::GATEWAY_TIMEOUT,
                Some(ResponseFlag::UpstreamRequestTimeout),
                "response_timeout",
                "upstream request timeout",
            ),
        }
    }

    /// Whether the client's connection cannot be used after the answer: its framing is in doubt, or
    /// the rest of its request is still on the way.
    pub fn ends_connection(self) -> bool {
        match self {
            Self::Aborted
            | Self::DownstreamGone
            | Self::DownstreamProtocol(_)
            | Self::DownstreamTimeout
            | Self::DownstreamVersion
            | Self::HeldTooMuch
            | Self::RequestIdle => true,
            Self::BreakerOpen(_)
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::Dropped { .. }
            | Self::DurationTimeout
            | Self::CertificateEnded
            | Self::HostLeft
            | Self::Misdirected
            | Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::NoRoute
            | Self::Overflow
            | Self::PerTryIdleTimeout
            | Self::PerTryTimeout
            | Self::Overloaded
            | Self::StreamIdle
            | Self::UpgradeRefused
            | Self::UpstreamClosed
            | Self::UpstreamProtocol
            | Self::UpstreamRefused
            | Self::UpstreamReset
            | Self::UpstreamTimeout => false,
        }
    }

    fn verdict(self) -> (Side, Retry) {
        match self {
            Self::ConnectFailed | Self::ConnectTimeout | Self::UpstreamRefused => {
                (Side::Upstream, Retry::Yes)
            }
            Self::DownstreamGone
            | Self::DownstreamProtocol(_)
            | Self::DownstreamTimeout
            | Self::DownstreamVersion
            | Self::Misdirected
            | Self::RequestIdle
            | Self::UpgradeRefused => (Side::Downstream, Retry::No),
            Self::Aborted
            | Self::BreakerOpen(_)
            | Self::Dropped { .. }
            | Self::DurationTimeout
            | Self::HeldTooMuch
            | Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::NoRoute
            | Self::Overflow
            | Self::Overloaded
            | Self::StreamIdle => (Side::Local, Retry::No),
            Self::UpstreamClosed => (Side::Upstream, Retry::IfReused),
            Self::CertificateEnded
            | Self::HostLeft
            | Self::PerTryIdleTimeout
            | Self::PerTryTimeout
            | Self::UpstreamProtocol
            | Self::UpstreamReset
            | Self::UpstreamTimeout => (Side::Upstream, Retry::No),
        }
    }
}

impl From<Reason> for ProxyError {
    fn from(reason: Reason) -> Self {
        let (side, retry) = reason.verdict();
        Self {
            side,
            reason,
            retry,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.telling().details)
    }
}

impl std::error::Error for ProxyError {}
