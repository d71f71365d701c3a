//! Who of all has the fewest requests in flight (`FULL_SCAN`).
//!
//! Of few hosts all are looked at for each request, and each of those with the fewest has the same chance. Of
//! many that takes microseconds, so what one look finds serves the next requests as well: each takes another
//! of the hosts that had the fewest, if that still has no more. What it can miss is a host that has come to
//! have fewer since, for a sixteenth as many requests as there are hosts.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::draws::Draws;
use crate::upstream::in_flight::InFlight;

/// All of so many are looked at within a tenth of a microsecond.
const FEW: usize = 32;

/// Hosts per one that is remembered.
const REMEMBERED: usize = 16;

/// What the last look found; all workers use it up together. Two that look at once may mix theirs, which are
/// alike.
#[derive(Debug)]
pub(super) struct Fewest {
    /// Places of hosts that had the fewest; none if there are few hosts.
    places: Box<[AtomicU32]>,
    /// How many of them there are, and how many were taken.
    found: AtomicU32,
    taken: AtomicU32,
    /// How many requests they had.
    least: AtomicU64,
}

impl Fewest {
    /// Of so many hosts.
    pub(super) fn new(hosts: usize) -> Self {
        let remembered = if hosts > FEW { hosts / REMEMBERED } else { 0 };
        Self {
            places: (0..remembered).map(|_| AtomicU32::new(0)).collect(),
            found: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            least: AtomicU64::new(0),
        }
    }

    /// A place.
    pub(super) fn pick(&self, hosts: &[Arc<InFlight>], draws: &mut Draws) -> usize {
        if self.places.is_empty() {
            return of_few(hosts, draws);
        }
        self.remembered(hosts)
            .unwrap_or_else(|| self.look(hosts, draws.below(hosts.len())))
    }

    /// One that was found and has no more requests than then.
    fn remembered(&self, hosts: &[Arc<InFlight>]) -> Option<usize> {
        let least = self.least.load(Ordering::Relaxed);
        loop {
            let turn = self.taken.load(Ordering::Relaxed);
            if turn >= self.found.load(Ordering::Relaxed) {
                return None;
            }
            let turn = self.taken.fetch_add(1, Ordering::Relaxed);
            let place = self.places.get(turn as usize)?.load(Ordering::Relaxed) as usize;
            if hosts.get(place)?.value() <= least {
                return Some(place);
            }
        }
    }

    /// Looks for them, from `start` around; the first is taken at once.
    fn look(&self, hosts: &[Arc<InFlight>], start: usize) -> usize {
        let (before, after) = hosts.split_at_checked(start).unwrap_or((hosts, &[]));
        let around = || {
            let places = (start..).zip(after);
            places.chain((0..).zip(before))
        };
        let least = least(around().map(|(_, host)| host.value()));
        let mut all = around().filter(|(_, host)| host.value() <= least);
        let first = all.next().map_or(start, |(place, _)| place);
        let mut found = 0;
        for (slot, (place, _)) in self.places.iter().zip(all) {
            slot.store(u32::try_from(place).unwrap_or(0), Ordering::Relaxed);
            found += 1;
        }
        self.least.store(least, Ordering::Relaxed);
        self.found.store(found, Ordering::Relaxed);
        self.taken.store(0, Ordering::Relaxed);
        first
    }
}

/// The least; nothing is looked for below zero.
fn least(values: impl Iterator<Item = u64>) -> u64 {
    let mut least = u64::MAX;
    for value in values {
        least = least.min(value);
        if least == 0 {
            break;
        }
    }
    least
}

/// Among equals each has the same chance.
fn of_few(hosts: &[Arc<InFlight>], draws: &mut Draws) -> usize {
    let (mut best, mut least, mut equals) = (0, u64::MAX, 0_usize);
    for (place, host) in hosts.iter().enumerate() {
        let value = host.value();
        if value < least {
            (best, least, equals) = (place, value, 1);
        } else if value == least {
            equals += 1;
            if draws.below(equals) == 0 {
                best = place;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Vec<Arc<InFlight>> {
        (0..count).map(|_| Arc::default()).collect()
    }

    #[test]
    fn requests_fill_many_hosts_evenly() {
        let hosts = hosts(1000);
        let fewest = Fewest::new(hosts.len());
        let mut draws = Draws::new(3);
        for round in 0..3 {
            for _ in 0..1000 {
                let place = fewest.pick(&hosts, &mut draws);
                assert_eq!(hosts[place].value(), round, "nobody is passed over");
                hosts[place].inc();
            }
        }
    }

    #[test]
    fn each_of_the_idle_has_its_turn_and_no_busy_one() {
        let hosts = hosts(100);
        let idle = |place: usize| place.is_multiple_of(3);
        let busy = hosts.iter().enumerate().filter(|(place, _)| !idle(*place));
        busy.for_each(|(_, host)| host.inc());
        let fewest = Fewest::new(hosts.len());
        let mut draws = Draws::new(5);
        let mut counts = [0_u32; 100];
        (0..34_000).for_each(|_| counts[fewest.pick(&hosts, &mut draws)] += 1);
        for (place, count) in counts.into_iter().enumerate() {
            let wanted = if idle(place) { 850..1150 } else { 0..1 };
            assert!(wanted.contains(&count), "{place}: {count}");
        }
    }

    #[test]
    fn one_who_has_got_busy_is_not_taken_and_one_who_is_free_is_soon() {
        let hosts = hosts(64);
        hosts.iter().for_each(|host| host.inc());
        let fewest = Fewest::new(hosts.len());
        let mut draws = Draws::new(7);
        fewest.pick(&hosts, &mut draws);
        hosts.iter().skip(32).for_each(|host| host.inc());
        let picked = |draws: &mut Draws| fewest.pick(&hosts, draws);
        assert!((0..40).all(|_| picked(&mut draws) < 32));
        hosts[60].dec();
        hosts[60].dec();
        let late = (0..10).position(|_| picked(&mut draws) == 60);
        assert!(late.is_some_and(|late| late <= 64 / REMEMBERED), "{late:?}");
    }
}
