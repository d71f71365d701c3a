//! Peers' bytes made safe for one line of text or for a JSON string.
//!
//! What comes out is valid UTF-8 without control characters (C1 included, some terminals obey them),
//! and an escaped quotation mark cannot end the field it stands in.

use std::char;

const HEX: [u8; 16] = *b"0123456789abcdef";

/// For a line of text: `\xNN` for control bytes, for bytes that are no UTF-8, for `"` and for `\`.
pub(super) fn text(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut encoded = [0; 4];
            let encoded = character.encode_utf8(&mut encoded).as_bytes();
            if character.is_control() || matches!(character, '"' | '\\') {
                encoded.iter().for_each(|byte| hex(*byte, out));
            } else {
                out.extend_from_slice(encoded);
            }
        }
        chunk.invalid().iter().for_each(|byte| hex(*byte, out));
    }
}

/// For the inside of a JSON string (RFC 8259 section 7); what is no UTF-8 becomes U+FFFD.
pub(super) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| json_character(c, out));
        if !chunk.invalid().is_empty() {
            json_character(char::REPLACEMENT_CHARACTER, out);
        }
    }
}

/// Escapes what is already in `out` from `start`; for a date format with odd literals in it.
pub(super) fn json_tail(start: usize, out: &mut Vec<u8>) {
    let tail = out.get(start..).unwrap_or_default();
    if !tail.iter().all(|byte| is_plain(*byte)) {
        let raw = out.split_off(start);
        json(&raw, out);
    }
}

fn json_character(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // Control characters are below U+00A0, so two digits say it all.
        control if control.is_control() => {
            out.extend_from_slice(b"\\u00");
            let code = u32::from(control);
            digits(u8::try_from(code).unwrap_or(0), out);
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\x");
    digits(byte, out);
}

fn digits(byte: u8, out: &mut Vec<u8>) {
    out.extend([byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::proptest;

    fn text(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        super::text(bytes, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn json(bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![b'"'];
        super::json(bytes, &mut out);
        out.push(b'"');
        out
    }

    #[test]
    fn text_table() {
        let table: [(&[u8], &str); 6] = [
            (b"curl/8.1 (x)", "curl/8.1 (x)"),
            (b"a\"b\\c", "a\\x22b\\x5cc"),
            (b"a\r\nb\x7f", "a\\x0d\\x0ab\\x7f"),
            ("\u{e9}\u{4e2d}".as_bytes(), "\u{e9}\u{4e2d}"),
            (b"\x80\xffz", "\\x80\\xffz"),
            ("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m"),
        ];
        for (input, expected) in table {
            assert_eq!(text(input), expected);
        }
    }

    proptest! {
        #[test]
        fn text_is_one_printable_line(bytes in any::<Vec<u8>>()) {
            let line = text(&bytes);
            assert!(!line.chars().any(char::is_control));
            assert!(!line.contains('"'));
        }

        #[test]
        fn text_of_different_bytes_differs(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            assert_eq!(a == b, text(&a) == text(&b));
        }

        #[test]
        fn json_parses_back(bytes in any::<Vec<u8>>()) {
            let parsed: String = serde_json::from_slice(&json(&bytes)).expect("JSON");
            assert_eq!(parsed, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn json_has_no_control_character(characters in any::<String>()) {
            let out = String::from_utf8(json(characters.as_bytes())).expect("UTF-8");
            assert!(!out.chars().any(char::is_control));
        }
    }
}
