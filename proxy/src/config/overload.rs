//! What is watched, and what is done about it (`envoy.config.overload.v3.OverloadManager`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Name;

/// As configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Overload {
    /// Between two looks.
    pub refresh_interval: Duration,
    /// What is looked at.
    pub monitors: Vec<Monitor>,
    /// What is done.
    pub actions: Vec<ActionRule>,
    /// Where load is shed.
    pub points: Vec<PointRule>,
    /// How short timeouts get when they are reduced.
    pub timeouts: Vec<(Timeout, Least)>,
    /// Downstream connections of the process, if a monitor limits them.
    pub connections_max: Option<usize>,
    /// Streams that hold less than this power of two are not reset.
    pub tracked_from_power: u32,
}

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    /// Its name in triggers and statistics.
    pub name: Name,
    /// What it is.
    pub kind: MonitorKind,
}

/// What there is to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorKind {
    /// Memory of the control group, against its limit or less.
    CgroupMemory {
        /// Instead of the group's own limit, if that is higher.
        bytes_max: Option<u64>,
    },
    /// How busy the processors are.
    Cpu {
        /// Against what the control group may use, not against the machine.
        of_container: bool,
    },
    /// Private memory of the process.
    FixedHeap {
        /// All of it.
        bytes_max: u64,
    },
    /// What a file says.
    Injected {
        /// Holds a number between 0 and 1.
        file: Arc<Path>,
    },
}

/// What is done when there is too little of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connections end after the answers to what they brought.
    DisableKeepalive,
    /// Less time is given to those who are silent.
    ReduceTimeouts,
    /// New connections are closed at once.
    RejectConnections,
    /// Streams that hold much are reset.
    ResetStreams,
    /// Idle upstream connections are closed, and freed memory is given back.
    ShrinkHeap,
    /// New connections wait.
    StopAcceptingConnections,
    /// New requests are answered with 503.
    StopAcceptingRequests,
}

impl Action {
    /// All of them, in the order of [`Action::place`].
    pub const ALL: [Self; 7] = [
        Self::DisableKeepalive,
        Self::ReduceTimeouts,
        Self::RejectConnections,
        Self::ResetStreams,
        Self::ShrinkHeap,
        Self::StopAcceptingConnections,
        Self::StopAcceptingRequests,
    ];

    /// Envoy's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DisableKeepalive => "envoy.overload_actions.disable_http_keepalive",
            Self::ReduceTimeouts => "envoy.overload_actions.reduce_timeouts",
            Self::RejectConnections => "envoy.overload_actions.reject_incoming_connections",
            Self::ResetStreams => "envoy.overload_actions.reset_high_memory_stream",
            Self::ShrinkHeap => "envoy.overload_actions.shrink_heap",
            Self::StopAcceptingConnections => "envoy.overload_actions.stop_accepting_connections",
            Self::StopAcceptingRequests => "envoy.overload_actions.stop_accepting_requests",
        }
    }

    /// Its place in [`Action::ALL`].
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }

    /// Whether it can be done to a part of what comes.
    #[must_use]
    pub const fn scales(self) -> bool {
        match self {
            Self::DisableKeepalive
            | Self::ReduceTimeouts
            | Self::RejectConnections
            | Self::ResetStreams
            | Self::StopAcceptingRequests => true,
            Self::ShrinkHeap | Self::StopAcceptingConnections => false,
        }
    }
}

/// A place on the way of a connection or a request where it may be refused (`LoadShedPoint`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedPoint {
    /// A connection that was accepted is closed.
    Accept,
    /// A connection whose first byte came is closed; over TLS where ALPN agreed, before that byte.
    Codec,
    /// A request of HTTP/1 is answered with 500, and its connection is closed. It is asked once the head
    /// of a request is there.
    Http1Dispatch,
    /// A connection that brings something is closed at once.
    GoAwayAndClose,
    /// A connection that brings a request ends after it: HTTP/2 is told by GOAWAY.
    GoAway,
    /// A request is answered with 503.
    Headers,
    /// The same, once it has a route and a cluster.
    Routed,
    /// No connection to an upstream is made: a request that needs one is answered with 503.
    NewConnection,
}

impl ShedPoint {
    /// All of them, in the order of [`ShedPoint::place`].
    pub const ALL: [Self; 8] = [
        Self::Accept,
        Self::Codec,
        Self::Http1Dispatch,
        Self::GoAwayAndClose,
        Self::GoAway,
        Self::Headers,
        Self::Routed,
        Self::NewConnection,
    ];

    /// Envoy's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "envoy.load_shed_points.tcp_listener_accept",
            Self::Codec => "envoy.load_shed_points.hcm_ondata_creating_codec",
            Self::Http1Dispatch => "envoy.load_shed_points.http1_server_abort_dispatch",
            Self::GoAwayAndClose => {
                "envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch"
            }
            Self::GoAway => "envoy.load_shed_points.http2_server_go_away_on_dispatch",
            Self::Headers => "envoy.load_shed_points.http_connection_manager_decode_headers",
            Self::Routed => "envoy.load_shed_points.http_downstream_filter_check",
            Self::NewConnection => "envoy.load_shed_points.connection_pool_new_connection",
        }
    }

    /// Its place in [`ShedPoint::ALL`].
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }
}

/// A timeout that can be reduced (`ScaleTimersOverloadActionConfig.TimerType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Of a client's connection without requests.
    ConnectionIdle,
    /// Of a client's connection, whatever it does.
    ConnectionMax,
    /// Of a complete answer whose client takes nothing.
    StreamFlush,
    /// Of a stream on which nothing moves.
    StreamIdle,
    /// Of a client's handshake, as it is when that begins.
    TransportConnect,
}

impl Timeout {
    /// All of them, in the order of [`Timeout::place`].
    pub const ALL: [Self; 5] = [
        Self::ConnectionIdle,
        Self::ConnectionMax,
        Self::StreamFlush,
        Self::StreamIdle,
        Self::TransportConnect,
    ];

    /// Its place in [`Timeout::ALL`].
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }
}

/// What is left of a timeout when it is reduced in full force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Least {
    /// So much of it: 1 is all.
    Part(f64),
    /// So long, if it is not shorter anyway.
    Time(Duration),
}

impl Least {
    /// What is left of `max` at this strength, which is between 0 and 1.
    #[must_use]
    pub fn of(self, max: Duration, strength: f64) -> Duration {
        let least = match self {
            Self::Part(part) => max.mul_f64(part),
            Self::Time(time) => time.min(max),
        };
        // The product of a long time is rounded, and may be a little more than all of it.
        let less = max.saturating_sub(least).mul_f64(strength);
        max.saturating_sub(less)
    }
}

/// When an action is taken: as much as the strongest of its triggers says.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionRule {
    /// What is done.
    pub action: Action,
    /// When.
    pub triggers: Triggers,
}

/// When load is shed somewhere: as much as the strongest of its triggers says.
#[derive(Clone, Debug, PartialEq)]
pub struct PointRule {
    /// Where.
    pub point: ShedPoint,
    /// When.
    pub triggers: Triggers,
}

/// Places of monitors, and how much is done at which pressure.
pub type Triggers = Vec<(usize, Level)>;

/// How pressure, which is 1 when nothing is left, becomes action, which is 1 when it is in full force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// In full force from here on.
    From(f64),
    /// Begins to act, and acts in full force.
    Between(f64, f64),
}

impl Level {
    /// How much is done at this pressure.
    #[must_use]
    pub fn at(self, pressure: f64) -> f64 {
        match self {
            Self::From(value) => f64::from(u8::from(pressure >= value)),
            Self::Between(begin, full) => ((pressure - begin) / (full - begin)).clamp(0.0, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Duration;
    use super::Least;

    proptest! {
        #[test]
        fn what_is_left_is_never_more_than_there_was(
            (secs, nanos) in (0_u64..400_000_000_000, 0_u32..1_000_000_000),
            part in prop_oneof![Just(1.0), 0.0..=1.0_f64],
            strength in prop_oneof![Just(1.0), 0.0..=1.0_f64],
        ) {
            let max = Duration::new(secs, nanos);
            for least in [Least::Part(part), Least::Time(max.mul_f64(part))] {
                prop_assert!(least.of(max, strength) <= max);
            }
        }
    }
}
