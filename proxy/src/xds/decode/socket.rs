//! `SocketOption` and what else is set on listening sockets.

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::socket_option::SocketIpVersion;
use xds_proto::pb::envoy::config::core::v3::socket_option::SocketState;
use xds_proto::pb::envoy::config::core::v3::socket_option::SocketType;
use xds_proto::pb::envoy::config::core::v3::socket_option::Value;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use super::value;
use crate::config::socket::Family;
use crate::config::socket::Moment;
use crate::config::socket::SocketOption;

/// Largest value of an option: what no option of the system exceeds but tables of filters.
const VALUE_BYTES_MAX: usize = 4096;

/// Reads an option; none if it is for sockets that no listener here has.
pub(crate) fn option(context: &mut Context, option: core::SocketOption) -> Option<SocketOption> {
    let core::SocketOption {
        description: _,
        level,
        name,
        state,
        r#type,
        ip_version,
        value,
    } = option;
    let (Ok(level), Ok(name)) = (i32::try_from(level), i32::try_from(name)) else {
        return context.refuse("name", format!("{level}/{name} is no option of any system"));
    };
    let moment = match value::enumeration(context, "state", state)? {
        SocketState::StatePrebind => Moment::Unbound,
        SocketState::StateBound => Moment::Bound,
        SocketState::StateListening => Moment::Listening,
    };
    let family = match value::enumeration(context, "ip_version", ip_version)? {
        SocketIpVersion::Unspecified => None,
        SocketIpVersion::Ipv4 => Some(Family::V4),
        SocketIpVersion::Ipv6 => Some(Family::V6),
    };
    let value = bytes(context, value)?;
    if is_for_datagrams(r#type) {
        return None;
    }
    Some(SocketOption {
        level,
        name,
        value,
        moment,
        family,
    })
}

/// As the system reads it.
fn bytes(context: &mut Context, value: Option<Value>) -> Option<Box<[u8]>> {
    match value {
        Some(Value::IntValue(number)) => {
            let signed = i32::try_from(number).ok();
            let number = signed.or_else(|| u32::try_from(number).ok().map(u32::cast_signed));
            let Some(number) = number else {
                return context.refuse("int_value", "does not fit into 32 bits");
            };
            Some(Box::new(number.to_ne_bytes()))
        }
        Some(Value::BufValue(bytes)) if bytes.len() > VALUE_BYTES_MAX => context.refuse(
            "buf_value",
            format!("is longer than {VALUE_BYTES_MAX} bytes"),
        ),
        Some(Value::BufValue(bytes)) => Some(bytes.into()),
        None => context.refuse("", "needs a value"),
    }
}

/// Of both, which makes little sense, the first counts, as in Envoy.
fn is_for_datagrams(kind: Option<SocketType>) -> bool {
    kind.is_some_and(|SocketType { stream, datagram }| stream.is_none() && datagram.is_some())
}

/// Reads `TcpKeepalive`; without values it turns probes on as the system has them, with a zero anywhere
/// it leaves them off.
pub(crate) fn keepalive(context: &mut Context, keepalive: core::TcpKeepalive) -> Vec<SocketOption> {
    let core::TcpKeepalive {
        keepalive_probes,
        keepalive_time,
        keepalive_interval,
    } = keepalive;
    let values = [&keepalive_probes, &keepalive_time, &keepalive_interval];
    let is_zero = |value: &&Option<_>| matches!(value, Some(UInt32Value { value: 0 }));
    if values.iter().any(is_zero) {
        return Vec::new(); // an option that turns them on stands, as in Envoy
    }
    let bounds = (1, 32_767); // the system's
    let probes = value::number(context, "keepalive_probes", keepalive_probes, bounds);
    let time = value::number(context, "keepalive_time", keepalive_time, bounds);
    let interval = value::number(context, "keepalive_interval", keepalive_interval, bounds);
    let values = [
        (libc::TCP_KEEPIDLE, time),
        (libc::TCP_KEEPINTVL, interval),
        (libc::TCP_KEEPCNT, probes),
    ];
    let mut options = vec![SocketOption::number(
        libc::SOL_SOCKET,
        libc::SO_KEEPALIVE,
        1,
    )];
    options.extend(values.into_iter().filter_map(|(name, value)| {
        let number = i32::try_from(value?).ok()?;
        Some(SocketOption::number(libc::IPPROTO_TCP, name, number))
    }));
    options
}

/// `tcp_fast_open_queue_length`: handshakes that may be open; zero turns it off, as in Envoy.
pub(crate) fn fast_open(
    context: &mut Context,
    length: Option<UInt32Value>,
) -> Option<SocketOption> {
    let field = "tcp_fast_open_queue_length";
    let length = value::number(context, field, length, (0, i32::MAX.cast_unsigned()))?;
    let mut option = SocketOption::number(libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 0);
    option.value = Box::new(length.to_ne_bytes());
    option.moment = Moment::Listening;
    Some(option)
}
