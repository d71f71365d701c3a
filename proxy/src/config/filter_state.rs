//! Filter state that connections and requests are given (`set_filter_state`), for hash policies to go by.

use crate::config::Name;
use crate::config::access_log::Template;
use crate::config::session::SessionOverride;
use crate::config::session::SessionOverrides;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateValue {
    /// What hash policies call it.
    pub key: Name,
    /// Its text.
    pub text: Template,
    /// A command without a value gives nothing in it, instead of `-`.
    pub omits_empty: bool,
    /// Without a text there is no object, or the one there was before.
    pub skips_empty: bool,
}

/// What connections of a chain are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// Before anything of TLS is known but what its ClientHello says.
    pub at_first: Vec<StateValue>,
    /// When its handshake is over, if there is one.
    pub after_handshake: Vec<StateValue>,
}

/// The filter of a connection manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFilter {
    /// By this name routes speak of it.
    pub name: Name,
    /// What requests are given, in order.
    pub values: Vec<StateValue>,
}

impl StateFilter {
    /// Whether it acts; `levels` are from the most specific on.
    pub fn acts<'c>(&self, levels: impl IntoIterator<Item = &'c SessionOverrides>) -> bool {
        let mut levels = levels.into_iter();
        let own = levels.find_map(|level| level.iter().find(|(name, _)| *name == self.name));
        !matches!(own, Some((_, SessionOverride::Disabled)))
    }
}
