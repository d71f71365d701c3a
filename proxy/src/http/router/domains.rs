//! Authority to virtual host, with Envoy's precedence: exact, longest suffix wildcard (`*.b`),
//! longest prefix wildcard (`a.*`), `*`.
//!
//! A wildcard stands for at least one byte. It does not parse authorities beyond finding the port.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::config::RouteConfig;
use crate::http::headers::host_without_port;

/// An authority that has upper-case letters and is longer than this costs an allocation: a DNS name
/// has at most 253 bytes, a port 6.
const LOWER_CASE_BYTES: usize = 260;

type Map = HashMap<Box<str>, usize, RandomState>;

/// The domains of a route table.
#[derive(Debug, Default)]
pub(super) struct Domains {
    exact: Map,
    /// By length of the text behind the `*`, longest first.
    suffixes: Vec<(usize, Map)>,
    /// By length of the text before the `*`, longest first.
    prefixes: Vec<(usize, Map)>,
    any: Option<usize>,
    ignore_port: bool,
}

impl Domains {
    pub(super) fn new(config: &RouteConfig) -> Self {
        let mut domains = Self {
            ignore_port: config.ignore_port_in_host_matching,
            ..Self::default()
        };
        for (index, host) in config.virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                domains.insert(&domain.to_ascii_lowercase(), index);
            }
        }
        domains.suffixes.sort_by_key(|(len, _)| usize::MAX - len);
        domains.prefixes.sort_by_key(|(len, _)| usize::MAX - len);
        domains
    }

    /// The index of the virtual host, or `None`.
    pub(super) fn find(&self, authority: &str) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.any;
        }
        let authority = if self.ignore_port {
            host_without_port(authority)
        } else {
            authority
        };
        with_lower_case(authority, |host| self.find_lower_case(host))
    }

    fn insert(&mut self, domain: &str, index: usize) {
        if domain == "*" {
            self.any.get_or_insert(index);
        } else if let Some(suffix) = domain.strip_prefix('*') {
            by_length(&mut self.suffixes, suffix, index);
        } else if let Some(prefix) = domain.strip_suffix('*') {
            by_length(&mut self.prefixes, prefix, index);
        } else {
            self.exact.entry(domain.into()).or_insert(index);
        }
    }

    fn find_lower_case(&self, host: &str) -> Option<usize> {
        if let Some(index) = self.exact.get(host) {
            return Some(*index);
        }
        for (len, map) in &self.suffixes {
            let suffix = host.len().checked_sub(*len).filter(|start| *start > 0);
            let index = suffix
                .and_then(|start| host.get(start..))
                .and_then(|suffix| map.get(suffix));
            if index.is_some() {
                return index.copied();
            }
        }
        for (len, map) in &self.prefixes {
            let prefix = host.get(..*len).filter(|prefix| prefix.len() < host.len());
            let index = prefix.and_then(|prefix| map.get(prefix));
            if index.is_some() {
                return index.copied();
            }
        }
        self.any
    }
}

fn by_length(maps: &mut Vec<(usize, Map)>, text: &str, index: usize) {
    let position = maps.iter().position(|(len, _)| *len == text.len());
    let position = position.unwrap_or_else(|| {
        maps.push((text.len(), Map::default()));
        maps.len() - 1
    });
    if let Some((_, map)) = maps.get_mut(position) {
        map.entry(text.into()).or_insert(index);
    }
}

/// Calls `f` with `text` in lower case, which it mostly already has.
fn with_lower_case<R>(text: &str, f: impl FnOnce(&str) -> R) -> R {
    if !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return f(text);
    }
    let mut buffer = [0; LOWER_CASE_BYTES];
    let lower = buffer.get_mut(..text.len()).and_then(|buffer| {
        buffer.copy_from_slice(text.as_bytes());
        buffer.make_ascii_lowercase();
        std::str::from_utf8(buffer).ok()
    });
    let lower = lower.map_or_else(|| Cow::Owned(text.to_ascii_lowercase()), Cow::Borrowed);
    f(&lower)
}
