//! `FilterChainMatch` compiled: Envoy's nine steps, each the most specific of its kind.
//!
//! A step that has chosen does not come back: a connection whose address is in a chain's range but
//! whose server name is not in that chain matches nothing, although a chain without range might have
//! taken it. That is Envoy's rule.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::config::filter_chain::FilterChainMatch;
use crate::config::filter_chain::SourceType;
use crate::config::prefix_map::IpPrefix;
use crate::config::prefix_map::PrefixMap;
use crate::downstream::Downstream;
use crate::downstream::Found;

/// Two chains would take the same connections; the index of the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap(pub usize);

/// The first step, and with it all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainIndex {
    /// By destination port; 0 is any.
    ports: BTreeMap<u16, PrefixMap<Names>>,
}

/// By server name; `.x` stands for `*.x`, the empty name for any.
#[derive(Clone, Debug, Default, PartialEq)]
struct Names(BTreeMap<Box<str>, Transports>);

/// By transport protocol; the empty one is any. There are two of them in practice.
#[derive(Clone, Debug, Default, PartialEq)]
struct Transports(Vec<(Box<str>, Protocols)>);

/// By application protocol; the empty one is any.
#[derive(Clone, Debug, Default, PartialEq)]
struct Protocols(BTreeMap<Box<[u8]>, PrefixMap<SourceTypes>>);

/// By kind of source, then by its address.
#[derive(Clone, Debug, Default, PartialEq)]
struct SourceTypes {
    any: Option<PrefixMap<Ports>>,
    local: Option<PrefixMap<Ports>>,
    external: Option<PrefixMap<Ports>>,
}

/// By source port; 0 is any. The values are indexes of chains.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ports(BTreeMap<u16, usize>);

impl ChainIndex {
    /// Compiles the matches of chains 0, 1, 2 ...
    ///
    /// # Errors
    /// Two of them overlap: the index of the later chain, and which one it overlaps.
    pub fn new<'a>(
        matches: impl IntoIterator<Item = &'a FilterChainMatch>,
    ) -> Result<Self, (usize, Overlap)> {
        let mut index = Self::default();
        for (chain, conditions) in matches.into_iter().enumerate() {
            index
                .add(conditions, chain)
                .map_err(|overlap| (chain, overlap))?;
        }
        Ok(index)
    }

    fn add(&mut self, conditions: &FilterChainMatch, chain: usize) -> Result<(), Overlap> {
        let port = conditions.destination_port.unwrap_or(0);
        let ranges = self.ports.entry(port).or_default();
        each_range(&conditions.prefix_ranges)
            .try_for_each(|range| ranges.entry(range).add(conditions, chain))
    }

    /// The chain for a connection.
    pub fn find(&self, downstream: &Downstream) -> Option<usize> {
        let found = downstream.found();
        let port = downstream.local.map_or(0, |local| local.port());
        let ranges = self.ports.get(&port).or_else(|| self.ports.get(&0))?;
        ranges.get(ip_of(downstream.local))?.find(downstream, found)
    }
}

impl Names {
    fn add(&mut self, conditions: &FilterChainMatch, chain: usize) -> Result<(), Overlap> {
        if conditions.server_names.is_empty() {
            return self.0.entry("".into()).or_default().add(conditions, chain);
        }
        conditions.server_names.iter().try_for_each(|name| {
            let key = name.strip_prefix('*').unwrap_or(name);
            self.0.entry(key.into()).or_default().add(conditions, chain)
        })
    }

    fn find(&self, downstream: &Downstream, found: &Found) -> Option<usize> {
        let name = found.server_name.as_deref().unwrap_or_default();
        let exact = self.0.get(name);
        let mut parents = name
            .char_indices()
            .filter(|(at, letter)| *at > 0 && *letter == '.' && at + 1 < name.len())
            .filter_map(|(at, _)| self.0.get(name.get(at..)?));
        exact
            .or_else(|| parents.next())
            .or_else(|| self.0.get(""))?
            .find(downstream, found)
    }
}

impl Transports {
    fn add(&mut self, conditions: &FilterChainMatch, chain: usize) -> Result<(), Overlap> {
        let key = &conditions.transport_protocol;
        let place = self.0.iter().position(|(other, _)| other == key);
        let place = place.unwrap_or_else(|| {
            self.0.push((key.clone(), Protocols::default()));
            self.0.len() - 1
        });
        match self.0.get_mut(place) {
            Some((_, protocols)) => protocols.add(conditions, chain),
            None => Ok(()), // it was found or pushed just now
        }
    }

    fn find(&self, downstream: &Downstream, found: &Found) -> Option<usize> {
        let of = |name: &str| self.0.iter().find(|(other, _)| **other == *name);
        let (_, protocols) = of(found.transport.as_str()).or_else(|| of(""))?;
        protocols.find(downstream, found)
    }
}

impl Protocols {
    fn add(&mut self, conditions: &FilterChainMatch, chain: usize) -> Result<(), Overlap> {
        let any: &[Box<str>] = &["".into()];
        let protocols = match conditions.application_protocols.as_slice() {
            [] => any,
            protocols => protocols,
        };
        protocols.iter().try_for_each(|protocol| {
            let ranges = self.0.entry(protocol.as_bytes().into()).or_default();
            each_range(&conditions.direct_source_prefix_ranges)
                .try_for_each(|range| ranges.entry(range).add(conditions, chain))
        })
    }

    fn find(&self, downstream: &Downstream, found: &Found) -> Option<usize> {
        let mut wanted = found.application_protocols.iter();
        let ranges = wanted
            .find_map(|name| self.0.get(name))
            .or_else(|| self.0.get(&b""[..]))?;
        ranges.get(ip_of(downstream.direct_peer))?.find(downstream)
    }
}

impl SourceTypes {
    fn add(&mut self, conditions: &FilterChainMatch, chain: usize) -> Result<(), Overlap> {
        let ranges = match conditions.source_type {
            SourceType::Any => &mut self.any,
            SourceType::SameIpOrLoopback => &mut self.local,
            SourceType::External => &mut self.external,
        };
        let ranges = ranges.get_or_insert_default();
        each_range(&conditions.source_prefix_ranges)
            .try_for_each(|range| ranges.entry(range).add(conditions, chain))
    }

    fn find(&self, downstream: &Downstream) -> Option<usize> {
        let specific = if is_local(downstream.peer, downstream.local) {
            &self.local
        } else {
            &self.external
        };
        let ranges = specific.as_ref().or(self.any.as_ref())?;
        let Ports(ports) = ranges.get(ip_of(downstream.peer))?;
        let port = downstream.peer.map_or(0, |peer| peer.port());
        ports.get(&port).or_else(|| ports.get(&0)).copied()
    }
}

impl Ports {
    fn add(&mut self, conditions: &FilterChainMatch, chain: usize) -> Result<(), Overlap> {
        let ports = match conditions.source_ports.as_slice() {
            [] => &[0],
            ports => ports,
        };
        ports.iter().try_for_each(|port| match self.0.entry(*port) {
            Entry::Occupied(taken) => Err(Overlap(*taken.get())),
            Entry::Vacant(free) => {
                free.insert(chain);
                Ok(())
            }
        })
    }
}

/// Whether a client is on this machine, as Envoy decides it; one on a Unix socket is.
pub(super) fn is_local(peer: Option<SocketAddr>, local: Option<SocketAddr>) -> bool {
    let Some(peer) = peer else { return true };
    peer.ip().is_loopback() || local.is_some_and(|local: SocketAddr| local.ip() == peer.ip())
}

/// Each range, or once everything.
fn each_range(ranges: &[IpPrefix]) -> impl Iterator<Item = Option<IpPrefix>> {
    let everything = ranges.is_empty().then_some(None);
    ranges.iter().copied().map(Some).chain(everything)
}

/// The address to look up: without one, as Envoy, the one that only the range of all contains.
fn ip_of(address: Option<SocketAddr>) -> IpAddr {
    address.map_or(IpAddr::V4(Ipv4Addr::BROADCAST), |address| address.ip())
}
