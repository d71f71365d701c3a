//! `otherName` of a certificate as text, as Envoy tells it: what is in the value, whatever it is.

use std::fmt::Write as _;

/// Tags of ASN.1 (X.680 section 8.4).
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;

/// `value [0] EXPLICIT ANY` (RFC 5280 section 4.2.1.6).
const VALUE: u8 = 0xa0;

/// The text of a value that can be read as one.
pub(super) fn text(value: &[u8]) -> Option<Box<str>> {
    let (tag, content) = match element(value)? {
        (VALUE, inside) => element(inside)?,
        bare => bare,
    };
    match tag {
        NULL => None,
        BOOLEAN => Some(if content == [0] { "false" } else { "true" }.into()),
        INTEGER | ENUMERATED => Some(number(content)?.to_string().into()),
        OBJECT_IDENTIFIER => identifier(content),
        _ => Some(String::from_utf8_lossy(content).into()),
    }
}

/// Tag and content of the first element; no longer form of a length is for something as short as this.
fn element(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    Some((*tag, rest.get(..length)?))
}

/// One that is no longer than any number of ours.
fn number(content: &[u8]) -> Option<i128> {
    let first = content.first()?;
    let start = if first & 0x80 == 0 { 0 } else { -1 };
    if content.len() > size_of::<i128>() {
        return None;
    }
    let digits = content.iter();
    Some(digits.fold(start, |number, byte| (number << 8) | i128::from(*byte)))
}

fn identifier(content: &[u8]) -> Option<Box<str>> {
    let mut text = String::new();
    let mut arc: u64 = 0;
    for byte in content {
        arc = arc.checked_mul(128)?.checked_add((byte & 0x7f).into())?;
        if byte & 0x80 != 0 {
            continue;
        }
        if text.is_empty() {
            let root = (arc / 40).min(2);
            let _ = write!(text, "{root}.{}", arc - 40 * root); // to a String, which does not fail
        } else {
            let _ = write!(text, ".{arc}");
        }
        arc = 0;
    }
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text() {
        let check = |value: &[u8], wanted: Option<&str>| {
            let length = u8::try_from(value.len()).unwrap();
            let whole = [&[VALUE, length][..], value].concat();
            assert_eq!(text(&whole).as_deref(), wanted, "{value:?}");
        };
        check(b"\x0c\x04me@a", Some("me@a"));
        check(b"\x16\x02hi", Some("hi"));
        check(b"\x01\x01\xff", Some("true"));
        check(b"\x01\x01\x00", Some("false"));
        check(b"\x02\x02\x01\x00", Some("256"));
        check(b"\x02\x01\xff", Some("-1"));
        check(b"\x05\x00", None);
        check(b"\x06\x03\x55\x1d\x11", Some("2.5.29.17"));
        check(b"\x0c\x09short", None);
        check(b"", None);
        assert_eq!(text(&[VALUE, 0x83, 0, 0, 0]), None);
        let huge = [[0xff; 20].as_slice(), &[0x7f]].concat();
        let length = u8::try_from(huge.len()).unwrap();
        check(&[&[OBJECT_IDENTIFIER, length][..], &huge].concat(), None);
    }
}
