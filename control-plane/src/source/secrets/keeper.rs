//! Looks at the desk, decides, issues, renews, pushes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Weak;

use rustls_pki_types::UnixTime;
use tracing::error;
use tracing::info;

use super::Cell;
use super::Desk;
use super::Own;
use super::Wanted;
use super::lock;
use super::rack::Rack;
use super::tls::Tls;
use crate::ca::Authority;
use crate::ca::SpiffeId;
use crate::ca::access::Grant;
use crate::ca::authority::AuthorityError;
use crate::ca::authority::Bundle;
use crate::ca::authority::Serial;
use crate::limits::CA_POLL;
use crate::resource::Resource;

/// Runs as long as the server.
pub(crate) struct Keeper {
    desk: Arc<Desk>,
    work: Work,
}

/// What one look hands to the next.
struct Work {
    tls: Option<Tls>,
    rack: Rack,
    /// What was decided, by stream; refusals are not repeated each second.
    judged: BTreeMap<u64, Judged>,
    /// The last trouble, told once.
    trouble: Option<String>,
    /// What the control plane's own connections are made with.
    shown: Option<(Serial, Bundle)>,
}

/// What was decided about one stream.
#[derive(Debug, Default)]
struct Judged {
    /// Whether its caller is not wanted any more, once that was asked.
    is_revoked: Option<bool>,
    names: BTreeMap<Arc<str>, Judgment>,
}

#[derive(Clone, Debug)]
enum Judgment {
    Granted(Grant),
    Refused,
}

impl Keeper {
    pub(super) fn new(desk: Arc<Desk>, tls: Option<Tls>) -> Self {
        let work = Work {
            tls,
            rack: Rack::default(),
            judged: BTreeMap::new(),
            trouble: None,
            shown: None,
        };
        Self { desk, work }
    }

    /// The first look, so that a server with TLS has something to show.
    pub(crate) async fn start(self) -> Self {
        self.look().await
    }

    /// Looks when woken and each second; never returns.
    pub(crate) async fn run(self) {
        let mut keeper = self;
        loop {
            let woken = tokio::time::timeout(CA_POLL, keeper.desk.wake.notified());
            // Woken or not, there may be something to do.
            drop(woken.await);
            keeper = keeper.look().await;
        }
    }

    /// Signing and syncing block, and the streams share this thread.
    async fn look(self) -> Self {
        let Self { desk, mut work } = self;
        let again = Arc::clone(&desk);
        let tls = work.tls.clone();
        let looked = tokio::task::spawn_blocking(move || {
            work.look(&desk);
            work
        });
        match looked.await {
            Ok(work) => Self { desk: again, work },
            Err(_) => {
                error!("looking after certificates failed");
                Self::new(again, tls)
            }
        }
    }
}

impl Work {
    fn look(&mut self, desk: &Desk) {
        let result = self.try_look(desk);
        let trouble = result.err().map(|error| error.to_string());
        if let Some(error) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            error!(
                error,
                "the certificate authority cannot work; everybody keeps what they have"
            );
        }
        if trouble.is_none() && self.trouble.is_some() {
            info!("the certificate authority works again");
        }
        self.trouble = trouble;
    }

    fn try_look(&mut self, desk: &Desk) -> Result<(), AuthorityError> {
        let now = UnixTime::now();
        let cells = living(desk);
        let wishes: Vec<Wanted> = cells
            .iter()
            .map(|cell| lock(&cell.wanted).clone())
            .collect();
        let mut authority = lock(&desk.authority);
        if self.rack.is_news(&mut authority, now)? {
            // Somebody may have been revoked.
            self.judged.clear();
        }
        let ids: BTreeSet<u64> = cells.iter().map(|cell| cell.id).collect();
        self.judged.retain(|id, _| ids.contains(id));
        for (cell, wanted) in cells.iter().zip(&wishes) {
            let judged = self.judged.entry(cell.id).or_default();
            judge_stream(judged, &mut authority, (cell, wanted), now)?;
        }
        let own = self.tls.as_ref().map(|tls| tls.identity.clone());
        let identities = self.identities(&cells).chain(own).collect();
        self.rack.refresh(&mut authority, &identities, now)?;
        drop(authority);
        for (cell, wanted) in cells.iter().zip(&wishes) {
            self.push(cell, wanted.generation);
        }
        self.show(desk);
        Ok(())
    }

    /// Everybody who was granted a certificate.
    fn identities(&self, cells: &[Arc<Cell>]) -> impl Iterator<Item = SpiffeId> {
        let judged = cells.iter().filter_map(|cell| self.judged.get(&cell.id));
        let judged = judged.flat_map(|judged| judged.names.values());
        let granted = judged.filter_map(|judgment| match judgment {
            Judgment::Granted(Grant::Certificate(identity)) => Some(identity.clone()),
            Judgment::Granted(Grant::Roots | Grant::AllRoots | Grant::RootsOf(_))
            | Judgment::Refused => None,
        });
        granted.collect::<BTreeSet<_>>().into_iter()
    }

    fn push(&mut self, cell: &Arc<Cell>, generation: u64) {
        let Some(judged) = self.judged.get(&cell.id) else {
            return;
        };
        let rack = &mut self.rack;
        let resources = judged
            .names
            .iter()
            .filter_map(|(name, judgment)| match judgment {
                Judgment::Granted(Grant::Certificate(identity)) => rack.certificate(identity, name),
                Judgment::Granted(grant) => rack.roots(grant, name),
                Judgment::Refused => None,
            });
        let new = Own {
            resources: resources.collect(),
            generation,
            is_revoked: judged.is_revoked == Some(true),
        };
        cell.own.send_if_modified(|old| {
            let is_same = old.generation == new.generation
                && old.is_revoked == new.is_revoked
                && are_same(&old.resources, &new.resources);
            if !is_same {
                *old = new;
            }
            !is_same
        });
    }

    /// Shows the control plane's own certificate, and believes whom the bundle says.
    fn show(&mut self, desk: &Desk) {
        let Some(tls) = &self.tls else { return };
        let (Some(leaf), Some(bundle)) = (self.rack.leaf(&tls.identity), self.rack.bundle()) else {
            return;
        };
        let shown = (leaf.record.serial, bundle.clone());
        if self.shown.as_ref() == Some(&shown) {
            return;
        }
        match tls.config(leaf, bundle) {
            Ok(config) => drop(desk.tls.send_replace(Some(Arc::new(config)))),
            Err(error) => error!(%error, "the control plane cannot show its new certificate"),
        }
        self.shown = Some(shown);
    }
}

/// Decides what is not decided yet. Whoever was revoked has nothing more to ask for.
fn judge_stream(
    judged: &mut Judged,
    authority: &mut Authority,
    (cell, wanted): (&Cell, &Wanted),
    now: UnixTime,
) -> Result<(), AuthorityError> {
    if judged.is_revoked.is_none() {
        judged.is_revoked = Some(match authority.may_stay(now, &cell.caller) {
            Ok(()) => false,
            Err(AuthorityError::Refused(_)) => true,
            Err(error) => return Err(error),
        });
    }
    if judged.is_revoked == Some(true) {
        judged.names.clear();
        return Ok(());
    }
    judged.names.retain(|name, _| wanted.names.contains(name));
    for name in &wanted.names {
        if !judged.names.contains_key(name) {
            let judgment = judge(authority.may_have(now, &cell.caller, name))?;
            judged.names.insert(Arc::clone(name), judgment);
        }
    }
    Ok(())
}

fn judge(decided: Result<Grant, AuthorityError>) -> Result<Judgment, AuthorityError> {
    match decided {
        Ok(grant) => Ok(Judgment::Granted(grant)),
        Err(AuthorityError::Refused(_)) => Ok(Judgment::Refused),
        Err(error) => Err(error),
    }
}

fn are_same(one: &[Arc<Resource>], other: &[Arc<Resource>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Streams that are still there.
fn living(desk: &Desk) -> Vec<Arc<Cell>> {
    let mut streams = lock(&desk.streams);
    streams.retain(|cell| cell.strong_count() > 0);
    streams.iter().filter_map(Weak::upgrade).collect()
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeper")
    }
}
