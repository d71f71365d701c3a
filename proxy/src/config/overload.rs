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
    pub const ALL: [Self; 6] = [
        Self::DisableKeepalive,
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
            | Self::RejectConnections
            | Self::ResetStreams
            | Self::StopAcceptingRequests => true,
            Self::ShrinkHeap | Self::StopAcceptingConnections => false,
        }
    }
}

/// When an action is taken: as much as the strongest of its triggers says.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionRule {
    /// What is done.
    pub action: Action,
    /// When; the place of a monitor, and how much of it.
    pub triggers: Vec<(usize, Level)>,
}

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
