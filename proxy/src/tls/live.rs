//! Contexts that follow their secrets: one pointer, swapped when a secret changes.
//!
//! A handshake takes the pointer once and goes on with what it found. Who made the context keeps it
//! current; nothing here waits or locks.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;

use crate::config::Secrets;
use crate::config::secret::Secret;
use crate::config::secret::SecretKey;
use crate::config::secret::SecretNames;
use crate::config::secret::SecretRef;

/// A context, as its secrets are now.
#[derive(Debug)]
pub struct Following<C> {
    current: ArcSwap<Current<C>>,
    /// That of `current`, for those who only compare.
    generation: AtomicU32,
    /// Of contexts that are gone, as long as there are connections. Locked when one goes, and by
    /// readers.
    older: Mutex<Vec<Weak<Ticket>>>,
}

/// Held by each connection, so that those of a context can be counted.
#[derive(Debug, Default)]
pub struct Ticket(());

/// A context made of certain secrets.
#[derive(Debug)]
pub struct Current<C> {
    /// One that cannot be made lets nobody in and nothing out.
    pub context: Result<C, String>,
    /// Tells it from those before.
    pub generation: u32,
    /// For the connections made with it.
    pub ticket: Arc<Ticket>,
    /// In the order of their names.
    made_of: Vec<Option<Secret>>,
    keys: Vec<SecretKey>,
}

impl<C> Current<C> {
    /// The secret of this name that it was made of.
    pub fn secret(&self, named: Option<&SecretRef>) -> Option<&Secret> {
        let key = &named?.key;
        let place = self.keys.iter().position(|one| one == key)?;
        self.made_of.get(place)?.as_ref()
    }

    /// All it was made of, those that were there.
    pub fn all_secrets(&self) -> Secrets {
        let pairs = self.keys.iter().zip(&self.made_of);
        pairs
            .filter_map(|(key, secret)| Some((key.clone(), secret.clone()?)))
            .collect()
    }
}

impl<C> Following<C> {
    /// The context of these secrets; `make` makes it.
    pub fn new(
        names: &SecretNames,
        secrets: &Secrets,
        make: impl FnOnce() -> Result<C, String>,
    ) -> Self {
        let made_of = names.pick(secrets);
        let context = make();
        log(&context, &made_of);
        Self {
            current: ArcSwap::from_pointee(Current {
                context,
                generation: 0,
                ticket: Arc::default(),
                made_of,
                keys: keys(names),
            }),
            generation: AtomicU32::new(0),
            older: Mutex::default(),
        }
    }

    /// The context for a handshake now.
    pub fn load(&self) -> Arc<Current<C>> {
        self.current.load_full()
    }

    /// That of the context a handshake would get now.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Connections made with the context of now, and those made with older ones.
    pub fn connections(&self) -> (usize, usize) {
        let current = self.current.load();
        let older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        let old = older.iter().map(Weak::strong_count).sum();
        (Arc::strong_count(&current.ticket) - 1, old)
    }

    /// Takes in changed secrets; says whether there is another context now. If all of them are there
    /// and cannot be used together, the last good context goes on.
    pub fn refresh(
        &self,
        names: &SecretNames,
        secrets: &Secrets,
        make: impl FnOnce() -> Result<C, String>,
    ) -> bool {
        let old = self.current.load();
        let made_of = names.pick(secrets);
        if made_of == old.made_of {
            return false;
        }
        let context = make();
        log(&context, &made_of);
        let are_all_there = made_of.iter().all(Option::is_some);
        if context.is_err() && are_all_there && old.context.is_ok() {
            return false;
        }
        let generation = old.generation.wrapping_add(1);
        self.current.store(Arc::new(Current {
            context,
            generation,
            ticket: Arc::default(),
            made_of,
            keys: keys(names),
        }));
        let mut older = self.older.lock().unwrap_or_else(PoisonError::into_inner);
        older.retain(|ticket| ticket.strong_count() > 0);
        older.push(Arc::downgrade(&old.ticket));
        drop(older);
        self.generation.store(generation, Ordering::Release);
        true
    }
}

fn keys(names: &SecretNames) -> Vec<SecretKey> {
    names.all().map(|named| named.key.clone()).collect()
}

fn log<C>(context: &Result<C, String>, made_of: &[Option<Secret>]) {
    let Err(error) = context else { return };
    if made_of.iter().any(Option::is_none) {
        tracing::warn!(%error, "TLS lets nobody in or out until its secrets are there");
    } else {
        tracing::error!(%error, "TLS cannot be used as it is now");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::TicketKeys;
    use crate::xds::stage::fixtures::named;

    fn keys(mark: u8) -> Secret {
        Secret::TicketKeys(TicketKeys(vec![Arc::new([mark; 80])]))
    }

    #[test]
    fn a_context_follows_its_secrets_and_keeps_the_last_good_one() {
        let names = SecretNames {
            ticket_keys: Some(named("k")),
            ..SecretNames::default()
        };
        let key = named("k").key;
        let none = Secrets::new();
        let with = |mark| Secrets::from([(key.clone(), keys(mark))]);
        let missing = || Err("not there".to_owned());
        let following = Following::<u8>::new(&names, &none, missing);
        assert!(following.load().context.is_err());
        assert!(!following.refresh(&names, &none, missing), "no change");
        assert!(following.refresh(&names, &with(1), || Ok(1)));
        assert_eq!(
            (&following.load().context, following.generation()),
            (&Ok(1), 1)
        );
        assert!(!following.refresh(&names, &with(1), || Ok(9)), "the same");
        let connection = Arc::clone(&following.load().ticket);
        assert_eq!(following.connections(), (1, 0));
        let unusable = || Err("cannot be used".to_owned());
        assert!(!following.refresh(&names, &with(2), unusable));
        assert_eq!(following.load().context, Ok(1), "the last good one");
        assert!(following.refresh(&names, &none, missing));
        assert!(
            following.load().context.is_err(),
            "without it nobody gets in"
        );
        assert_eq!(following.generation(), 2);
        assert_eq!(following.connections(), (0, 1));
        drop(connection);
        assert_eq!(following.connections(), (0, 0));
    }
}
