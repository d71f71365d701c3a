//! Listener filters (`envoy.config.listener.v3.ListenerFilter`): what is found out of a connection
//! before a filter chain is chosen.

use std::ops::Range;
use std::sync::Arc;

use crate::downstream::Label;
use crate::net::proxy_protocol::Version;

/// One listener filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFilter {
    /// What it does.
    pub kind: ListenerFilterKind,
    /// For which connections it is left out (`filter_disabled`).
    pub disabled: Option<FilterPredicate>,
}

/// The listener filters there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerFilterKind {
    /// Finds the version of HTTP.
    HttpInspector,
    /// Restores the address a connection had before it was redirected to us.
    OriginalDst,
    /// Reads who the client is from a PROXY protocol header.
    ProxyProtocol(ProxyProtocol),
    /// Reads server name and application protocols from a ClientHello.
    TlsInspector(TlsInspector),
}

/// `listener.proxy_protocol.v3.ProxyProtocol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// A connection may begin without a header.
    pub is_optional: bool,
    /// Headers of these versions are not taken as such.
    pub disallowed: Vec<Version>,
    /// Which TLVs are kept.
    pub kept_tlvs: KeptTlvs,
    /// Which TLVs become dynamic metadata; of each type there is one rule at most.
    pub rules: Vec<TlvRule>,
}

/// `ProxyProtocol.Rule`: a TLV as dynamic metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlvRule {
    /// Its type.
    pub kind: u8,
    /// Where it is found then.
    pub label: Arc<Label>,
    /// As base64, instead of text in which `!` stands for what is no UTF-8.
    pub is_base64: bool,
}

/// `core.v3.ProxyProtocolPassThroughTLVs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeptTlvs {
    /// All.
    All,
    /// Those of these types.
    Of(Vec<u8>),
    /// None.
    #[default]
    None,
}

impl KeptTlvs {
    /// Whether TLVs of this type are kept.
    pub fn keeps(&self, kind: u8) -> bool {
        match self {
            Self::All => true,
            Self::Of(kinds) => kinds.contains(&kind),
            Self::None => false,
        }
    }
}

/// `listener.tls_inspector.v3.TlsInspector`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInspector {
    /// Largest ClientHello, with headers.
    pub bytes_max: usize,
    /// Close what begins as TLS but is broken, instead of taking it as plain bytes.
    pub close_broken: bool,
}

/// `ListenerFilterChainMatchPredicate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterPredicate {
    /// All hold.
    All(Vec<Self>),
    /// One holds.
    Any(Vec<Self>),
    /// Always.
    Always,
    /// The port of the address the client wanted is in the range.
    DestinationPort(Range<u32>),
    /// It does not hold.
    Not(Box<Self>),
}

impl FilterPredicate {
    /// Whether it holds for a connection to this port; a Unix socket has none.
    pub fn holds(&self, port: Option<u16>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|predicate| predicate.holds(port)),
            Self::Any(any) => any.iter().any(|predicate| predicate.holds(port)),
            Self::Always => true,
            Self::DestinationPort(range) => port.is_some_and(|port| range.contains(&port.into())),
            Self::Not(predicate) => !predicate.holds(port),
        }
    }
}
