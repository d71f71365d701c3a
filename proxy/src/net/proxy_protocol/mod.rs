//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): who the client really is.
//!
//! Reading is a pure function of the bytes that came so far; the answer for a prefix is the final
//! answer or [`Reading::More`]. Where the specification leaves a choice it is Envoy's: `UNSPEC` and
//! Unix addresses under `PROXY` are refused, so are addresses that no client can have. Stricter than
//! Envoy: ports have no sign and no leading zeros, as the specification says.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::downstream::Tlv;

/// Longest header of version 1 (section 2.1).
const V1_BYTES_MAX: usize = 107;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header of version 2 begins with: signature, command, family, length.
const V2_HEADER_BYTES: usize = 16;

/// Largest value of all TLVs together that is sent, with addresses: what the length can say.
const V2_BODY_BYTES_MAX: usize = 65_535;

/// The two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A whole header.
    Header(Header),
    /// The beginning of a header.
    More,
    /// It begins as a header of this version but is none.
    Broken(Version),
    /// No header.
    None,
}

/// A whole header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its version.
    pub version: Version,
    /// Bytes of it.
    pub length: usize,
    /// Source and destination; none if the sender speaks for itself.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Where its TLVs stand in the bytes.
    tlvs: std::ops::Range<usize>,
}

impl Header {
    /// Its TLVs, from the bytes it was read from.
    pub fn tlvs<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = bytes.get(self.tlvs.clone()).unwrap_or_default();
        std::iter::from_fn(move || {
            let (kind, value, after) = tlv(rest)?;
            rest = after;
            Some((kind, value))
        })
    }
}

/// Reads the first bytes of a connection.
pub fn read(bytes: &[u8]) -> Reading {
    let is_like = |start: &[u8]| {
        let len = bytes.len().min(start.len());
        bytes.get(..len) == start.get(..len)
    };
    if is_like(V1_PREFIX) {
        read_v1(bytes)
    } else if is_like(V2_SIGNATURE) {
        read_v2(bytes).unwrap_or(Reading::Broken(Version::V2))
    } else {
        Reading::None
    }
}

fn read_v1(bytes: &[u8]) -> Reading {
    let line = bytes.get(..bytes.len().min(V1_BYTES_MAX)).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if bytes.len() < V1_BYTES_MAX {
            Reading::More
        } else {
            Reading::Broken(Version::V1)
        };
    };
    let text = line
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| line.strip_prefix(V1_PREFIX))
        .and_then(|line| std::str::from_utf8(line).ok());
    let addresses = match text {
        Some(text) if text == "UNKNOWN" || text.starts_with("UNKNOWN ") => Some(None),
        Some(text) => addresses_v1(text).map(Some),
        None => None,
    };
    let Some(addresses) = addresses else {
        return Reading::Broken(Version::V1);
    };
    Reading::Header(Header {
        version: Version::V1,
        length: end + 1,
        addresses,
        tlvs: 0..0,
    })
}

/// `TCP4 source destination port port`, with exactly one space between them.
fn addresses_v1(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = text.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let address: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| std::net::Ipv4Addr::from_str(text).ok().map(IpAddr::V4),
        "TCP6" => |text| std::net::Ipv6Addr::from_str(text).ok().map(IpAddr::V6),
        _ => return None,
    };
    both_usable(
        SocketAddr::new(address(source)?, source_port),
        SocketAddr::new(address(destination)?, destination_port),
    )
}

fn port(text: &str) -> Option<u16> {
    let is_plain = text == "0"
        || text
            .bytes()
            .next()
            .is_some_and(|b| matches!(b, b'1'..=b'9'));
    is_plain.then(|| text.parse().ok()).flatten()
}

fn both_usable(source: SocketAddr, destination: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let is_usable = |ip: IpAddr| {
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
    };
    (is_usable(source.ip()) && is_usable(destination.ip())).then_some((source, destination))
}

/// None if it is broken.
fn read_v2(bytes: &[u8]) -> Option<Reading> {
    let Some((header, after)) = bytes.split_at_checked(V2_HEADER_BYTES) else {
        return Some(Reading::More);
    };
    let [command, family, high, low] = *header.last_chunk::<4>()?;
    if command >> 4 != 2 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_local = match command & 0xf {
        0 => true,
        1 => false,
        _ => return None,
    };
    let Some(body) = after.get(..length) else {
        return Some(Reading::More);
    };
    let whole = |addresses, tlvs_from: usize| {
        Reading::Header(Header {
            version: Version::V2,
            length: V2_HEADER_BYTES + length,
            addresses,
            tlvs: tlvs_from..V2_HEADER_BYTES + length,
        })
    };
    if is_local {
        // Whatever stands in it is to be skipped (section 2.2).
        return Some(whole(None, V2_HEADER_BYTES + length));
    }
    let (addresses, used) = addresses_v2(family, body)?;
    let mut rest = body.get(used..)?;
    while !rest.is_empty() {
        rest = tlv(rest)?.2;
    }
    Some(whole(Some(addresses), V2_HEADER_BYTES + used))
}

/// The addresses, and how many bytes they take.
fn addresses_v2(family: u8, body: &[u8]) -> Option<((SocketAddr, SocketAddr), usize)> {
    // Stream and datagram are taken alike, as Envoy does: it is a client on a stream in any case.
    if !matches!(family & 0xf, 1 | 2) {
        return None;
    }
    match family >> 4 {
        1 => {
            let (source, rest) = body.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            pair(IpAddr::from(*source), IpAddr::from(*destination), rest, 12)
        }
        2 => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            pair(IpAddr::from(*source), IpAddr::from(*destination), rest, 36)
        }
        _ => None,
    }
}

fn pair(
    source: IpAddr,
    destination: IpAddr,
    ports: &[u8],
    used: usize,
) -> Option<((SocketAddr, SocketAddr), usize)> {
    let [a, b, c, d] = *ports.first_chunk::<4>()?;
    let source = SocketAddr::new(source, u16::from_be_bytes([a, b]));
    let destination = SocketAddr::new(destination, u16::from_be_bytes([c, d]));
    Some((both_usable(source, destination)?, used))
}

/// The first TLV: type, value, and what is behind it.
fn tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*kind, value, rest))
}

/// Writes a header of version 1; `UNKNOWN` if the addresses are missing or of two families.
pub fn write_v1(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut line = String::with_capacity(V1_BYTES_MAX);
    // Writing to a String does not fail.
    let _ = match addresses.and_then(same_family) {
        Some((source, destination)) => write!(
            line,
            "PROXY TCP{} {} {} {} {}\r\n",
            if source.is_ipv4() { 4 } else { 6 },
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
        None => write!(line, "PROXY UNKNOWN\r\n"),
    };
    line.into_bytes()
}

/// Writes a header of version 2; `LOCAL` if the addresses are missing or of two families. TLVs that
/// do not fit any more are left out.
pub fn write_v2<'a>(
    addresses: Option<(SocketAddr, SocketAddr)>,
    tlvs: impl IntoIterator<Item = &'a Tlv>,
) -> Vec<u8> {
    let mut body = Vec::new();
    let (command, family) = match addresses.and_then(same_family) {
        None => (0x20, 0x00),
        Some((source, destination)) => {
            for address in [source, destination] {
                match address.ip() {
                    IpAddr::V4(ip) => body.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => body.extend_from_slice(&ip.octets()),
                }
            }
            body.extend_from_slice(&source.port().to_be_bytes());
            body.extend_from_slice(&destination.port().to_be_bytes());
            for tlv in tlvs {
                append_tlv(&mut body, tlv);
            }
            (0x21, if source.is_ipv4() { 0x11 } else { 0x21 })
        }
    };
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut header = Vec::with_capacity(V2_HEADER_BYTES + body.len());
    header.extend_from_slice(V2_SIGNATURE);
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.append(&mut body);
    header
}

fn append_tlv(body: &mut Vec<u8>, tlv: &Tlv) {
    let Ok(length) = u16::try_from(tlv.value.len()) else {
        return;
    };
    if body.len() + 3 + tlv.value.len() <= V2_BODY_BYTES_MAX {
        body.push(tlv.kind);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&tlv.value);
    }
}

fn same_family(pair: (SocketAddr, SocketAddr)) -> Option<(SocketAddr, SocketAddr)> {
    (pair.0.is_ipv4() == pair.1.is_ipv4()).then_some(pair)
}

#[cfg(test)]
mod tests;
