//! What of a request is hashed (`RouteAction.HashPolicy`), so that like requests reach one member.

use crate::config::matcher::HeaderMatchName;
use crate::config::regex_rewrite::RegexRewrite;

/// One part of the hash.
#[derive(Clone, Debug, PartialEq)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// If there is a hash after this one, those that follow are not looked at.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq)]
pub enum HashSource {
    /// A cookie, if it is there and not empty.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// What a client gets that has none.
        generated: Option<GeneratedCookie>,
    },
    /// All values of a header, if it is there.
    Header {
        /// Its name.
        name: HeaderMatchName,
        /// What becomes of each value first.
        rewrite: Option<RegexRewrite>,
    },
    /// An object of filter state (`set_filter_state`), if it is there.
    FilterState(Box<str>),
    /// The first value of a query parameter of this name, if it is there.
    QueryParameter(Box<str>),
    /// The address of the client, without its port.
    SourceIp,
}

/// A cookie made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedCookie {
    /// What follows its value in `Set-Cookie`.
    pub attributes: Box<str>,
}
