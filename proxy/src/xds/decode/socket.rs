//! `SocketOption` and what else is set on listening sockets.

use std::time::Duration;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::socket_option::SocketState;
use xds_proto::pb::envoy::config::core::v3::socket_option::Value;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use super::value;
use crate::config::socket::SocketOption;

/// Reads an option; none if it is one we do not know.
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
    if r#type.is_some() {
        context.warn("type", "not supported, has no effect");
    }
    let ip_version = ip_version != 0;
    unsupported!(context, warn: ip_version);
    if value::enumeration::<SocketState>(context, "state", state)? != SocketState::StatePrebind {
        context.warn(
            "state",
            "has no effect, all are set before the socket is bound",
        );
    }
    let number = match value {
        Some(Value::IntValue(number)) => number,
        Some(Value::BufValue(_)) => return context.unsupported("buf_value", "not supported"),
        None => return context.refuse("", "needs a value"),
    };
    let known = match (u32::try_from(number), usize::try_from(number)) {
        (Ok(number), Ok(size)) => known(level, name, number, size),
        _ => return context.refuse("int_value", format!("{number} is out of bounds")),
    };
    if known.is_none() {
        context.warn("name", "this option is not supported, has no effect");
    }
    known
}

/// By the numbers of Linux on all its 64-bit architectures in use.
fn known(level: i64, name: i64, number: u32, size: usize) -> Option<SocketOption> {
    let seconds = Duration::from_secs(number.into());
    Some(match (level, name) {
        (0, 1) => SocketOption::TypeOfService(number),
        (1, 7) => SocketOption::SendBuffer(size),
        (1, 8) => SocketOption::ReceiveBuffer(size),
        (1, 9) => SocketOption::Keepalive(number != 0),
        (1, 12) => SocketOption::Priority(number),
        (1, 36) => SocketOption::Mark(number),
        (6, 4) => SocketOption::TcpKeepaliveIdle(seconds),
        (6, 5) => SocketOption::TcpKeepaliveInterval(seconds),
        (6, 6) => SocketOption::TcpKeepaliveCount(number),
        (6, 18) => SocketOption::TcpUserTimeout(Duration::from_millis(number.into())),
        _ => return None,
    })
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
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let mut options = vec![SocketOption::Keepalive(true)];
    options.extend(time.map(seconds).map(SocketOption::TcpKeepaliveIdle));
    options.extend(
        interval
            .map(seconds)
            .map(SocketOption::TcpKeepaliveInterval),
    );
    options.extend(probes.map(SocketOption::TcpKeepaliveCount));
    options
}
