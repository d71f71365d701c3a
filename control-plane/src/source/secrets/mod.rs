//! The CA as a source of secrets, each for one client alone.
//!
//! ```text
//!   stream ──names it asks for──► desk ◄──looks, each second and when woken── keeper
//!   stream ◄──own resources────── desk ◄──certificates, roots, lists───────── authority
//! ```
//!
//! A stream tells the desk what its client asks for; the keeper decides, issues, renews at half life
//! and pushes. Streams of one identity share a certificate, which lives in memory only. There is no
//! queue: what a stream wants is one value that it replaces.
//!
//! If the authority cannot do its work, everybody keeps what they have.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use rustls::ServerConfig;
use rustls_pki_types::UnixTime;
use tokio::sync::Notify;
use tokio::sync::watch;
use tracing::warn;

use crate::ca::Authority;
use crate::ca::Refusal;
use crate::ca::access::Caller;
use crate::ca::authority::AuthorityError;
use crate::ca::authority::Signed;
use crate::ca::authority::SigningRequest;
use crate::limits::OWN_SECRETS_MAX;
use crate::resource::Resource;

mod keeper;
mod rack;
mod secret;
mod tls;

pub(crate) use keeper::Keeper;
pub use tls::Tls;

/// Where streams and the keeper meet. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Secrets(Arc<Desk>);

struct Desk {
    authority: Mutex<Authority>,
    streams: Mutex<Vec<Weak<Cell>>>,
    ids: AtomicU64,
    /// A stream wants something else.
    wake: Notify,
    /// Serves the control plane's own connections, if it has an identity.
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
}

/// What one stream wants and has.
struct Cell {
    /// Never used twice, unlike an address.
    id: u64,
    caller: Caller,
    wanted: Mutex<Wanted>,
    own: watch::Sender<Own>,
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    generation: u64,
    names: Vec<Arc<str>>,
}

/// The resources of one client alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    pub(crate) resources: Vec<Arc<Resource>>,
    /// Newest wish this answers.
    generation: u64,
    /// The client must go.
    pub(crate) is_revoked: bool,
}

/// Why somebody has no signature.
#[derive(Debug)]
pub(crate) enum Unsigned {
    /// They may not, or what they sent is no good.
    Refused(Refusal),
    /// The authority cannot do its work.
    Trouble,
}

/// A stream's end of the desk.
pub(crate) struct Personal {
    cell: Arc<Cell>,
    desk: Arc<Desk>,
    own: watch::Receiver<Own>,
}

impl Secrets {
    /// The desk, and the keeper that must run for it.
    pub(crate) fn new(authority: Authority, tls: Option<Tls>) -> (Self, Keeper) {
        let desk = Arc::new(Desk {
            authority: Mutex::new(authority),
            streams: Mutex::default(),
            ids: AtomicU64::new(0),
            wake: Notify::new(),
            tls: watch::Sender::new(None),
        });
        let keeper = Keeper::new(Arc::clone(&desk), tls);
        (Self(desk), keeper)
    }

    /// Opens the desk for a stream.
    pub(crate) fn open(&self, caller: Caller) -> Personal {
        let (sender, own) = watch::channel(Own::default());
        // Who came with a certificate is answered before anything else is said, also if no secret is
        // asked for: the certificate may have been revoked since the connection began.
        let wanted = Wanted {
            generation: u64::from(matches!(caller, Caller::Certificate { .. })),
            names: Vec::new(),
        };
        let cell = Arc::new(Cell {
            id: self.0.ids.fetch_add(1, Ordering::Relaxed),
            caller,
            wanted: Mutex::new(wanted),
            own: sender,
        });
        lock(&self.0.streams).push(Arc::downgrade(&cell));
        self.0.wake.notify_one();
        let desk = Arc::clone(&self.0);
        Personal { cell, desk, own }
    }

    /// Uses a join token up.
    pub(crate) async fn redeem(&self, token: String, actor: String) -> Result<Caller, String> {
        let desk = Arc::clone(&self.0);
        let redeemed = tokio::task::spawn_blocking(move || {
            let mut authority = lock(&desk.authority);
            authority.redeem(UnixTime::now(), &token, &actor)
        });
        match redeemed.await {
            Ok(Ok(caller)) => Ok(caller),
            Ok(Err(AuthorityError::Refused(refusal))) => Err(refusal.to_string()),
            Ok(Err(error)) => {
                warn!(%error, "a join token could not be looked at");
                Err("the authority cannot look at join tokens now".to_owned())
            }
            Err(_) => Err("the authority failed".to_owned()),
        }
    }

    /// Signs the key of a caller, for the caller alone.
    pub(crate) async fn sign(
        &self,
        caller: Caller,
        request: SigningRequest,
    ) -> Result<Signed, Unsigned> {
        let desk = Arc::clone(&self.0);
        let signed = tokio::task::spawn_blocking(move || {
            let mut authority = lock(&desk.authority);
            authority.sign_request(UnixTime::now(), &caller, &request)
        });
        match signed.await {
            Ok(Ok(signed)) => Ok(signed),
            Ok(Err(AuthorityError::Refused(refusal))) => Err(Unsigned::Refused(refusal)),
            Ok(Err(error)) => {
                warn!(%error, "a signing request could not be looked at");
                Err(Unsigned::Trouble)
            }
            Err(_) => Err(Unsigned::Trouble),
        }
    }

    /// Notes that somebody was sent away for their certificate.
    pub(crate) async fn refuse_certificate(&self, actor: String, reason: String) {
        let desk = Arc::clone(&self.0);
        let noted = tokio::task::spawn_blocking(move || {
            lock(&desk.authority).refuse_certificate(UnixTime::now(), &actor, reason)
        });
        match noted.await {
            Ok(Ok(()) | Err(AuthorityError::Refused(_))) => {}
            Ok(Err(error)) => warn!(%error, "a refusal could not be noted"),
            Err(_) => warn!("a refusal could not be noted: the authority failed"),
        }
    }

    /// How the control plane shows itself; `None` until its first certificate is there.
    pub(crate) fn tls(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.0.tls.subscribe()
    }
}

impl Personal {
    /// Says what the client asks for now.
    pub(crate) fn want(&self, names: impl Iterator<Item = Arc<str>>) {
        let mut names: Vec<Arc<str>> = names.collect();
        names.sort_unstable();
        if names.len() > OWN_SECRETS_MAX {
            let caller = &self.cell.caller;
            warn!(%caller, count = names.len(), "a client asks for too many secrets");
            names.truncate(OWN_SECRETS_MAX);
        }
        let mut wanted = lock(&self.cell.wanted);
        if wanted.names != names {
            wanted.names = names;
            wanted.generation += 1;
            drop(wanted);
            self.desk.wake.notify_one();
        }
    }

    /// Waits until the newest wish is answered.
    pub(crate) async fn answered(&mut self) {
        let generation = lock(&self.cell.wanted).generation;
        if self.own.borrow().generation < generation {
            // The sender is in the cell, so this ends by an answer.
            drop(self.own.wait_for(|own| own.generation >= generation).await);
            // Waiting is not taking.
            self.own.mark_changed();
        }
    }

    /// Waits for something new.
    pub(crate) async fn changed(&mut self) {
        drop(self.own.changed().await);
    }

    /// Whether there is something [`Self::own`] has not returned yet.
    pub(crate) fn has_changed(&self) -> bool {
        self.own.has_changed().unwrap_or(false)
    }

    /// Whether the client must go.
    pub(crate) fn is_revoked(&self) -> bool {
        self.own.borrow().is_revoked
    }

    /// What the client has.
    pub(crate) fn own(&mut self) -> Own {
        self.own.borrow_and_update().clone()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
