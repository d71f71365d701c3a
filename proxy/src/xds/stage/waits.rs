//! How long a missing cluster has been waited for.
//!
//! Once given up it is not waited for again by the next version of the same table, until it has
//! been there: else a route to a cluster that never comes would delay every push by the whole wait.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use super::tables::TABLE_WAITS;
use crate::config::Name;

#[derive(Debug, Default)]
pub(super) struct Waits {
    clusters: BTreeMap<Name, Wait>,
}

#[derive(Debug)]
enum Wait {
    GivenUp,
    Until(Duration),
}

impl Waits {
    /// Each of `clusters` is active or given up; starts waiting for those it meets first.
    pub(super) fn are_over(
        &mut self,
        clusters: &BTreeSet<Name>,
        is_active: impl Fn(&str) -> bool,
        now: Duration,
    ) -> bool {
        let mut are_over = true;
        for name in clusters {
            if is_active(name) {
                self.clusters.remove(name);
                continue;
            }
            let begin = || Wait::Until(now + TABLE_WAITS);
            let wait = self.clusters.entry(name.clone()).or_insert_with(begin);
            if let Wait::Until(at) = *wait
                && at <= now
            {
                *wait = Wait::GivenUp;
            }
            are_over &= matches!(wait, Wait::GivenUp);
        }
        are_over
    }

    /// The cluster is named and not there, and that is accepted.
    pub(super) fn give_up(&mut self, cluster: Name) {
        self.clusters.insert(cluster, Wait::GivenUp);
    }

    pub(super) fn retain(&mut self, is_named: impl Fn(&Name) -> bool) {
        self.clusters.retain(|name, _| is_named(name));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        self.clusters.values().filter_map(|w| match w {
            Wait::GivenUp => None,
            Wait::Until(at) => Some(*at),
        })
    }
}
