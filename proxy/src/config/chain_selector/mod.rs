//! Which filter chain takes a connection: compiled once, looked up without a lock.
//!
//! | file | holds |
//! |---|---|
//! | `index` | the conditions of the chains themselves (`filter_chain_match`) |
//! | `tree` | one decision tree for all chains (`filter_chain_matcher`) |

mod index;
#[cfg(test)]
mod tests;
mod tree;

pub use index::ChainIndex;
pub use index::Overlap;
pub use tree::Decision;
pub use tree::Input;
pub use tree::Node;
pub use tree::Outcome;
pub use tree::Range;
pub use tree::Tree;

use crate::downstream::Downstream;

/// How a listener chooses a chain. Chains are numbers: their places in the listener.
#[derive(Clone, Debug, PartialEq)]
pub enum ChainSelector {
    /// By the conditions of each chain.
    Index(ChainIndex),
    /// By a decision tree.
    Tree(Tree),
}

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The chain with this number.
    Chain(usize),
    /// The default chain, if there is one.
    Default,
    /// A chain that does not exist.
    Nothing,
}

impl Default for ChainSelector {
    /// Chooses the default chain always.
    fn default() -> Self {
        Self::Index(ChainIndex::default())
    }
}

impl ChainSelector {
    /// The chain for a connection.
    pub fn choose(&self, downstream: &Downstream) -> Choice {
        match self {
            Self::Index(index) => index
                .find(downstream)
                .map_or(Choice::Default, Choice::Chain),
            Self::Tree(tree) => tree.choose(downstream),
        }
    }
}
