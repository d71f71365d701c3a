//! Pick first: all requests go to one host, the first in order that can be reached (gRFC A61, A62).
//!
//! Here it is hosts that are chosen, not connections: a host is left when a connection to it cannot be
//! made. The search begins at the first again if the host that is left had worked before, as gRPC's
//! does after its connection broke, and goes on with the next one if not. One that comes back is not
//! returned to while the present one works. If none can be reached, each request tries another one.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::draws::Draws;
use crate::upstream::Host;

/// Turns of a pick that lost a race with other workers; then it takes what it saw last.
const TURNS_MAX: usize = 4;

/// The host that is stayed with, across changes of members.
#[derive(Debug)]
pub struct Stay {
    /// Its id; 0 is none.
    host: AtomicU64,
    /// What the order of the hosts is shuffled by: the same hosts keep it.
    seed: u64,
}

impl Stay {
    /// With nobody yet.
    pub fn new(seed: u64) -> Self {
        Self {
            host: AtomicU64::new(0),
            seed,
        }
    }

    /// Where a host stands in the shuffled order.
    pub(super) fn key(&self, host: &Host) -> u64 {
        Draws::new(self.seed ^ host.id.rotate_left(32)).any()
    }
}

/// Whether a host can be reached.
#[derive(Debug, Default)]
pub struct Reach(AtomicU64);

/// The lowest bit of a [`Reach`]: the last connection could be made. Above it are those that could not,
/// counted.
const IS_UP: u64 = 1;

impl Reach {
    /// A connection was made.
    pub fn succeed(&self) {
        if self.0.load(Ordering::Relaxed) & IS_UP == 0 {
            self.0.fetch_or(IS_UP, Ordering::Relaxed);
        }
    }

    /// A connection could not be made.
    pub fn fail(&self) {
        let failed = |value: u64| Some((value & !IS_UP).wrapping_add(2));
        // It always has an answer.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, failed);
    }

    fn load(&self) -> (u64, bool) {
        let value = self.0.load(Ordering::Relaxed);
        ((value >> 1) & FAILURES, value & IS_UP != 0)
    }
}

/// As many bits of the count of failures as are kept in [`PickFirst`].
const FAILURES: u64 = (1 << 31) - 1;

/// What a pick reads.
#[derive(Debug)]
pub(super) struct PickFirst {
    hosts: Box<[Arc<Host>]>,
    /// A [`Choice`].
    choice: AtomicU64,
    stay: Arc<Stay>,
}

/// Who is stayed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    place: u32,
    /// It was reached since it was chosen.
    worked: bool,
    /// As many failures had it then.
    failures: u64,
}

impl Choice {
    fn new(hosts: &[Arc<Host>], place: u32) -> Self {
        let host = hosts.get(place as usize);
        Self {
            place,
            worked: false,
            failures: host.map_or(0, |host| host.reach.load().0),
        }
    }

    fn read(value: u64) -> Self {
        Self {
            place: u32::try_from(value >> 32).unwrap_or(0),
            worked: value & 1 != 0,
            failures: (value >> 1) & FAILURES,
        }
    }

    fn value(self) -> u64 {
        (u64::from(self.place) << 32) | (self.failures << 1) | u64::from(self.worked)
    }
}

impl PickFirst {
    /// Prepares picks over hosts in this order.
    pub(super) fn new(hosts: Box<[Arc<Host>]>, stay: Arc<Stay>) -> Self {
        let known = stay.host.load(Ordering::Relaxed);
        let place = hosts.iter().position(|host| host.id == known);
        let place = u32::try_from(place.unwrap_or(0)).unwrap_or(0);
        let choice = Choice::new(&hosts, place).value();
        Self {
            hosts,
            choice: AtomicU64::new(choice),
            stay,
        }
    }

    /// A place.
    pub(super) fn pick(&self) -> usize {
        let mut value = self.choice.load(Ordering::Relaxed);
        for _ in 0..TURNS_MAX {
            let choice = Choice::read(value);
            let next = self.next(choice);
            if next == choice {
                break;
            }
            let swapped = self.choice.compare_exchange(
                value,
                next.value(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => {
                    let host = self.hosts.get(next.place as usize);
                    let id = host.map_or(0, |host| host.id);
                    self.stay.host.store(id, Ordering::Relaxed);
                    return next.place as usize;
                }
                Err(other) => value = other,
            }
        }
        Choice::read(value).place as usize
    }

    /// The choice, in the light of what became of it.
    fn next(&self, choice: Choice) -> Choice {
        let Some(host) = self.hosts.get(choice.place as usize) else {
            return choice;
        };
        let (failures, is_up) = host.reach.load();
        if failures == choice.failures {
            let worked = choice.worked || is_up;
            return Choice { worked, ..choice };
        }
        let last = u32::try_from(self.hosts.len() - 1).unwrap_or(0);
        let place = match choice.place {
            place if place > 0 && (choice.worked || place == last) => 0,
            place => (place + 1).min(last),
        };
        Choice::new(&self.hosts, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::Address;
    use crate::upstream::transport::Transports;

    fn hosts(count: u16) -> Vec<Arc<Host>> {
        let transport = Arc::clone(Transports::default().usual());
        let host = |port| {
            let address = Address::Socket(([127, 0, 0, 1], port).into());
            Arc::new(Host::new(address, "".into(), Arc::clone(&transport)))
        };
        (1..=count).map(host).collect()
    }

    fn first(hosts: &[Arc<Host>]) -> PickFirst {
        PickFirst::new(hosts.into(), Arc::new(Stay::new(7)))
    }

    #[test]
    fn the_first_takes_all_while_it_can_be_reached() {
        let hosts = hosts(3);
        let first = first(&hosts);
        for _ in 0..10 {
            assert_eq!(first.pick(), 0);
            hosts[0].reach.succeed();
        }
        hosts[2].reach.fail(); // somebody else's
        assert_eq!(first.pick(), 0);
    }

    #[test]
    fn who_cannot_be_reached_is_left_for_the_next_and_not_returned_to() {
        let hosts = hosts(3);
        let first = first(&hosts);
        assert_eq!(first.pick(), 0);
        hosts[0].reach.fail();
        hosts[0].reach.fail(); // several workers tried
        assert_eq!(first.pick(), 1);
        hosts[1].reach.fail();
        assert_eq!(first.pick(), 2);
        hosts[2].reach.succeed();
        hosts[0].reach.succeed(); // it is back
        assert_eq!(first.pick(), 2);
    }

    #[test]
    fn after_one_that_worked_the_search_begins_anew() {
        let hosts = hosts(3);
        let first = first(&hosts);
        hosts[0].reach.fail();
        let first = {
            assert_eq!(first.pick(), 1);
            first
        };
        hosts[1].reach.succeed();
        assert_eq!(first.pick(), 1);
        hosts[1].reach.fail();
        assert_eq!(first.pick(), 0);
        hosts[0].reach.fail();
        assert_eq!(first.pick(), 1);
        hosts[1].reach.fail(); // this time it never worked
        assert_eq!(first.pick(), 2);
    }

    #[test]
    fn if_nobody_can_be_reached_each_is_tried_in_turn() {
        let hosts = hosts(3);
        let first = first(&hosts);
        let mut tried = Vec::new();
        for _ in 0..7 {
            let place = first.pick();
            hosts[place].reach.fail();
            tried.push(place);
        }
        assert_eq!(tried, [0, 1, 2, 0, 1, 2, 0]);
        let alone = self::first(&hosts[..1]);
        hosts[0].reach.fail();
        assert_eq!(alone.pick(), 0);
    }

    #[test]
    fn changes_of_members_keep_the_choice() {
        let hosts = hosts(3);
        let stay = Arc::new(Stay::new(7));
        let first = PickFirst::new(hosts.as_slice().into(), Arc::clone(&stay));
        hosts[0].reach.fail();
        assert_eq!(first.pick(), 1);
        let moved = PickFirst::new(hosts[1..].into(), Arc::clone(&stay));
        assert_eq!(moved.pick(), 0);
        let gone = PickFirst::new(hosts[2..].into(), stay);
        assert_eq!(gone.pick(), 0);
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(first(&[]).pick(), 0);
    }

    #[test]
    fn a_choice_is_kept_in_one_number() {
        for (place, worked, failures) in [(0, false, 0), (u32::MAX, true, FAILURES), (3, true, 9)] {
            let choice = Choice {
                place,
                worked,
                failures,
            };
            assert_eq!(Choice::read(choice.value()), choice);
        }
    }
}
