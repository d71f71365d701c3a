//! Revoking leaves, and what everybody needs to check a peer: roots and revocation lists.

use std::collections::BTreeSet;

use rustls_pki_types::UnixTime;

use super::Authority;
use super::AuthorityError;
use super::Federation;
use super::Record;
use super::Serial;
use super::init::to_pem_list;
use crate::ca::certificate;
use crate::ca::certificate::Entry;
use crate::ca::certificate::Validity;
use crate::ca::identity::SpiffeId;
use crate::ca::identity::TrustDomain;
use crate::ca::store::StoreError;
use crate::ca::store::audit::Event;
use crate::ca::store::state::Revoked;
use crate::ca::store::state::unhex;
use crate::limits::CLOCK_SKEW;
use crate::limits::REVOCATION_LIST_LIFE;
use crate::limits::REVOCATIONS_MAX;

/// Which leaves are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that name this identity.
    Name(SpiffeId),
    /// The one with this number.
    Serial(Serial),
}

/// What is needed to check a peer of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Whose it is.
    pub domain: TrustDomain,
    /// The roots in PEM, oldest first.
    pub roots: String,
    /// A revocation list of every authority whose key is here, in PEM.
    pub lists: String,
    /// The own domain for those who hold several apart: where a root's key is elsewhere, what is below
    /// it stands for it, because there is no list of that root.
    pub anchors: String,
    /// Other domains that are believed.
    pub federations: Vec<Federation>,
    /// Whether a list of the roots is missing, so that only leaves can be checked.
    pub only_leaves: bool,
    /// When the lists end.
    pub until: u64,
}

impl Authority {
    /// Revokes leaves that are still valid and not revoked yet; returns which those were.
    ///
    /// # Errors
    /// When there is none, or it cannot be stored.
    pub fn revoke(
        &mut self,
        now: UnixTime,
        which: &Which,
        actor: &str,
    ) -> Result<Vec<Record>, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        let mut state = self.store.state().clone();
        let known = state.revoked.iter().map(|one| one.serial.clone());
        let known: BTreeSet<String> = known.collect();
        let name = match which {
            Which::Name(name) => Some(name.to_string()),
            Which::Serial(_) => None,
        };
        let mut records = self.store.issued()?;
        records.retain(|record| {
            let is_meant = match which {
                Which::Name(_) => name.as_ref() == Some(&record.name),
                Which::Serial(serial) => record.serial == *serial,
            };
            let is_alive = record.until >= seconds;
            is_meant && is_alive && !known.contains(&record.serial.to_string())
        });
        if records.is_empty() {
            return Err(AuthorityError::Unknown(match which {
                Which::Name(name) => format!("the name {name}"),
                Which::Serial(serial) => format!("the serial number {serial}"),
            }));
        }
        let count = state.revoked.len();
        if count + records.len() > REVOCATIONS_MAX {
            let what = "revocations";
            return Err(StoreError::Full { what, count }.into());
        }
        state.list_number += 1;
        state.revoked.extend(records.iter().map(|record| Revoked {
            serial: record.serial.to_string(),
            issuer: record.issuer.clone(),
            name: record.name.clone(),
            at: seconds,
            until: record.until,
        }));
        for record in &records {
            let event = Event::Revoke {
                name: &record.name,
                serial: &record.serial.to_string(),
            };
            self.store.audit(seconds, actor, &event)?;
        }
        self.commit(seconds, state)?;
        Ok(records)
    }

    /// Roots and revocation lists as of now.
    ///
    /// # Errors
    /// When a list cannot be signed, or the state cannot be read.
    pub fn bundle(&mut self, now: UnixTime) -> Result<Bundle, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        let loaded = &self.loaded;
        let validity = Validity {
            from: seconds.saturating_sub(CLOCK_SKEW.as_secs()),
            until: seconds + REVOCATION_LIST_LIFE.as_secs(),
        };
        let below = loaded.intermediates.iter();
        let below = below.filter_map(|one| Some((&one.id, &one.issuer, one.ders.first()?)));
        let roots = loaded.roots.iter();
        let roots = roots.filter_map(|one| Some((&one.id, one.issuer.as_ref()?, &one.der)));
        let mut lists = String::new();
        for (id, issuer, der) in below.chain(roots) {
            let entries = self.entries(id, seconds);
            let number = self.store.state().list_number << LIST_NUMBER_SHIFT | seconds;
            let list = certificate::revocation_list(issuer, der, &entries, number, validity)?;
            lists += &to_pem_list(list.der());
        }
        Ok(Bundle {
            domain: self.domain().clone(),
            anchors: self.anchors(),
            federations: self.known_federations(),
            roots: loaded.roots.iter().map(|root| &*root.pem).collect(),
            lists,
            only_leaves: loaded.roots.iter().any(|root| root.issuer.is_none()),
            until: validity.until,
        })
    }

    fn anchors(&self) -> String {
        let roots = self.loaded.roots.iter();
        let (own, others): (Vec<_>, Vec<_>) = roots.partition(|root| root.issuer.is_some());
        let is_below = |id: &String| others.iter().any(|root| root.id == *id);
        let below = self.store.state().intermediates.iter();
        let below = below.filter(|below| is_below(&below.root));
        let below = below.filter_map(|below| below.chain.first().map(String::as_str));
        own.iter().map(|root| &*root.pem).chain(below).collect()
    }

    fn entries(&self, issuer: &str, now: u64) -> Vec<Entry> {
        let revoked = self.store.state().revoked.iter();
        let own = revoked.filter(|revoked| revoked.issuer == issuer && revoked.until >= now);
        own.filter_map(|revoked| {
            Some(Entry {
                serial: unhex(&revoked.serial)?,
                at: revoked.at,
            })
        })
        .collect()
    }
}

/// A list's number grows with each revocation and, between them, with time; 2^36 seconds are
/// 2,000 years.
const LIST_NUMBER_SHIFT: u32 = 36;
