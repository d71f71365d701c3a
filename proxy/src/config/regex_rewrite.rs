//! Texts changed by a regular expression (`type.matcher.v3.RegexMatchAndSubstitute`).

use std::borrow::Cow;

use regex::bytes::Regex;

/// Every match is replaced.
#[derive(Clone, Debug)]
pub struct RegexRewrite {
    /// What is replaced; it may match anywhere.
    pub regex: Regex,
    /// By what, in order.
    pub parts: Vec<RewritePart>,
}

/// A part of what a match is replaced by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewritePart {
    /// What this group of the expression matched; 0 is all of it.
    Group(usize),
    /// Text.
    Literal(Box<[u8]>),
}

impl RegexRewrite {
    /// The changed text; it is not copied if nothing matches.
    pub fn apply<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        self.regex
            .replace_all(text, |captures: &regex::bytes::Captures<'_>| {
                let mut out = Vec::new();
                for part in &self.parts {
                    match part {
                        RewritePart::Group(group) => {
                            let group = captures.get(*group);
                            out.extend_from_slice(group.map_or(&[], |group| group.as_bytes()));
                        }
                        RewritePart::Literal(text) => out.extend_from_slice(text),
                    }
                }
                out
            })
    }
}

impl PartialEq for RegexRewrite {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.parts == other.parts
    }
}
