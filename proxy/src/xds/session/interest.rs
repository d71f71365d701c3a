//! What is asked for of one resource type.

use std::collections::BTreeSet;

use crate::config::Name;

/// The subscription of one resource type: everything the control plane has for this node, single
/// names, or both (B-40).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Everything the control plane thinks right for this node.
    pub wildcard: bool,
    /// These, besides.
    pub names: BTreeSet<Name>,
}

impl Interest {
    /// Everything for this node.
    pub fn wildcard() -> Self {
        Self {
            wildcard: true,
            names: BTreeSet::new(),
        }
    }

    /// Just these.
    pub fn names<N: Into<Name>>(names: impl IntoIterator<Item = N>) -> Self {
        Self {
            wildcard: false,
            names: names.into_iter().map(Into::into).collect(),
        }
    }

    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        !self.wildcard && self.names.is_empty()
    }

    /// A resource of this name is wanted, as far as the client can tell.
    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}
