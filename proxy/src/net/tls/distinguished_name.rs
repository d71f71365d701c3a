//! Distinguished names as text, the way OpenSSL's RFC 2253 form has them: the most specific part
//! first, no space after the comma, bytes beyond ASCII as `\XX`.

use std::fmt::Write as _;

use x509_parser::x509::AttributeTypeAndValue;
use x509_parser::x509::X509Name;

/// Attribute types that have a name; others stand as their OID.
const NAMES: &[(&str, &str)] = &[
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
];

/// The whole name.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let sets: Vec<_> = name.iter().collect();
    for (i, set) in sets.iter().rev().enumerate() {
        for (j, attribute) in set.iter().enumerate() {
            match (i, j) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            push(&mut text, attribute);
        }
    }
    text
}

fn push(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let name = NAMES.iter().find(|(known, _)| *known == oid);
    text.push_str(name.map_or(oid.as_str(), |(_, name)| name));
    text.push('=');
    match attribute.as_str() {
        Ok(value) if name.is_some() => escape(text, value),
        // RFC 2253 section 2.4: a type without name has its encoding after a hash.
        _ => {
            text.push('#');
            for byte in attribute.attr_value().data {
                let _ = write!(text, "{byte:02X}"); // writing to a String does not fail
            }
        }
    }
}

fn escape(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (i, byte) in value.bytes().enumerate() {
        let at_an_end = (i == 0 && matches!(byte, b' ' | b'#')) || (i == last && byte == b' ');
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            _ if at_an_end => {
                text.push('\\');
                text.push(char::from(byte));
            }
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}"); // writing to a String does not fail
            }
        }
    }
}
