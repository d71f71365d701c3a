//! Session affinity: the member that a request names, and how its client is told of the one that
//! answered. The bytes are Envoy's, so that proxies of both kinds share sessions.
//!
//! A cookie holds, in base64, a message of two fields: the address as text (1) and the second since
//! 1970 after which it says nothing (2). A header holds the address alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::HeaderValue;
use http::header::SET_COOKIE;

use crate::config::session::SessionCookie;
use crate::config::session::SessionState;
use crate::config::session::StatefulSession;
use crate::http::hash;

/// An address of a member takes less; what is longer names none.
const VALUE_BYTES_MAX: usize = 512;

/// Of one request.
#[derive(Debug)]
pub struct Session {
    config: Arc<StatefulSession>,
    /// Who served the client before, as it says.
    pub address: Option<Box<str>>,
}

impl Session {
    /// Reads a request; `None` if the filter is not for it. `now` is the time since 1970.
    pub fn new(
        config: &Arc<StatefulSession>,
        headers: &HeaderMap,
        path: &str,
        now: impl FnOnce() -> Duration,
    ) -> Option<Self> {
        let address = match config.state.as_ref()? {
            SessionState::Cookie(cookie) if !cookie.is_for(path) => return None,
            SessionState::Cookie(cookie) => {
                let value = hash::cookie(headers, cookie.name.as_bytes());
                value
                    .and_then(decoded)
                    .and_then(|text| of_cookie(&text, now))
            }
            SessionState::Header(name) => {
                let value = headers.get(name).map(HeaderValue::as_bytes);
                let text = value.and_then(decoded);
                text.and_then(|text| String::from_utf8(text).ok())
            }
        };
        Some(Self {
            config: Arc::clone(config),
            address: address.filter(|text| !text.is_empty()).map(Box::from),
        })
    }

    /// Whether nobody else may take the request.
    pub fn is_strict(&self) -> bool {
        self.config.strict.is_some()
    }

    /// The member that was named, and what is answered if the cluster has it not and nobody else may
    /// take the request.
    pub fn failure(&self) -> Option<(&str, http::StatusCode)> {
        self.address.as_deref().zip(self.config.strict)
    }

    /// Tells the client who answered, unless it knows.
    pub fn tell(&self, host: &str, headers: &mut HeaderMap, now: impl FnOnce() -> Duration) {
        if self.address.as_deref() == Some(host) {
            return;
        }
        match &self.config.state {
            None => {}
            Some(SessionState::Header(name)) => {
                if let Ok(value) = HeaderValue::try_from(STANDARD.encode(host)) {
                    headers.insert(name.clone(), value);
                }
            }
            Some(SessionState::Cookie(cookie)) => {
                if let Ok(value) = HeaderValue::try_from(set_cookie(cookie, host, now)) {
                    headers.append(SET_COOKIE, value);
                }
            }
        }
    }
}

fn set_cookie(cookie: &SessionCookie, host: &str, now: impl FnOnce() -> Duration) -> String {
    let mut message = Vec::with_capacity(host.len() + 16);
    message.push(ADDRESS);
    put_number(&mut message, host.len() as u64);
    message.extend_from_slice(host.as_bytes());
    if !cookie.ttl.is_zero() {
        message.push(EXPIRES);
        put_number(&mut message, (now() + cookie.ttl).as_secs());
    }
    let (name, attributes) = (&cookie.name, &cookie.attributes);
    format!("{name}=\"{}\"{attributes}", STANDARD.encode(message))
}

/// The address that a cookie names, if it has not expired. Without the message around it, it is one of
/// an earlier release of Envoy.
fn of_cookie(text: &[u8], now: impl FnOnce() -> Duration) -> Option<String> {
    if text.first() != Some(&ADDRESS) {
        return String::from_utf8(text.to_vec()).ok();
    }
    let (address, expires) = message(text)?;
    if expires != 0 && expires < now().as_secs() {
        return None;
    }
    Some(address)
}

/// Field 1, of the type that has a length.
const ADDRESS: u8 = 1 << 3 | 2;

/// Field 2, a number.
const EXPIRES: u8 = 2 << 3;

/// Both fields; others are stepped over, as Envoy does.
fn message(mut text: &[u8]) -> Option<(String, u64)> {
    let (mut address, mut expires) = (String::new(), 0);
    while !text.is_empty() {
        let key = number(&mut text)?;
        match key & 7 {
            0 => {
                let value = number(&mut text)?;
                if key == u64::from(EXPIRES) {
                    expires = value;
                }
            }
            1 => drop(take(&mut text, 8)?),
            2 => {
                let length = number(&mut text)?;
                let bytes = take(&mut text, usize::try_from(length).ok()?)?;
                if key == u64::from(ADDRESS) {
                    address = String::from_utf8(bytes.to_vec()).ok()?;
                }
            }
            5 => drop(take(&mut text, 4)?),
            _ => return None,
        }
        if key >> 3 == 0 {
            return None;
        }
    }
    Some((address, expires))
}

fn number(text: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(text, 1)?.first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'t>(text: &mut &'t [u8], length: usize) -> Option<&'t [u8]> {
    let (taken, rest) = text.split_at_checked(length)?;
    *text = rest;
    Some(taken)
}

fn put_number(message: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        message.push(0x80 | u8::try_from(value & 0x7f).unwrap_or(0));
        value >>= 7;
    }
    message.push(u8::try_from(value).unwrap_or(0));
}

fn decoded(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() > VALUE_BYTES_MAX {
        return None;
    }
    STANDARD.decode(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_795_862_557);

    fn cookie(ttl: u64) -> Arc<StatefulSession> {
        let cookie = SessionCookie {
            name: "c".into(),
            path: "/a".into(),
            ttl: Duration::from_secs(ttl),
            attributes: "; HttpOnly".into(),
        };
        Arc::new(StatefulSession {
            state: Some(SessionState::Cookie(cookie)),
            strict: None,
        })
    }

    fn header() -> Arc<StatefulSession> {
        let name = http::HeaderName::from_static("x-s");
        Arc::new(StatefulSession {
            state: Some(SessionState::Header(name)),
            strict: None,
        })
    }

    /// Who a request names.
    fn named(config: &Arc<StatefulSession>, field: &str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        let name = http::HeaderName::try_from(field).expect("a name");
        headers.insert(name, value.parse().expect("a value"));
        let session = Session::new(config, &headers, "/a", || NOW).expect("it is for it");
        session.address.map(String::from)
    }

    #[test]
    fn cookies_are_those_of_envoy() {
        // Seen of Envoy 1.40.0.
        let told = |ttl| {
            let mut headers = HeaderMap::new();
            let session = Session::new(&cookie(ttl), &headers, "/a", || NOW);
            let session = session.expect("it is for it");
            session.tell("127.0.0.1:36421", &mut headers, || NOW);
            headers[SET_COOKIE].to_str().expect("text").to_owned()
        };
        assert_eq!(told(0), r#"c="Cg8xMjcuMC4wLjE6MzY0MjE="; HttpOnly"#);
        assert_eq!(
            told(120),
            r#"c="Cg8xMjcuMC4wLjE6MzY0MjEQleGq2AY="; HttpOnly"#
        );
        let read = |value: &str| named(&cookie(0), "cookie", &format!("a=b; c={value}"));
        let known = Some("127.0.0.1:36421".to_owned());
        assert_eq!(read("Cg8xMjcuMC4wLjE6MzY0MjE="), known);
        assert_eq!(read("\"Cg8xMjcuMC4wLjE6MzY0MjEQleGq2AY=\""), known);
        let other = Some("127.0.0.1:46721".to_owned());
        assert_eq!(read("MTI3LjAuMC4xOjQ2NzIx"), other, "of an earlier release");
        assert_eq!(
            read("Cg8xMjcuMC4wLjE6NDY3MjEYBQ=="),
            other,
            "with another field"
        );
        for nothing in [
            "Cg8xMjcuMC4wLjE6NDY3MjEQBQ==", // expired
            "ChIxMjcuMC4wLjE6NDY3MjE=",     // cut
            "!!!",
            "",
            "Cg==",
        ] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
        assert!(Session::new(&cookie(0), &HeaderMap::new(), "/b", || NOW).is_none());
    }

    #[test]
    fn headers_are_those_of_envoy() {
        let known = Some("127.0.0.1:34777".to_owned());
        assert_eq!(named(&header(), "x-s", "MTI3LjAuMC4xOjM0Nzc3"), known);
        assert_eq!(named(&header(), "x-s", "zz"), None);
        let mut asked = HeaderMap::new();
        asked.insert("x-s", HeaderValue::from_static("MTI3LjAuMC4xOjM0Nzc3"));
        let session = Session::new(&header(), &asked, "/", || NOW).expect("it is for it");
        let mut headers = HeaderMap::new();
        session.tell("127.0.0.1:34777", &mut headers, || NOW);
        assert!(headers.is_empty(), "the client knows");
        session.tell("127.0.0.1:36421", &mut headers, || NOW);
        assert_eq!(headers["x-s"], "MTI3LjAuMC4xOjM2NDIx");
    }

    #[test]
    fn without_a_state_there_is_nothing() {
        let config = Arc::<StatefulSession>::default();
        assert!(Session::new(&config, &HeaderMap::new(), "/", || NOW).is_none());
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_again(host in "[ -~]{1,60}", ttl in 0_u64..1 << 40) {
            let config = cookie(ttl);
            let session = Session::new(&config, &HeaderMap::new(), "/a", || NOW).expect("it is for it");
            let mut headers = HeaderMap::new();
            session.tell(&host, &mut headers, || NOW);
            let set = headers[SET_COOKIE].to_str().expect("text");
            let value = set.split("; HttpOnly").next().expect("a part");
            prop_assert_eq!(named(&config, "cookie", value), Some(host));
        }

        #[test]
        fn any_bytes_are_read_without_harm(text in prop::collection::vec(any::<u8>(), 0..80)) {
            of_cookie(&text, || NOW);
        }
    }
}
