//! A strict reader of the first message of a TLS client: which server it wants, what it would speak.
//!
//! It is a pure function of the bytes that came so far, so that it does not matter how they were cut
//! into segments; the answer for a prefix is the final answer or [`Reading::More`]. It allocates only
//! for a message that is cut into several records, and for what it returns.

use crate::downstream::ProtocolList;

/// What a TLS record and a handshake message begin with.
const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;

/// Largest plaintext of one record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

const RECORD_HANDSHAKE: u8 = 22;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// Longest server name (RFC 1035 section 2.3.4).
const SERVER_NAME_BYTES_MAX: usize = 255;

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A whole ClientHello.
    Hello(ClientHello),
    /// A ClientHello as far as it goes.
    More,
    /// No ClientHello, or a broken one.
    NotTls,
    /// It announces more bytes than are allowed.
    TooBig,
}

/// What is wanted of a ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name of the SNI extension, in lower case.
    pub server_name: Option<Box<str>>,
    /// The names of the ALPN extension; a malformed list is left to whoever speaks TLS.
    pub application_protocols: ProtocolList,
}

/// Reads the first bytes of a connection; `max` bounds the message with its headers.
pub fn read(bytes: &[u8], max: usize) -> Reading {
    match message(bytes, max) {
        Message::Whole(body) => hello(&body).map_or(Reading::NotTls, Reading::Hello),
        Message::Part => Reading::More,
        Message::Broken => Reading::NotTls,
        Message::TooBig => Reading::TooBig,
    }
}

/// The first handshake message.
enum Message<'a> {
    Whole(std::borrow::Cow<'a, [u8]>),
    Part,
    Broken,
    TooBig,
}

/// Puts the records together as far as the first message goes.
fn message(bytes: &[u8], max: usize) -> Message<'_> {
    let mut rest = bytes;
    let mut joined: Vec<u8> = Vec::new();
    loop {
        let fragment = match record(rest) {
            Record::Fragment(fragment) => fragment,
            Record::Broken => return Message::Broken,
        };
        // The usual case: the message lies in one record and is read where it is.
        let so_far = if joined.is_empty() {
            fragment.bytes
        } else {
            joined.extend_from_slice(fragment.bytes);
            &joined
        };
        match length(so_far, max) {
            Length::Known(length) if so_far.len() >= length => {
                let body = MESSAGE_HEADER_BYTES..length;
                return Message::Whole(if joined.is_empty() {
                    fragment.bytes.get(body).unwrap_or_default().into()
                } else {
                    joined.drain(..MESSAGE_HEADER_BYTES);
                    joined.truncate(body.len());
                    joined.into()
                });
            }
            Length::Known(_) | Length::Unknown => {}
            Length::Broken => return Message::Broken,
            Length::TooBig => return Message::TooBig,
        }
        let Some(next) = fragment.next else {
            return Message::Part;
        };
        if joined.is_empty() {
            joined.extend_from_slice(fragment.bytes);
        }
        rest = next;
    }
}

enum Record<'a> {
    Fragment(Fragment<'a>),
    Broken,
}

struct Fragment<'a> {
    /// As much of it as there is.
    bytes: &'a [u8],
    /// What comes behind it, if it is whole.
    next: Option<&'a [u8]>,
}

fn record(bytes: &[u8]) -> Record<'_> {
    let is_handshake = bytes.first().is_none_or(|kind| *kind == RECORD_HANDSHAKE);
    let is_version_3 = bytes.get(1).is_none_or(|major| *major == 3);
    if !is_handshake || !is_version_3 {
        return Record::Broken;
    }
    let Some((header, body)) = bytes.split_at_checked(RECORD_HEADER_BYTES) else {
        return Record::Fragment(Fragment {
            bytes: &[],
            next: None,
        });
    };
    let length = header
        .get(3..)
        .and_then(|length| <[u8; 2]>::try_from(length).ok())
        .map_or(0, |length| usize::from(u16::from_be_bytes(length)));
    // A record of nothing is not allowed for a handshake (RFC 8446 section 5.1).
    if length == 0 || length > RECORD_BYTES_MAX {
        return Record::Broken;
    }
    Record::Fragment(match body.split_at_checked(length) {
        Some((bytes, next)) => Fragment {
            bytes,
            next: Some(next),
        },
        None => Fragment {
            bytes: body,
            next: None,
        },
    })
}

enum Length {
    /// Of the message with its header.
    Known(usize),
    Unknown,
    Broken,
    TooBig,
}

fn length(message: &[u8], max: usize) -> Length {
    match *message {
        [] => Length::Unknown,
        [kind, ..] if kind != MESSAGE_CLIENT_HELLO => Length::Broken,
        [_, high, middle, low, ..] => {
            let length = u32::from_be_bytes([0, high, middle, low]);
            match usize::try_from(length) {
                Ok(length) if length + MESSAGE_HEADER_BYTES + RECORD_HEADER_BYTES <= max => {
                    Length::Known(length + MESSAGE_HEADER_BYTES)
                }
                Ok(_) | Err(_) => Length::TooBig,
            }
        }
        _ => Length::Unknown,
    }
}

/// The body of a ClientHello (RFC 8446 section 4.1.2); none if it is malformed.
fn hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    body.take(2)?; // legacy_version
    body.take(32)?; // random
    let session = body.short_vector()?;
    let ciphers = body.vector()?;
    let compressions = body.short_vector()?;
    if session.0.len() > 32
        || ciphers.0.is_empty()
        || !ciphers.0.len().is_multiple_of(2)
        || compressions.0.is_empty()
    {
        return None;
    }
    let mut found = ClientHello::default();
    if body.0.is_empty() {
        return Some(found); // a client older than extensions
    }
    let mut extensions = body.vector()?;
    if !body.0.is_empty() {
        return None;
    }
    let (mut names, mut protocols) = (0, 0);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let value = extensions.vector()?;
        match kind {
            EXTENSION_SERVER_NAME => {
                names += 1;
                found.server_name = server_name(value)?;
            }
            EXTENSION_ALPN => {
                protocols += 1;
                found.application_protocols = application_protocols(value).unwrap_or_default();
            }
            _ => {}
        }
    }
    // No extension may come twice (RFC 8446 section 4.2); two names would be two answers.
    (names <= 1 && protocols <= 1).then_some(found)
}

/// Exactly one host name (RFC 6066 section 3). A name that no host can have is as good as none.
fn server_name(mut value: Reader<'_>) -> Option<Option<Box<str>>> {
    let mut list = value.vector()?;
    let kind = *list.take(1)?.first()?;
    let name = list.vector()?.0;
    let is_one = list.0.is_empty() && value.0.is_empty() && kind == 0;
    if !is_one || name.is_empty() || name.len() > SERVER_NAME_BYTES_MAX || name.contains(&0) {
        return None;
    }
    let name = name
        .iter()
        .all(u8::is_ascii_graphic)
        .then(|| std::str::from_utf8(name).ok())
        .flatten();
    Some(name.map(|name| name.to_ascii_lowercase().into()))
}

fn application_protocols(mut value: Reader<'_>) -> Option<ProtocolList> {
    let list = value.vector()?;
    if !value.0.is_empty() {
        return None;
    }
    ProtocolList::from_wire(list.0)
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    }

    /// Preceded by its length in two bytes.
    fn vector(&mut self) -> Option<Self> {
        let length = self.number()?;
        self.take(length.into()).map(Reader)
    }

    /// Preceded by its length in one byte.
    fn short_vector(&mut self) -> Option<Self> {
        let length = *self.take(1)?.first()?;
        self.take(length.into()).map(Reader)
    }
}

#[cfg(test)]
mod tests;
