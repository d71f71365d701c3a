//! String and header predicates (`envoy.type.matcher.v3.StringMatcher`, `HeaderMatcher`).

use http::HeaderName;
use regex::bytes::Regex;

/// A predicate on one string (`type.matcher.v3.StringMatcher`).
#[derive(Clone, Debug, PartialEq)]
pub struct StringMatch {
    /// What is compared.
    pub pattern: StringPattern,
    /// Compare without ASCII case; not for `Regex`.
    pub ignore_case: bool,
}

impl StringMatch {
    /// True if `value` fits the pattern.
    pub fn matches(&self, value: &[u8]) -> bool {
        let fold = self.ignore_case;
        match &self.pattern {
            StringPattern::Contains(text) => contains(value, text.as_bytes(), fold),
            StringPattern::Exact(text) if fold => value.eq_ignore_ascii_case(text.as_bytes()),
            StringPattern::Exact(text) => value == text.as_bytes(),
            StringPattern::Prefix(text) => starts_with(value, text.as_bytes(), fold),
            StringPattern::Regex(regex) => regex.is_match(value),
            StringPattern::Suffix(text) => value
                .len()
                .checked_sub(text.len())
                .and_then(|start| value.get(start..))
                .is_some_and(|end| starts_with(end, text.as_bytes(), fold)),
        }
    }
}

/// True if `value` begins with `start`, with or without ASCII case.
pub(crate) fn starts_with(value: &[u8], start: &[u8], fold: bool) -> bool {
    if fold {
        value
            .get(..start.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(start))
    } else {
        value.starts_with(start)
    }
}

fn contains(value: &[u8], part: &[u8], fold: bool) -> bool {
    if fold && !part.is_empty() {
        value
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part))
    } else {
        memchr::memmem::find(value, part).is_some()
    }
}

/// The kinds of [`StringMatch`]. With `ignore_case` the stored text is already lower case.
#[derive(Clone, Debug)]
pub enum StringPattern {
    /// Somewhere inside.
    Contains(Box<str>),
    /// The whole.
    Exact(Box<str>),
    /// The beginning.
    Prefix(Box<str>),
    /// The whole, as a regular expression (already anchored on both ends).
    Regex(Regex),
    /// The end.
    Suffix(Box<str>),
}

impl PartialEq for StringPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Contains(a), Self::Contains(b))
            | (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Suffix(a), Self::Suffix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// A predicate on the head of a response (`matcher.v3.MatchPredicate`).
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseMatch {
    /// All of them hold.
    All(Vec<Self>),
    /// It always holds.
    Always,
    /// One of them holds.
    Any(Vec<Self>),
    /// All of them hold of its headers.
    Headers(Vec<HeaderMatch>),
    /// It does not hold.
    Not(Box<Self>),
}

/// A predicate on one header (`route.v3.HeaderMatcher`).
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderMatch {
    /// Lower-case name; a pseudo header stands as `HeaderMatchName::Method` and so on.
    pub name: HeaderMatchName,
    /// What the value must be.
    pub value: HeaderValueMatch,
    /// The verdict is turned around at the end.
    pub invert: bool,
    /// A missing header counts as an empty value instead of no match.
    pub treat_missing_as_empty: bool,
}

/// Where a [`HeaderMatch`] looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderMatchName {
    /// `:authority`, which is `Host` on HTTP/1.
    Authority,
    /// An ordinary header; several values are joined with a comma.
    Header(HeaderName),
    /// `:method`.
    Method,
    /// `:path`, with its query.
    Path,
    /// `:scheme`.
    Scheme,
    /// `:status` of a response.
    Status,
}

/// The kinds of [`HeaderMatch`].
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderValueMatch {
    /// The header is there (true) or not there (false).
    Present(bool),
    /// An integer inside `start <= value < end`.
    Range {
        /// First value inside.
        start: i64,
        /// First value outside.
        end: i64,
    },
    /// A string predicate.
    String(StringMatch),
}
