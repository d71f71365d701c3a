//! Session tickets that only their own context opens.
//!
//! The key is derived from the context: from what clients must show, whom we trust and who we are.
//! So a session of one context is never resumed in another, even when both share the configured
//! keys (security case T4), and a change of trust makes all older tickets void. A ticket carries its
//! time of issue and dies at the session timeout.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::RandomizedNonceKey;
use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;

use crate::config::tls::Tickets;

/// A key of this process seals for the session timeout, but within these bounds, and opens for as
/// long again: so a ticket lives as long as it may, and no key for more than a day.
const ROTATION_SECONDS: (u64, u64) = (600, 12 * 3600);

/// Names the key inside a ticket, so that the right one is tried.
const KEY_NAME_BYTES: usize = 16;

/// Seals and opens the tickets of one context.
#[derive(Debug)]
pub(super) struct Ticketer {
    keys: Keys,
    lifetime: u64,
}

#[derive(Debug)]
enum Keys {
    /// As configured: the first seals.
    Fixed(Vec<Key>),
    /// Of this process.
    Rotating(Mutex<Rotation>),
}

#[derive(Debug)]
struct Rotation {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
    next_change: u64,
    period: u64,
}

#[derive(Debug)]
struct Key {
    name: [u8; KEY_NAME_BYTES],
    seal: RandomizedNonceKey,
}

impl Ticketer {
    /// `None` if there are no tickets. `scope` is a digest of everything a session must not outlive.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn new(
        tickets: &Tickets,
        scope: &[u8; 32],
        timeout: Duration,
    ) -> Result<Option<Self>, String> {
        let (least, most) = ROTATION_SECONDS;
        let period = timeout.as_secs().clamp(least, most);
        let keys = match tickets {
            Tickets::Off => return Ok(None),
            Tickets::Keys(secrets) => {
                let keys = secrets.iter().map(|secret| Key::derive(&secret[..], scope));
                Keys::Fixed(keys.collect::<Result<_, _>>()?)
            }
            Tickets::Random => Keys::Rotating(Mutex::new(Rotation {
                current: Arc::new(Key::random()?),
                previous: None,
                next_change: now().saturating_add(period),
                period,
            })),
        };
        Ok(Some(Self {
            keys,
            lifetime: timeout.as_secs(),
        }))
    }

    /// The key that seals now. The lock is held for two comparisons, and once an hour for a new key.
    fn with_current<R>(&self, use_key: impl FnOnce(&Key) -> Option<R>) -> Option<R> {
        match &self.keys {
            Keys::Fixed(keys) => use_key(keys.first()?),
            Keys::Rotating(rotation) => {
                let mut rotation = rotation.lock().unwrap_or_else(PoisonError::into_inner);
                rotation.turn(now());
                let key = Arc::clone(&rotation.current);
                drop(rotation);
                use_key(&key)
            }
        }
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let name = ticket.get(..KEY_NAME_BYTES)?;
        match &self.keys {
            Keys::Fixed(keys) => keys.iter().find(|key| key.name == name)?.open(ticket),
            Keys::Rotating(rotation) => {
                let mut rotation = rotation.lock().unwrap_or_else(PoisonError::into_inner);
                rotation.turn(now());
                let keys = [
                    Some(Arc::clone(&rotation.current)),
                    rotation.previous.clone(),
                ];
                drop(rotation);
                let mut keys = keys.into_iter().flatten();
                keys.find(|key| key.name == name)?.open(ticket)
            }
        }
    }
}

impl Rotation {
    /// Without random bytes the old key goes on: refusing service is worse than a key that is old.
    fn turn(&mut self, now: u64) {
        if now < self.next_change {
            return;
        }
        if let Ok(key) = Key::random() {
            let old = std::mem::replace(&mut self.current, Arc::new(key));
            let is_fresh = now < self.next_change.saturating_add(self.period);
            self.previous = is_fresh.then_some(old);
        }
        self.next_change = now.saturating_add(self.period);
    }
}

impl Key {
    fn random() -> Result<Self, String> {
        let mut secret = [0; 64];
        rand::fill(&mut secret).map_err(|_| "no random bytes".to_owned())?;
        Self::derive(&secret, &[0; 32])
    }

    fn derive(secret: &[u8], scope: &[u8]) -> Result<Self, String> {
        let root = hmac::Key::new(hmac::HMAC_SHA512, secret);
        let mut context = hmac::Context::with_key(&root);
        context.update(b"weir session ticket v1");
        context.update(scope);
        let derived = context.sign();
        let (key, rest) = derived.as_ref().split_at(32);
        let mut name = [0; KEY_NAME_BYTES];
        name.copy_from_slice(rest.get(..KEY_NAME_BYTES).unwrap_or_default());
        let seal = RandomizedNonceKey::new(&AES_256_GCM, key)
            .map_err(|_| "the session ticket key cannot be used".to_owned())?;
        Ok(Self { name, seal })
    }

    /// Name, nonce, then sealed: time of issue and state.
    fn seal(&self, issued: u64, state: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(state.len() + 64);
        sealed.extend_from_slice(&issued.to_be_bytes());
        sealed.extend_from_slice(state);
        let nonce = self
            .seal
            .seal_in_place_append_tag(Aad::from(self.name), &mut sealed)
            .ok()?;
        let mut ticket = Vec::with_capacity(KEY_NAME_BYTES + NONCE_LEN + sealed.len());
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let rest = ticket.get(KEY_NAME_BYTES..)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = aws_lc_rs::aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self
            .seal
            .open_in_place(nonce, Aad::from(self.name), &mut sealed)
            .ok()?;
        Some(plain.to_vec())
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // RFC 8446 section 4.6.1: at most seven days.
        u32::try_from(self.lifetime.min(7 * 24 * 3600)).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        self.with_current(|key| key.seal(now(), state))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.open(ticket)?;
        let (issued, state) = plain.split_first_chunk::<8>()?;
        let age = now().checked_sub(u64::from_be_bytes(*issued))?;
        (age <= self.lifetime).then(|| state.to_vec())
    }
}

fn now() -> u64 {
    UnixTime::now().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(scope: u8) -> Ticketer {
        let keys = Tickets::Keys(vec![Arc::new([7; 80])]);
        Ticketer::new(&keys, &[scope; 32], Duration::from_secs(60))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn t04_shared_keys_open_only_tickets_of_the_same_context() {
        let ticket = fixed(1).encrypt(b"state").unwrap();
        assert_eq!(fixed(1).decrypt(&ticket).unwrap(), b"state");
        assert_eq!(fixed(2).decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_that_was_touched_or_cut_is_not_opened() {
        let ticketer = fixed(1);
        let ticket = ticketer.encrypt(b"state").unwrap();
        for len in 0..ticket.len() {
            assert_eq!(ticketer.decrypt(&ticket[..len]), None, "cut at {len}");
            let mut touched = ticket.clone();
            touched[len] ^= 1;
            assert_eq!(ticketer.decrypt(&touched), None, "touched at {len}");
        }
    }

    #[test]
    fn a_ticket_dies_at_the_timeout() {
        let ticketer = fixed(1);
        let Keys::Fixed(keys) = &ticketer.keys else {
            unreachable!("keys were given")
        };
        let old = keys[0].seal(now() - 61, b"state").unwrap();
        assert_eq!(ticketer.decrypt(&old), None);
        let future = keys[0].seal(now() + 60, b"state").unwrap();
        assert_eq!(ticketer.decrypt(&future), None);
    }

    #[test]
    fn a_rotated_key_still_opens_for_one_turn() {
        let rotation = |next_change| Rotation {
            current: Arc::new(Key::random().unwrap()),
            previous: None,
            next_change,
            period: 10,
        };
        let mut turned = rotation(100);
        let first = turned.current.name;
        turned.turn(100);
        assert_ne!(turned.current.name, first);
        assert_eq!(turned.previous.as_ref().unwrap().name, first);
        let mut late = rotation(100);
        late.turn(110);
        assert!(late.previous.is_none(), "the old key is too old to open");
    }
}
