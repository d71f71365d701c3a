//! What there is, for people.

use std::collections::BTreeSet;

use rustls_pki_types::UnixTime;

use super::Authority;
use super::AuthorityError;
use super::Record;
use crate::ca::certificate::Validity;

/// An authority, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityInfo {
    /// Its name within the directory.
    pub id: String,
    /// When it begins and ends.
    pub validity: Validity,
    /// Whether its key is here.
    pub has_key: bool,
    /// When its first leaf may be signed; roots sign none.
    pub signs_from: Option<u64>,
    /// When it stops being trusted, if it was replaced.
    pub trusted_until: Option<u64>,
}

/// Everything there is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Oldest first.
    pub roots: Vec<AuthorityInfo>,
    /// Oldest first.
    pub intermediates: Vec<AuthorityInfo>,
    /// The intermediate that signs now.
    pub signing: Option<String>,
    /// Leaves that have not ended, oldest first, and whether each was revoked.
    pub leaves: Vec<(Record, bool)>,
}

impl Authority {
    /// What there is.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn overview(&mut self, now: UnixTime) -> Result<Overview, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        let state = self.store.state();
        let roots = self.loaded.roots.iter().zip(&state.roots);
        let roots = roots.map(|(root, stored)| AuthorityInfo {
            id: root.id.clone(),
            validity: root.validity,
            has_key: root.issuer.is_some(),
            signs_from: None,
            trusted_until: stored.trusted_until,
        });
        let below = self.loaded.intermediates.iter().map(|below| AuthorityInfo {
            id: below.id.clone(),
            validity: below.validity,
            has_key: true,
            signs_from: Some(below.signs_from),
            trusted_until: None,
        });
        let mut leaves = self.store.issued()?;
        leaves.retain(|leaf| leaf.until >= seconds);
        let revoked: BTreeSet<&str> = state.revoked.iter().map(|one| &*one.serial).collect();
        let leaves = leaves.into_iter().map(|leaf| {
            let is_revoked = revoked.contains(&*leaf.serial.to_string());
            (leaf, is_revoked)
        });
        Ok(Overview {
            roots: roots.collect(),
            intermediates: below.collect(),
            signing: self.loaded.signing(seconds).map(|below| below.id.clone()),
            leaves: leaves.collect(),
        })
    }
}
