//! Private keys as text, and the way from and to keys that sign.
//!
//! A text is wiped when it is dropped, and no log shows it. What signs keeps its key in the form the
//! library needs, and nothing of the text it came from.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use zeroize::Zeroize;
use zeroize::Zeroizing;

/// A private key, or something else nobody may see. Its memory is wiped when it goes.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text` from being shown.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for where it belongs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The key that a text in PEM holds, ready to sign; `None` if it holds none.
pub(super) fn read(text: &Secret) -> Option<KeyPair> {
    read_with_text(text).map(|(pair, _)| pair)
}

/// The same with its one text, whatever stood around it.
pub(super) fn read_with_text(text: &Secret) -> Option<(KeyPair, Secret)> {
    let der = Zeroizing::new(body(text.expose())?);
    let pair = KeyPair::try_from(der.as_slice()).ok()?;
    Some(part(pair))
}

/// A key that signs, and its text. The first holds nothing of the second any more.
pub(super) fn part(mut pair: KeyPair) -> (KeyPair, Secret) {
    let text = armor(pair.serialized_der());
    pair.zeroize();
    (pair, text)
}

/// What the first block of a private key holds. Each buffer is as large as it must be at once,
/// because one that grows leaves a copy behind.
fn body(pem: &str) -> Option<Vec<u8>> {
    let mut symbols = Zeroizing::new(String::with_capacity(pem.len()));
    let mut lines = pem.lines().map(str::trim);
    lines.find(|line| line.starts_with("-----BEGIN ") && line.ends_with(END))?;
    for line in lines {
        if line.starts_with("-----END ") {
            let mut der = Vec::with_capacity(symbols.len());
            STANDARD.decode_vec(symbols.as_bytes(), &mut der).ok()?;
            return Some(der);
        }
        symbols.push_str(line);
    }
    None
}

/// PKCS#8 as PEM.
fn armor(der: &[u8]) -> Secret {
    let mut symbols = Zeroizing::new(String::with_capacity(der.len() * 4 / 3 + 4));
    STANDARD.encode_string(der, &mut symbols);
    // Headers and line ends.
    let mut text = String::with_capacity(symbols.len() + symbols.len() / LINE + 80);
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in symbols.as_bytes().chunks(LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    Secret::new(text)
}

/// Of the first line of a private key of any kind.
const END: &str = "PRIVATE KEY-----";

/// RFC 7468 section 2.
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::key::KeyKind;

    #[test]
    fn what_is_written_can_be_read_and_is_what_others_write() {
        for kind in KeyKind::ALL {
            let (pair, text) = kind.generate().unwrap();
            assert!(
                pair.serialized_der().is_empty(),
                "nothing of the text stays"
            );
            let known = KeyPair::from_pem(text.expose()).unwrap();
            assert_eq!(known.serialize_pem(), text.expose());
            let around = format!("some text\n{}\nmore", text.expose().replace('\n', "\r\n"));
            let (again, same) = read_with_text(&Secret::new(around)).unwrap();
            assert_eq!(same.expose(), text.expose());
            assert_eq!(again.public_key_raw(), pair.public_key_raw());
        }
        for bad in [
            "",
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\n%\n-----END PRIVATE KEY-----",
        ] {
            assert!(read(&Secret::new(bad.to_owned())).is_none(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", Secret::new("x".to_owned())), "Secret");
    }
}
