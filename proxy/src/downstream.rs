//! Facts of a client connection: what the socket says, and what listener filters found out.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::given_state::GivenState;
use crate::net::tls::Facts;

/// Envoy's name of the filter state that holds TLVs.
pub const TLV_STATE: &str = "envoy.network.proxy_protocol.tlv";

/// A client connection, as far as filter chains, logs and forwarding headers want to know.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// Number of the connection in this process.
    pub connection_id: u64,
    /// The other end of the socket, unless it is a Unix socket.
    pub direct_peer: Option<SocketAddr>,
    /// The client: the other end of the socket, or whom the PROXY protocol names.
    pub peer: Option<SocketAddr>,
    /// The address the client wanted: our end of the socket, or what was there before it was
    /// redirected.
    pub local: Option<SocketAddr>,
    /// What listener filters found out; most connections have none and pay one word for it.
    pub found: Option<Box<Found>>,
    /// Of TLS, once its handshake is over.
    pub tls: Option<Arc<Facts>>,
}

/// What listener filters found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// `local` is not our end of the socket.
    pub local_is_restored: bool,
    /// It came with a PROXY protocol header.
    pub is_announced: bool,
    /// What the first bytes are.
    pub transport: Transport,
    /// The server name a TLS client asks for, in lower case.
    pub server_name: Option<Box<str>>,
    /// What a TLS client offers by ALPN, or what HTTP version the first line has.
    pub application_protocols: ProtocolList,
    /// TLVs of a PROXY protocol header that are to be kept.
    pub tlvs: Vec<Tlv>,
    /// Dynamic metadata and filter state, for logs; no two have the same label.
    pub metadata: Vec<Metadatum>,
    /// Filter state, for hash policies.
    pub state: GivenState,
}

/// What the first bytes of a connection are (`FilterChainMatch.transport_protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Not TLS, or nobody looked.
    #[default]
    RawBuffer,
    /// A ClientHello.
    Tls,
}

/// Names of application protocols, kept as ALPN writes them (RFC 7301 section 3.1), so that they are
/// never larger in memory than on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtocolList(Vec<u8>);

/// One type-length-value of a PROXY protocol header, version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlv {
    /// Its type.
    pub kind: u8,
    /// Its bytes.
    pub value: Box<[u8]>,
}

/// A piece of dynamic metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadatum {
    /// Where it is found.
    pub label: Arc<Label>,
    /// What it says.
    pub value: Box<str>,
}

/// Where a piece of dynamic metadata is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Whose it is: Envoy's name of a filter, or any other.
    pub namespace: Box<str>,
    /// Its name there.
    pub key: Box<str>,
    /// It is filter state and not dynamic metadata, which have nothing to do with each other.
    pub is_state: bool,
}

impl Transport {
    /// Envoy's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RawBuffer => "raw_buffer",
            Self::Tls => "tls",
        }
    }
}

impl Found {
    /// What there is to say of a connection nobody looked at.
    pub const fn nothing() -> &'static Self {
        static NOTHING: Found = Found {
            local_is_restored: false,
            is_announced: false,
            transport: Transport::RawBuffer,
            server_name: None,
            application_protocols: ProtocolList(Vec::new()),
            tlvs: Vec::new(),
            metadata: Vec::new(),
            state: GivenState::NONE,
        };
        &NOTHING
    }
}

impl ProtocolList {
    /// Takes a list off the wire: each name is preceded by its length, and none is empty.
    pub fn from_wire(list: &[u8]) -> Option<Self> {
        let mut rest = list;
        while let Some((length, after)) = rest.split_first() {
            let length = usize::from(*length);
            if length == 0 {
                return None;
            }
            rest = after.get(length..)?;
        }
        (!list.is_empty()).then(|| Self(list.to_vec()))
    }

    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            Some(name)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Downstream {
    /// What was found out, if only that there is nothing.
    pub fn found(&self) -> &Found {
        self.found.as_deref().unwrap_or(Found::nothing())
    }

    /// What was found out, to be added to.
    pub fn found_mut(&mut self) -> &mut Found {
        self.found.get_or_insert_default()
    }
}
