//! What a `%COMMAND%` gives for a record.

use std::borrow::Cow;
use std::fs;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::Version;

use crate::config::access_log::Command;
use crate::config::access_log::FilterState;
use crate::config::endpoint::Address;
use crate::config::tls_fact::Side;
use crate::downstream::Label;
use crate::downstream::Metadatum;
use crate::telemetry::access_log::format;
use crate::telemetry::access_log::record::ExchangeRecord;
use crate::telemetry::access_log::tls;
use crate::telemetry::response_flag::ResponseFlags;

/// The value of a command, not yet text.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// There is none.
    Absent,
    /// `%RESPONSE_FLAGS%`.
    Flags(ResponseFlags),
    /// `%RESPONSE_FLAGS_LONG%`.
    FlagsLong(ResponseFlags),
    /// An address without its port.
    Ip(IpAddr),
    /// The only kind that is a number in JSON.
    Number(u64),
    /// The only kind that is an object in JSON.
    Object(Vec<(&'a str, &'a str)>),
    /// An address.
    Socket(SocketAddr),
    /// A time, with its format.
    Time(SystemTime, Option<&'a str>),
    /// Bytes that may come from a peer.
    Text(Cow<'a, [u8]>),
}

impl<'a> Value<'a> {
    /// What `command` gives for `record`.
    pub(super) fn of(command: &'a Command, record: &ExchangeRecord<'a>) -> Self {
        match command {
            Command::AccessLogType => bytes(record.occasion.as_str().as_bytes()),
            Command::BytesReceived => Self::Number(record.bytes_received),
            Command::BytesSent => Self::Number(record.bytes_sent),
            Command::ConnectionId => Self::Number(record.connection_id),
            Command::Duration => millis(record.duration),
            Command::DynamicMetadata { namespace, key } => {
                let of_namespace =
                    |label: &Label| !label.is_state && *label.namespace == **namespace;
                metadata(of_namespace, key.as_deref(), record.metadata)
            }
            Command::FilterState(how) => state(how, record.state),
            Command::Hostname => hostname(),
            Command::Protocol => record.protocol.map_or(Self::Absent, protocol),
            Command::RequestDuration => millis(record.request_duration),
            Command::RequestHeadersBytes => {
                Self::Number(record.request.map_or(0, |request| request.headers_bytes))
            }
            Command::ResponseCode => Self::Number(record.response_code.map_or(0, u64::from)),
            Command::ResponseDuration => millis(record.response_duration),
            Command::ResponseFlags => Self::Flags(record.flags),
            Command::ResponseFlagsLong => Self::FlagsLong(record.flags),
            Command::ResponseTxDuration => millis(record.response_tx_duration),
            Command::StartTime(format) => Self::Time(record.start, format.as_deref()),
            Command::UpstreamRequestAttemptCount => Self::Number(record.attempts.into()),
            Command::Req { .. } | Command::Resp { .. } | Command::Trailer { .. } => {
                Self::of_header(command, record)
            }
            Command::Tls(side, fact) => {
                let tls = match side {
                    Side::Downstream => record.downstream_tls,
                    Side::Upstream => record.upstream_tls,
                };
                tls.map_or(Self::Absent, |tls| tls::value(fact, tls))
            }
            _ => Self::of_text_or_address(command, record),
        }
    }

    fn of_header(command: &Command, record: &ExchangeRecord<'a>) -> Self {
        let (name, alternative, find): (_, _, fn(&ExchangeRecord<'a>, &str) -> _) = match command {
            Command::Req { name, alternative } => (name, alternative, request_field),
            Command::Resp { name, alternative } => (name, alternative, |record, name| {
                response_field(record, name)
            }),
            Command::Trailer { name, alternative } => (name, alternative, |record, name| {
                field(record.response_trailers?, name)
            }),
            _ => return Self::Absent,
        };
        let other = || find(record, alternative.as_deref()?);
        find(record, name)
            .or_else(other)
            .map_or(Self::Absent, bytes)
    }

    fn of_text_or_address(command: &Command, record: &ExchangeRecord<'a>) -> Self {
        let local = record.downstream_local_address;
        let remote = record.downstream_remote_address;
        let direct = record.downstream_direct_remote_address;
        match command {
            Command::DownstreamTransportFailureReason => {
                text(record.downstream_transport_failure_reason)
            }
            Command::ConnectionTerminationDetails => text(record.connection_termination_details),
            Command::DownstreamDirectRemoteAddress => socket(direct),
            Command::DownstreamDirectRemoteAddressWithoutPort => ip(direct),
            Command::DownstreamLocalAddress => socket(local),
            Command::DownstreamLocalAddressWithoutPort => ip(local),
            Command::DownstreamLocalPort => port(local),
            Command::DownstreamRemoteAddress => socket(remote),
            Command::DownstreamRemoteAddressWithoutPort => ip(remote),
            Command::DownstreamRemotePort => port(remote),
            Command::RequestedServerName => text(record.requested_server_name),
            Command::ResponseCodeDetails => details(record),
            Command::RouteName => text(record.route_name),
            Command::UpstreamCluster => text(record.upstream_cluster),
            Command::UpstreamHost => record.upstream_host.map_or(Self::Absent, address),
            Command::UpstreamLocalAddress => socket(record.upstream_local_address),
            Command::UpstreamTransportFailureReason => {
                text(record.upstream_transport_failure_reason)
            }
            Command::VirtualHostName => text(record.virtual_host_name),
            _ => Self::Absent,
        }
    }
}

/// One piece of dynamic metadata as text, all of a namespace as an object.
fn metadata<'a>(
    is_there: impl Fn(&Label) -> bool,
    key: Option<&str>,
    all: &'a [Metadatum],
) -> Value<'a> {
    let there = all.iter().filter(|metadatum| is_there(&metadatum.label));
    if let Some(key) = key {
        let mut of_key = there.filter(|metadatum| *metadatum.label.key == *key);
        let found = of_key.next();
        return found.map_or(Value::Absent, |found| bytes(found.value.as_bytes()));
    }
    let members = there.map(|metadatum| (&*metadatum.label.key, &*metadatum.value));
    let mut members: Vec<_> = members.collect();
    if members.is_empty() {
        return Value::Absent;
    }
    members.sort_unstable();
    Value::Object(members)
}

/// What the PROXY protocol filter left as filter state.
fn state<'a>(how: &FilterState, all: &'a [Metadatum]) -> Value<'a> {
    let is_state = |label: &Label| label.is_state;
    match how {
        FilterState::Field(key) => metadata(is_state, Some(key), all),
        FilterState::Typed => metadata(is_state, None, all),
        FilterState::Plain => match metadata(is_state, None, all) {
            Value::Object(members) => {
                let mut text = Vec::new();
                format::append_object(&members, &mut text);
                Value::Text(Cow::Owned(text))
            }
            absent => absent,
        },
    }
}

fn millis<'a>(duration: Option<Duration>) -> Value<'a> {
    duration.map_or(Value::Absent, |duration| {
        Value::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    })
}

fn bytes(bytes: &[u8]) -> Value<'_> {
    Value::Text(Cow::Borrowed(bytes))
}

/// An empty name is no name.
fn text(text: Option<&str>) -> Value<'_> {
    match text {
        None | Some("") => Value::Absent,
        Some(text) => bytes(text.as_bytes()),
    }
}

/// Of a connection that was not made Envoy tells why in the braces.
fn details<'a>(record: &ExchangeRecord<'a>) -> Value<'a> {
    let reset = |details: &&str| details.starts_with("upstream_reset_before_response_started{");
    let details = record.response_code_details;
    let open = details
        .filter(reset)
        .and_then(|text| text.strip_suffix('}'));
    match open.zip(record.upstream_transport_failure_reason) {
        Some((open, why)) => Value::Text(format!("{open}|{why}}}").into_bytes().into()),
        None => text(details),
    }
}

fn socket(address: Option<SocketAddr>) -> Value<'static> {
    address.map_or(Value::Absent, Value::Socket)
}

fn ip(address: Option<SocketAddr>) -> Value<'static> {
    address.map_or(Value::Absent, |address| Value::Ip(address.ip()))
}

fn port(address: Option<SocketAddr>) -> Value<'static> {
    address.map_or(Value::Absent, |address| {
        Value::Number(address.port().into())
    })
}

fn address(address: &Address) -> Value<'_> {
    match address {
        Address::Pipe(path) => bytes(path.as_os_str().as_encoded_bytes()),
        Address::Socket(address) => Value::Socket(*address),
    }
}

fn protocol<'a>(version: Version) -> Value<'a> {
    bytes(match version {
        Version::HTTP_09 => b"HTTP/0.9",
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_11 => b"HTTP/1.1",
        Version::HTTP_2 => b"HTTP/2",
        Version::HTTP_3 => b"HTTP/3",
        _ => return Value::Absent,
    })
}

fn hostname() -> Value<'static> {
    static HOSTNAME: OnceLock<String> = OnceLock::new();
    // Once per process; the kernel answers from memory.
    let name = HOSTNAME.get_or_init(|| {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim_end().to_owned()
    });
    text(Some(name))
}

fn request_field<'a>(record: &ExchangeRecord<'a>, name: &str) -> Option<&'a [u8]> {
    let request = record.request?;
    let pseudo = match name {
        ":authority" => request.authority,
        ":method" => request.method,
        ":path" => request.path,
        ":scheme" => request.scheme,
        // HTTP/2 has no such field, and HTTP/1's is the authority.
        "host" => request.authority,
        _ => return field(request.headers, name),
    };
    (!pseudo.is_empty()).then_some(pseudo.as_bytes())
}

fn response_field<'a>(record: &ExchangeRecord<'a>, name: &str) -> Option<&'a [u8]> {
    field(record.response_headers?, name)
}

/// The first of several, as Envoy.
fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(http::HeaderValue::as_bytes)
}
