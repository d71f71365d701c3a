//! What hosts last said of their requests in flight, and who said it last: what picks read.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;

use crate::upstream::in_flight::InFlight;

/// Hosts that are remembered. In the simulator's S8 four are enough, and more than six no better.
pub(in crate::upstream) const RECENT: usize = 6;

/// Places that are kept of them: a power of two, so that the next one is found without a division.
const KEPT: usize = RECENT.next_power_of_two();

/// Balancers of one host that remember who spoke last: each answer writes into all of them. There is one for
/// the policy, one for a policy that looks on, and one for each subset the host is in.
const SEATS_MAX: usize = 32;

/// Who wants to know one host's word, which stands where its requests in flight are counted.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Told {
    word: Arc<InFlight>,
    /// None where no balancer remembers who spoke last.
    seats: ArcSwapOption<Vec<Seat>>,
}

/// The host's place in a balancer that remembers who spoke last.
#[derive(Clone, Debug)]
struct Seat {
    recent: Arc<Recent>,
    place: usize,
}

impl Told {
    /// Of the host whose requests are counted here.
    pub(in crate::upstream) fn new(word: &Arc<InFlight>) -> Self {
        Self {
            word: Arc::clone(word),
            seats: ArcSwapOption::empty(),
        }
    }

    /// It said that it has so many requests.
    pub(in crate::upstream) fn set(&self, in_flight: f64) {
        self.word.say(in_flight);
        for seat in self.seats.load().iter().flat_map(|seats| seats.iter()) {
            seat.recent.push(seat.place);
        }
    }

    /// What it said is too old to count.
    pub(in crate::upstream) fn forget(&self) {
        self.word.forget();
    }

    /// What it said, if it did.
    pub(in crate::upstream) fn in_flight(&self) -> Option<f64> {
        self.word.said()
    }

    /// It is at this place of a balancer that remembers who spoke last, as well as where it was before.
    pub(in crate::upstream) fn join(&self, recent: &Arc<Recent>, place: usize) {
        let before = self.seats.load();
        let mut seats = before.as_deref().cloned().unwrap_or_default();
        if seats.len() < SEATS_MAX {
            let recent = Arc::clone(recent);
            seats.push(Seat { recent, place });
            self.seats.store(Some(Arc::new(seats)));
        }
    }

    /// Balancers are made anew.
    pub(in crate::upstream) fn leave(&self) {
        self.seats.store(None);
    }
}

/// Places of those who spoke last; a host may be there more than once. A place is a hint: workers write
/// at the same time, and members change.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Recent {
    is_wanted: AtomicBool,
    next: AtomicUsize,
    places: [AtomicUsize; KEPT],
}

impl Recent {
    /// Whether it is worth the while to remember.
    pub(in crate::upstream) fn set_wanted(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// All of them, who spoke last first.
    pub(in crate::upstream) fn places(&self) -> [usize; RECENT] {
        let next = self.next.load(Ordering::Relaxed);
        std::array::from_fn(|back| {
            let place = &self.places[next.wrapping_sub(1 + back) % KEPT];
            place.load(Ordering::Relaxed)
        })
    }

    fn push(&self, place: usize) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let next = self.next.load(Ordering::Relaxed);
        self.places[next % KEPT].store(place, Ordering::Relaxed);
        self.next.store(next.wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_spoke_last_is_remembered_where_it_is_wanted() {
        let recent = Arc::new(Recent::default());
        let hosts: Vec<Told> = (0..9).map(|_| Told::default()).collect();
        for (place, host) in hosts.iter().enumerate() {
            host.join(&recent, place);
        }
        assert_eq!(hosts[8].in_flight(), None);
        hosts[8].set(3.0);
        assert_eq!(hosts[8].in_flight(), Some(3.0));
        assert_eq!(recent.places(), [0; RECENT], "not wanted");
        recent.set_wanted(true);
        for place in [1, 2, 8, 3, 4, 5, 6] {
            hosts[place].set(0.0);
        }
        assert_eq!(recent.places(), [6, 5, 4, 3, 8, 2]);
        hosts[8].forget();
        assert_eq!(hosts[8].in_flight(), None);
    }

    #[test]
    fn each_balancer_remembers_by_its_own_places_until_all_are_made_anew() {
        let host = Told::default();
        let balancers: Vec<Arc<Recent>> = (0..SEATS_MAX + 1).map(|_| Arc::default()).collect();
        for (place, recent) in (7..).zip(&balancers) {
            recent.set_wanted(true);
            host.join(recent, place);
        }
        let last = |recent: &Recent| recent.places()[0];
        host.set(1.0);
        let found: Vec<usize> = balancers.iter().map(|one| last(one)).collect();
        let mut expected: Vec<usize> = (7..7 + SEATS_MAX).collect();
        expected.push(0); // one too many
        assert_eq!(found, expected);
        host.leave();
        (0..RECENT).for_each(|_| host.set(2.0));
        let left = balancers[0].places();
        assert_eq!(left.iter().filter(|place| **place == 7).count(), 1);
    }
}
