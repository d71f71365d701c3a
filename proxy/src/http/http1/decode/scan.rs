//! Finding the next byte that matters, eight at a time.
//!
//! The tricks on `u64` flag the first wanted byte exactly; flags above it may be wrong, so only the
//! lowest is used. Bytes are read little-endian, so lowest is first.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// RFC 9110 section 5.6.2 `tchar`.
static TOKEN: [bool; 256] = token_table();

/// The index from `at` of the first byte a field value may not contain, or the length. Tab is
/// allowed inside.
pub(super) fn value_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    loop {
        at = find(
            bytes,
            at,
            |word| below(word, 0x20) | equal(word, 0x7f),
            |byte| byte < 0x20 || byte == 0x7f,
        );
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// The index from `at` of the first byte a request target may not contain, or the length. Fragments
/// are no part of a target (RFC 9112 section 3.2).
pub(super) fn target_end(bytes: &[u8], at: usize) -> usize {
    let word = |word| below(word, 0x21) | (word & HIGHS) | equal(word, 0x7f) | equal(word, b'#');
    find(bytes, at, word, |byte| {
        !matches!(byte, 0x21..=0x7e) || byte == b'#'
    })
}

/// The index from `at` of the first byte that is not of a token, or the length. Names are short:
/// looking at each byte measured faster than any way of looking at eight.
pub(super) fn token_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let token = rest.iter().position(|byte| !is_token(*byte));
    token.map_or(bytes.len(), |len| at + len)
}

/// True for a byte of a method or a field name.
pub(super) fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

fn find(
    bytes: &[u8],
    at: usize,
    word_has: impl Fn(u64) -> u64,
    byte_is: impl Fn(u8) -> bool,
) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let flags = word_has(u64::from_le_bytes(*word));
        if flags != 0 {
            return at + index * 8 + flags.trailing_zeros() as usize / 8;
        }
    }
    let found = tail.iter().position(|byte| byte_is(*byte));
    found.map_or(bytes.len(), |index| at + words.len() * 8 + index)
}

/// Flags bytes below `limit`, which is at most 0x80.
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGHS
}

/// Flags bytes equal to `byte`.
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}
