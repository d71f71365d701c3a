//! `filter_chain_matcher`: a tree of lookups (`xds.type.matcher.v3.Matcher`), in the form control
//! planes emit.
//!
//! A branch that leads nowhere is left again: the next best entry of the node is tried, at last its
//! `on_no_match`. A lookup allocates only for several application protocols.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::config::chain_selector::Choice;
use crate::config::chain_selector::index::is_local;
use crate::config::prefix_map::PrefixMap;
use crate::downstream::Downstream;
use crate::downstream::ProtocolList;

/// One node and its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// What it asks for.
    pub input: Input,
    /// How the answer is looked up.
    pub node: Node,
    /// If that leads nowhere.
    pub on_no_match: Option<Decision>,
}

/// What a node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `'h2','http/1.1'`.
    ApplicationProtocol,
    /// Of the address the client wanted.
    DestinationIp,
    /// Of the address the client wanted.
    DestinationPort,
    /// Of the socket.
    DirectSourceIp,
    /// SNI.
    ServerName,
    /// Of the client.
    SourceIp,
    /// Of the client.
    SourcePort,
    /// `local`, for a client on this machine.
    SourceType,
    /// `tls` or `raw_buffer`.
    TransportProtocol,
}

/// How an answer is looked up.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// The text itself.
    Exact(BTreeMap<Box<str>, Decision>),
    /// The longest prefix of the text; the longest stands first.
    Prefix(Vec<(Box<str>, Decision)>),
    /// The smallest range around the address; those of one size in the order they are written.
    Ranges(PrefixMap<Vec<Range>>),
    /// The name itself, then `*.x` with the longest `x`, then `*`; keys are without the star.
    Names {
        /// Exact names, and `.x` for `*.x`.
        names: BTreeMap<Box<str>, Decision>,
        /// `*`.
        any: Option<Box<Decision>>,
    },
}

/// What stands behind one range.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Not tried after a smaller range led nowhere.
    pub exclusive: bool,
    /// What to do.
    pub decision: Decision,
}

/// What to do once something is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Go on looking as if this were not there.
    pub keep_matching: bool,
    /// What to do.
    pub outcome: Outcome,
}

/// What to do once something is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Take this chain, which may not exist.
    Chain(Option<usize>),
    /// Ask on.
    Tree(Box<Tree>),
}

impl Tree {
    /// The chain for a connection.
    pub fn choose(&self, downstream: &Downstream) -> Choice {
        match self.find(downstream) {
            Some(Some(chain)) => Choice::Chain(chain),
            Some(None) => Choice::Nothing,
            None => Choice::Default,
        }
    }

    /// None if it leads nowhere.
    fn find(&self, downstream: &Downstream) -> Option<Option<usize>> {
        let found = match &self.node {
            Node::Ranges(ranges) => self
                .input
                .ip(downstream)
                .and_then(|ip| in_ranges(ranges, ip, downstream)),
            Node::Exact(map) => self.input.text(downstream, |text| {
                map.get(text).and_then(|found| found.follow(downstream))
            }),
            Node::Prefix(prefixes) => self.input.text(downstream, |text| {
                let fitting = prefixes
                    .iter()
                    .filter(|(prefix, _)| text.starts_with(&**prefix));
                fitting
                    .map(|(_, found)| found)
                    .find_map(|found| found.follow(downstream))
            }),
            Node::Names { names, any } => self.input.text(downstream, |text| {
                candidates(text)
                    .filter_map(|name| names.get(name))
                    .chain(any.as_deref())
                    .find_map(|found| found.follow(downstream))
            }),
        };
        found.or_else(|| self.on_no_match.as_ref()?.follow(downstream))
    }
}

impl Decision {
    fn follow(&self, downstream: &Downstream) -> Option<Option<usize>> {
        let found = match &self.outcome {
            Outcome::Chain(chain) => Some(*chain),
            Outcome::Tree(tree) => tree.find(downstream),
        };
        found.filter(|_| !self.keep_matching)
    }
}

fn in_ranges(
    ranges: &PrefixMap<Vec<Range>>,
    ip: IpAddr,
    downstream: &Downstream,
) -> Option<Option<usize>> {
    ranges
        .all(ip)
        .flatten()
        .enumerate()
        .filter(|(place, range)| *place == 0 || !range.exclusive)
        .find_map(|(_, range)| range.decision.follow(downstream))
}

/// The name, then each of its parents with the dot before it.
fn candidates(name: &str) -> impl Iterator<Item = &str> {
    let parents = name
        .char_indices()
        .filter(|(at, letter)| *at > 0 && *letter == '.')
        .filter_map(|(at, _)| name.get(at..));
    std::iter::once(name).chain(parents)
}

impl Input {
    /// Whether it can be an address.
    pub fn is_ip(self) -> bool {
        matches!(
            self,
            Self::DestinationIp | Self::DirectSourceIp | Self::SourceIp
        )
    }

    fn address(self, downstream: &Downstream) -> Option<SocketAddr> {
        match self {
            Self::DestinationIp | Self::DestinationPort => downstream.local,
            Self::DirectSourceIp => downstream.direct_peer,
            Self::SourceIp | Self::SourcePort => downstream.peer,
            Self::ApplicationProtocol
            | Self::ServerName
            | Self::SourceType
            | Self::TransportProtocol => None,
        }
    }

    fn ip(self, downstream: &Downstream) -> Option<IpAddr> {
        self.address(downstream).map(|address| address.ip())
    }

    /// Shows the answer as text to `look`, if there is one.
    fn text<T>(self, downstream: &Downstream, look: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let found = downstream.found();
        match self {
            Self::DestinationIp | Self::DirectSourceIp | Self::SourceIp => {
                let mut text = Short::new();
                let _ = write!(text, "{}", self.ip(downstream)?);
                look(text.as_str())
            }
            Self::DestinationPort | Self::SourcePort => {
                let mut text = Short::new();
                let _ = write!(text, "{}", self.address(downstream)?.port());
                look(text.as_str())
            }
            Self::ServerName => look(found.server_name.as_deref()?),
            Self::SourceType => is_local(downstream.peer, downstream.local)
                .then(|| look("local"))
                .flatten(),
            Self::TransportProtocol => look(found.transport.as_str()),
            Self::ApplicationProtocol => (!found.application_protocols.is_empty())
                .then(|| look(&quoted(&found.application_protocols)))
                .flatten(),
        }
    }
}

fn quoted(protocols: &ProtocolList) -> String {
    let mut text = String::new();
    for name in protocols.iter() {
        let comma = if text.is_empty() { "" } else { "," };
        let name = String::from_utf8_lossy(name);
        let _ = write!(text, "{comma}'{name}'"); // to a String, which does not fail
    }
    text
}

/// Room for the text of an address or a port.
struct Short {
    bytes: [u8; 48],
    length: usize,
}

impl Short {
    const fn new() -> Self {
        Self {
            bytes: [0; 48],
            length: 0,
        }
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end);
        room.ok_or(std::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
