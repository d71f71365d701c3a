//! How many downstream connections may be open: in the process, at a listener, at a filter chain.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Name;
use crate::config::limits;

/// Limits of the process and its listeners, which Envoy takes from the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of all listeners together (`overload.global_downstream_max_connections`).
    pub process: usize,
    /// Of some listeners (`envoy.resource_limits.listener.<name>.connection_limit`).
    pub listeners: BTreeMap<Name, usize>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            process: limits::DOWNSTREAM_CONNECTIONS_MAX,
            listeners: BTreeMap::new(),
        }
    }
}

impl ConnectionLimits {
    /// That of the listener with this name.
    pub fn listener(&self, name: &str) -> usize {
        let own = self.listeners.get(name).copied();
        own.unwrap_or(limits::LISTENER_CONNECTIONS_MAX)
    }
}

/// `envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit`: of one filter chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Prefix of its statistics.
    pub stat_prefix: Name,
    /// Connections at the same time.
    pub max: usize,
    /// How long one too many is held before it is closed, so that it does not come again at once.
    pub delay: Option<Duration>,
}
