//! The one door to the authority: issues, rotates, revokes, and remembers all of it.
//!
//! Every step takes the time as an argument. A step that returns an error changed nothing that
//! counts: at worst serial numbers are lost, or a line of the index names a leaf nobody got.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::rand;
use rustls_pki_types::UnixTime;

use super::access;
use super::access::Caller;
use super::access::Grant;
use super::certificate::CertificateError;
use super::disk::Directory;
use super::disk::Disk;
use super::identity::SpiffeId;
use super::identity::TrustDomain;
use super::rate::Rates;
use super::refusal::Refusal;
use super::store::Store;
use super::store::StoreError;
use super::store::state::State;
use crate::limits::CA_MAINTENANCE;
use crate::limits::CLOCK_JUMP_MAX;

mod external;
mod federate;
mod init;
mod issue;
mod join;
mod loaded;
mod overview;
mod renewal;
mod revoke;
mod rotate;
mod workload;

use loaded::Loaded;

pub use crate::ca::secret::Secret;
pub use crate::ca::store::Record;
pub use crate::ca::store::Serial;
pub use crate::ca::store::SerialError;
pub use external::External;
pub use federate::Federation;
pub use init::Options;
pub use issue::KeySource;
pub use issue::Leaf;
pub use issue::Order;
pub use overview::AuthorityInfo;
pub use overview::Overview;
pub use renewal::renewal_at;
pub use revoke::Bundle;
pub use revoke::Which;
pub use workload::Signed;
pub use workload::SigningRequest;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A certificate could not be made or used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The clock is not believed.
    #[error(
        "the clock is {days} days after the last time anything was done here; if it is right, run weir ca list --trust-clock"
    )]
    Clock {
        /// How far.
        days: u64,
    },
    /// Only an authority with its own root can.
    #[error(
        "the root is somebody else's, so its key is not here; have a new intermediate signed there and give it with --certificate and --key"
    )]
    ForeignRoot,
    /// A certificate or key given from outside.
    #[error("{what} cannot be used: {reason}")]
    Given {
        /// Which.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// Nothing signs at this time.
    #[error(
        "no authority here signs at this time; its certificates have expired or the clock is wrong"
    )]
    NothingSigns,
    /// Somebody may not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing to revoke.
    #[error("no leaf that is still valid has {0}; weir ca list shows those there are")]
    Unknown(String),
    /// The directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Equal as long as nobody has to hear anything new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    list_number: u64,
    federation_number: u64,
    authorities: Vec<String>,
}

/// The authority of one trust domain.
#[derive(Debug)]
pub struct Authority {
    store: Store,
    loaded: Loaded,
    /// When to look after the authorities again.
    due: u64,
    refusals: BTreeMap<&'static str, u64>,
    /// Who was signed for lately.
    rates: Rates,
}

impl Authority {
    /// Makes a new authority in a directory.
    ///
    /// # Errors
    /// When there is one already, what was given cannot be used, or the directory cannot be
    /// written.
    pub fn init(path: &Path, options: &Options, now: UnixTime) -> Result<Self, AuthorityError> {
        let directory = Directory::new(path);
        directory.make().map_err(|source| StoreError::Io {
            file: path.to_owned(),
            action: "make the directory",
            source,
        })?;
        Self::init_on(Box::new(directory), options, now.as_secs())
    }

    /// Opens the authority in a directory.
    ///
    /// # Errors
    /// When there is none, or one of its files is not what was written; the error names it.
    pub fn open(path: &Path) -> Result<Self, AuthorityError> {
        Self::open_on(Box::new(Directory::new(path)))
    }

    fn open_on(disk: Box<dyn Disk>) -> Result<Self, AuthorityError> {
        Self::of_store(Store::open(disk)?)
    }

    fn of_store(store: Store) -> Result<Self, AuthorityError> {
        Ok(Self {
            loaded: Loaded::new(&store)?,
            store,
            due: 0,
            refusals: BTreeMap::new(),
            rates: Rates::default(),
        })
    }

    /// The domain it vouches for.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.store.state().domain
    }

    /// How long leaves live unless asked otherwise.
    #[must_use]
    pub fn leaf_life(&self) -> Duration {
        Duration::from_secs(self.store.state().leaf_life)
    }

    /// How often each reason to refuse was given since the authority was opened.
    #[must_use]
    pub fn refusals(&self) -> &BTreeMap<&'static str, u64> {
        &self.refusals
    }

    /// Changes with everything that decides whom others believe.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn trust(&mut self, now: UnixTime) -> Result<Trust, AuthorityError> {
        let _lock = self.enter(now.as_secs())?;
        let state = self.store.state();
        let below = state.intermediates.iter().map(|below| below.id.clone());
        let roots = state.roots.iter().map(|root| root.id.clone());
        Ok(Trust {
            list_number: state.list_number,
            federation_number: state.federation_number,
            authorities: roots.chain(below).collect(),
        })
    }

    /// Whether a leaf was revoked, as far as is known here.
    #[must_use]
    pub fn is_revoked(&self, serial: Serial) -> bool {
        self.is_serial_revoked(&serial.to_string())
    }

    /// Whether a caller may have a secret; a refusal is counted and audited.
    ///
    /// # Errors
    /// The refusal, or that it could not be audited.
    pub fn may_have(
        &mut self,
        now: UnixTime,
        caller: &Caller,
        name: &str,
    ) -> Result<Grant, AuthorityError> {
        let (_lock, is_changed) = self.store.enter()?;
        if is_changed {
            self.loaded = Loaded::new(&self.store)?;
        }
        match self.judge(caller, name) {
            Ok(grant) => Ok(grant),
            Err(refusal) => Err(self.refuse(now.as_secs(), &caller.to_string(), name, refusal)),
        }
    }

    /// Whether a caller may be here at all; a refusal is counted and audited.
    ///
    /// # Errors
    /// The refusal, or that it could not be audited.
    pub fn may_stay(&mut self, now: UnixTime, caller: &Caller) -> Result<(), AuthorityError> {
        let Caller::Certificate { serial, .. } = caller else {
            return Ok(()); // only certificates can be revoked
        };
        let (_lock, is_changed) = self.store.enter()?;
        if is_changed {
            self.loaded = Loaded::new(&self.store)?;
        }
        if self.is_serial_revoked(serial) {
            let (now, actor) = (now.as_secs(), caller.to_string());
            return Err(self.refuse(now, &actor, "to stay", Refusal::Revoked));
        }
        Ok(())
    }

    /// Counts and audits that somebody was sent away in a TLS handshake, for their certificate.
    ///
    /// # Errors
    /// The refusal, or that it could not be audited.
    pub fn refuse_certificate(
        &mut self,
        now: UnixTime,
        actor: &str,
        reason: String,
    ) -> Result<(), AuthorityError> {
        let (_lock, is_changed) = self.store.enter()?;
        if is_changed {
            self.loaded = Loaded::new(&self.store)?;
        }
        let refusal = Refusal::Certificate { reason };
        Err(self.refuse(now.as_secs(), actor, "to connect", refusal))
    }

    fn is_serial_revoked(&self, serial: &str) -> bool {
        let mut revoked = self.store.state().revoked.iter();
        revoked.any(|revoked| revoked.serial == serial)
    }

    fn judge(&self, caller: &Caller, name: &str) -> Result<Grant, Refusal> {
        let identity = match caller {
            Caller::Exposed => return Err(Refusal::Exposed),
            _ => caller.identity().ok_or(Refusal::Anonymous)?,
        };
        if let Caller::Certificate { serial, .. } = caller
            && self.is_serial_revoked(serial)
        {
            return Err(Refusal::Revoked);
        }
        let is_federated = |domain: &TrustDomain| self.is_federated(domain);
        access::may_have(identity, self.domain(), &is_federated, name)
    }

    /// Counts and audits a refusal. The caller has entered.
    fn refuse(&mut self, now: u64, actor: &str, wanted: &str, refusal: Refusal) -> AuthorityError {
        *self.refusals.entry(refusal.label()).or_default() += 1;
        match self.store.audit_refusal(now, actor, wanted, &refusal) {
            Ok(()) => AuthorityError::Refused(refusal),
            Err(error) => AuthorityError::Store(error),
        }
    }

    /// Takes the lock and catches up with other processes; looks after the authorities when it is
    /// time.
    fn enter(&mut self, now: u64) -> Result<super::store::Locked, AuthorityError> {
        let (lock, is_changed) = self.store.enter()?;
        if is_changed {
            self.reload()?;
        }
        self.check_clock(now)?;
        // A clock that was set back must not postpone it.
        if now >= self.due || now + CA_MAINTENANCE.as_secs() < self.due {
            self.look_after(now)?;
        }
        Ok(lock)
    }

    fn reload(&mut self) -> Result<(), AuthorityError> {
        self.loaded = Loaded::new(&self.store)?;
        self.due = 0;
        Ok(())
    }

    /// Makes a state the new one, on disk and here.
    fn commit(&mut self, now: u64, mut state: State) -> Result<(), AuthorityError> {
        state.clock = state.clock.max(now);
        self.store.commit(state)?;
        Ok(())
    }

    /// Believes the clock, however far it is from what was known.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn trust_clock(&mut self, now: UnixTime) -> Result<(), AuthorityError> {
        let (_lock, _) = self.store.enter()?;
        let mut state = self.store.state().clone();
        state.clock = now.as_secs();
        self.store.commit(state)?;
        self.reload()
    }

    /// A machine that woke up in another decade would replace and forget everything.
    fn check_clock(&self, now: u64) -> Result<(), AuthorityError> {
        let known = self.store.state().clock;
        let days = now.saturating_sub(known) / (24 * 3_600);
        if now > known + CLOCK_JUMP_MAX.as_secs() {
            return Err(AuthorityError::Clock { days });
        }
        Ok(())
    }
}

/// Randomness of the system.
fn random<const LEN: usize>() -> Result<[u8; LEN], AuthorityError> {
    let mut bytes = [0; LEN];
    match rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(CertificateError::Make(rcgen::Error::RingUnspecified).into()),
    }
}

/// Only names of the own domain.
fn is_within(identity: &SpiffeId, domain: &TrustDomain) -> Result<(), Refusal> {
    if identity.domain() == domain {
        return Ok(());
    }
    Err(Refusal::OtherDomain {
        name: identity.to_string(),
    })
}

#[cfg(test)]
mod tests;
