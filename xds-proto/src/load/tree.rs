//! A file as a tree of scalars, lists and mappings, every node with its place.
//!
//! Knows nothing of messages. A plain scalar keeps its source text: what it means depends on the field it fills.

use std::sync::Arc;

/// A place in the text, from 1, with the length of what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) width: u32,
}

impl Mark {
    /// The beginning of a text, also where there is no text.
    pub(crate) const START: Self = Self {
        line: 1,
        column: 1,
        width: 1,
    };
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Tree,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Mapping(Vec<Entry>),
    Scalar(Scalar),
    Sequence(Vec<Node>),
}

/// A member of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
}

/// A leaf as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// The text, quotes and escapes resolved.
    pub(crate) text: Arc<str>,
    /// Neither quoted nor a block: may mean a number, a boolean or null.
    pub(crate) plain: bool,
}

impl Node {
    pub(crate) fn plain(text: &str, mark: Mark) -> Self {
        Self {
            mark,
            value: Tree::Scalar(Scalar {
                text: Arc::from(text),
                plain: true,
            }),
        }
    }

    pub(crate) fn quoted(text: &str, mark: Mark) -> Self {
        Self {
            mark,
            value: Tree::Scalar(Scalar {
                text: Arc::from(text),
                plain: false,
            }),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Tree::Scalar(scalar) if scalar.is_null())
    }

    /// The node in words, for "expected this, found that".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Tree::Mapping(_) => "a mapping".to_owned(),
            Tree::Scalar(scalar) => scalar.describe(),
            Tree::Sequence(_) => "a list".to_owned(),
        }
    }
}

impl Scalar {
    /// Absent, as YAML and JSON write it.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }

    /// True or false in YAML 1.2 and JSON.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match &*self.text {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    pub(crate) fn describe(&self) -> String {
        /// Enough of a string to recognize it by.
        const SHOWN_MAX: usize = 40;
        let shown: String = self.text.chars().take(SHOWN_MAX).collect();
        let dots = if self.text.chars().nth(SHOWN_MAX).is_some() {
            "..."
        } else {
            ""
        };
        if self.is_null() {
            "nothing".to_owned()
        } else if self.as_bool().is_some() {
            format!("the boolean `{shown}`")
        } else if self.plain && self.text.parse::<f64>().is_ok() {
            format!("the number `{shown}`")
        } else {
            format!("the string \"{}{dots}\"", shown.escape_debug())
        }
    }
}
