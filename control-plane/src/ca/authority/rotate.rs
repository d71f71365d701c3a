//! Replacing authorities so that nobody notices, and letting go of old ones.
//!
//! ```text
//!   rotate ──► the new root and intermediate are told to everybody, and sign nothing yet
//!    spread ─► the new intermediate signs; both roots are trusted
//!   + life ──► the last leaf of the old root has ended; the old root is gone
//! ```

use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::Authority;
use super::AuthorityError;
use super::External;
use super::external::take_external;
use super::init::Made;
use super::init::new_intermediate;
use super::init::new_root;
use super::init::signs_from;
use crate::ca::certificate::Validity;
use crate::ca::store::StoreError;
use crate::ca::store::audit::Event;
use crate::ca::store::state::Intermediate;
use crate::ca::store::state::Root;
use crate::ca::store::state::State;
use crate::ca::store::state::key_file;
use crate::limits::AUTHORITIES_MAX;
use crate::limits::CA_MAINTENANCE;
use crate::limits::CLOCK_NOTED;
use crate::limits::REFUSALS_KEPT;
use crate::limits::SPREAD;

impl Authority {
    /// Replaces the intermediate: the new one signs after `spread`. Returns its id.
    ///
    /// # Errors
    /// When the root's key is not here, or it cannot be stored.
    pub fn rotate_intermediate(
        &mut self,
        now: UnixTime,
        spread: Duration,
        actor: &str,
    ) -> Result<String, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        self.add_intermediate(seconds, spread, actor)
    }

    /// Replaces the intermediate by one somebody else signed; it signs after `spread`. Returns its
    /// id.
    ///
    /// # Errors
    /// When it cannot be used or stored.
    pub fn take_intermediate(
        &mut self,
        now: UnixTime,
        external: &External,
        spread: Duration,
        actor: &str,
    ) -> Result<String, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        let mut state = self.store.state().clone();
        let mut made = match take_external(&mut state, external, seconds) {
            Err(AuthorityError::Refused(refusal)) => {
                return Err(self.refuse(seconds, actor, "an intermediate", refusal));
            }
            made => made?,
        };
        made.record.signs_from = signs_from(seconds, spread);
        self.add(seconds, state, None, made, actor)
    }

    /// Replaces the root: the new one is trusted at once, its intermediate signs after `spread`,
    /// and the old root goes when its last leaf has ended. Returns its id.
    ///
    /// # Errors
    /// When the root's key is not here, or it cannot be stored.
    pub fn rotate_root(
        &mut self,
        now: UnixTime,
        spread: Duration,
        actor: &str,
    ) -> Result<String, AuthorityError> {
        let seconds = now.as_secs();
        let _lock = self.enter(seconds)?;
        self.add_root(seconds, spread, actor)
    }

    fn add_intermediate(
        &mut self,
        now: u64,
        spread: Duration,
        actor: &str,
    ) -> Result<String, AuthorityError> {
        let mut state = self.store.state().clone();
        let root = self.newest_root(&state, now)?;
        let made = new_intermediate(&mut state, &root, now, spread)?;
        self.add(now, state, None, made, actor)
    }

    fn add_root(
        &mut self,
        now: u64,
        spread: Duration,
        actor: &str,
    ) -> Result<String, AuthorityError> {
        let mut state = self.store.state().clone();
        // Only who has a root can replace it.
        self.newest_root(&state, now)?;
        let root = new_root(&mut state, now)?;
        let below = new_intermediate(&mut state, &root, now, spread)?;
        let gone_at = now + spread.as_secs() + state.leaf_life;
        for old in &mut state.roots {
            old.trusted_until.get_or_insert(gone_at);
        }
        self.add(now, state, Some(root), below, actor)
    }

    /// The newest root, with its key.
    fn newest_root(&self, state: &State, now: u64) -> Result<Made<Root>, AuthorityError> {
        let (root, _) = self
            .loaded
            .newest_root(now)
            .ok_or(AuthorityError::ForeignRoot)?;
        let record = state.roots.iter().find(|known| known.id == root.id);
        Ok(Made {
            record: record.cloned().ok_or(AuthorityError::ForeignRoot)?,
            key: self.store.read_key(&key_file(&root.id))?,
        })
    }

    /// Keys first, then the state that names them.
    fn add(
        &mut self,
        now: u64,
        mut state: State,
        root: Option<Made<Root>>,
        below: Made<Intermediate>,
        actor: &str,
    ) -> Result<String, AuthorityError> {
        let count = state.intermediates.len().max(state.roots.len());
        if count >= AUTHORITIES_MAX {
            let what = "authorities";
            return Err(StoreError::Full { what, count }.into());
        }
        let id = root
            .as_ref()
            .map_or(&below.record.id, |root| &root.record.id);
        let id = id.clone();
        if let Some(root) = root {
            self.store
                .write_key(&key_file(&root.record.id), &root.key)?;
            state.roots.push(root.record);
        }
        self.store
            .write_key(&key_file(&below.record.id), &below.key)?;
        state.intermediates.push(below.record);
        let event = Event::Rotate {
            what: "added",
            id: &id,
        };
        self.store.audit(now, actor, &event)?;
        self.commit(now, state)?;
        self.reload()?;
        Ok(id)
    }

    /// Replaces what is past half its life, and lets go of what nobody needs. The caller has
    /// entered.
    pub(super) fn look_after(&mut self, now: u64) -> Result<(), AuthorityError> {
        // Set first: what comes below asks for the state again, and must not end here again.
        self.due = now + CA_MAINTENANCE.as_secs();
        let is_old = |validity: Validity| now > validity.from.midpoint(validity.until);
        let root = self.loaded.newest_root(now);
        let root = root.map(|(root, _)| root.validity);
        let newest = self
            .loaded
            .intermediates
            .iter()
            .max_by_key(|below| below.signs_from);
        let newest = newest.map(|below| below.validity);
        let is_signing = self.loaded.signing(now).is_some();
        if root.is_some_and(is_old) {
            self.add_root(now, SPREAD, OWN_ACCORD)?;
        } else if root.is_some() && (newest.is_none_or(is_old) || !is_signing) {
            // Without one that signs there is nobody to wait for.
            let spread = if is_signing { SPREAD } else { Duration::ZERO };
            self.add_intermediate(now, spread, OWN_ACCORD)?;
        }
        self.let_go(now)?;
        self.store.compact(now)?;
        self.due = self.next_look(now);
        Ok(())
    }

    fn next_look(&self, now: u64) -> u64 {
        let state = self.store.state();
        let ends = state.roots.iter().filter_map(|root| root.trusted_until);
        let starts = state.intermediates.iter().map(|below| below.signs_from);
        let later = ends.chain(starts).filter(|at| *at > now);
        later
            .min()
            .unwrap_or(u64::MAX)
            .min(now + CA_MAINTENANCE.as_secs())
    }

    fn let_go(&mut self, now: u64) -> Result<(), AuthorityError> {
        let old = self.store.state();
        let mut state = old.clone();
        let ended = now.saturating_sub(REFUSALS_KEPT.as_secs());
        state.revoked.retain(|revoked| revoked.until >= ended);
        state.used_tokens.retain(|used| used.until >= ended);
        let signing = self.loaded.signing(now).map(|below| below.id.clone());
        let may_go = state.intermediates.len() > 1 || old.roots.len() > 1;
        if may_go && signing.is_some() {
            let mut leaves = self.store.issued()?;
            leaves.retain(|leaf| leaf.until >= now);
            let is_used = |id: &str| leaves.iter().any(|leaf| leaf.issuer == id);
            state.intermediates.retain(|below| {
                Some(&below.id) == signing.as_ref() || below.signs_from > now || is_used(&below.id)
            });
            let below = &state.intermediates;
            let is_needed = |id: &str| below.iter().any(|below| below.root == id);
            state.roots.retain(|root| {
                root.trusted_until.is_none_or(|until| until > now) || is_needed(&root.id)
            });
        }
        if state == *old && now < old.clock + CLOCK_NOTED.as_secs() {
            return Ok(());
        }
        let kept: Vec<&String> = ids(&state).collect();
        let gone: Vec<String> = ids(old).filter(|id| !kept.contains(id)).cloned().collect();
        for id in &gone {
            let event = Event::Rotate {
                what: "removed",
                id,
            };
            self.store.audit(now, OWN_ACCORD, &event)?;
        }
        self.commit(now, state)?;
        for id in &gone {
            self.store.remove_key(&key_file(id))?;
        }
        if !gone.is_empty() {
            self.reload()?;
        }
        Ok(())
    }
}

fn ids(state: &State) -> impl Iterator<Item = &String> {
    let roots = state.roots.iter().map(|root| &root.id);
    roots.chain(state.intermediates.iter().map(|below| &below.id))
}

/// Who acts when nobody asked.
const OWN_ACCORD: &str = "the authority itself";
