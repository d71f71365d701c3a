//! Those that use the connections of a pool, so that they can be cut: when the drain time of a host is
//! over that has left, and when a certificate ends that the connection stands on.

use std::cell::Cell;
use std::cell::RefCell;

use tokio::time::Instant;

use crate::drain::DrainSignal;
use crate::net::tls::Tenure;
use crate::upstream::Host;
use crate::upstream::connect::Vintage;

/// Those of one pool.
#[derive(Debug)]
pub(super) struct Users {
    era: Cell<u32>,
    /// Those since the last era of the host began, by when their certificates end.
    present: RefCell<Vec<Group>>,
    /// Those of earlier eras.
    leaving: RefCell<Vec<Group>>,
}

#[derive(Debug)]
struct Group {
    tenure: Tenure,
    /// When they are cut, if ever.
    cut_at: Option<Instant>,
    signal: DrainSignal,
}

impl Users {
    pub(super) fn new(host: &Host) -> Self {
        Self {
            era: Cell::new(host.era()),
            present: RefCell::default(),
            leaving: RefCell::default(),
        }
    }

    /// Follows the host; true if another era has begun.
    pub(super) fn follow(&self, host: &Host) -> bool {
        let era = host.era();
        if self.era.replace(era) == era {
            return false;
        }
        if let Some(cut_at) = host.cut_at() {
            let leaving = self.present.take().into_iter().map(|group| Group {
                cut_at: Some(group.cut_at.map_or(cut_at, |end| end.min(cut_at))),
                ..group
            });
            self.leaving.borrow_mut().extend(leaving);
        }
        true
    }

    /// Those that use a connection of this vintage. One that took time to make, or is to a host that
    /// somebody else sees leave meanwhile, goes with those of before.
    pub(super) fn of(&self, host: &Host, vintage: Vintage, tenure: Tenure) -> DrainSignal {
        let end = tenure.cut_at();
        let goes = host.leaves() || vintage.era() != self.era.get();
        match host.cut_at().filter(|_| goes) {
            Some(at) => {
                let cut_at = end.map_or(at, |end| end.min(at));
                let is = |group: &Group| group.cut_at == Some(cut_at);
                join(&self.leaving, is, (tenure, Some(cut_at)))
            }
            None => join(
                &self.present,
                |group| group.tenure.ends_with(tenure),
                (tenure, end),
            ),
        }
    }

    pub(super) fn are_there(&self) -> bool {
        let is_used = |group: &Group| group.signal.alive() > 0;
        self.present.borrow().iter().any(is_used) || self.leaving.borrow().iter().any(is_used)
    }

    /// When those are to be cut that go first.
    pub(super) fn next_cut(&self) -> Option<Instant> {
        let (present, leaving) = (self.present.borrow(), self.leaving.borrow());
        let all = present.iter().chain(&*leaving);
        all.filter_map(|group| group.cut_at).min()
    }

    /// Ends those whose time is over.
    pub(super) fn cut(&self, now: Instant) {
        let is_due = |group: &mut Group| group.cut_at.is_some_and(|at| at <= now);
        let ended: Vec<_> = self.present.borrow_mut().extract_if(.., is_due).collect();
        let left: Vec<_> = self.leaving.borrow_mut().extract_if(.., is_due).collect();
        // Wakes tasks, which come here when they run.
        ended.iter().for_each(|group| group.signal.start_by(now));
        left.iter().for_each(|group| group.signal.start());
    }
}

/// A place in the group that is so, or in a new one.
fn join(
    groups: &RefCell<Vec<Group>>,
    is: impl Fn(&Group) -> bool,
    (tenure, cut_at): (Tenure, Option<Instant>),
) -> DrainSignal {
    let mut groups = groups.borrow_mut();
    if let Some(group) = groups.iter().find(|group| is(group)) {
        return group.signal.clone();
    }
    groups.retain(|group| !group.signal.is_forgotten()); // a peer may show another end each time
    let signal = DrainSignal::default();
    groups.push(Group {
        tenure,
        cut_at,
        signal: signal.clone(),
    });
    signal
}
