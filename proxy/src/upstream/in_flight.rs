//! How many requests a host is answering right now, for all workers together.
//!
//! The counters of a worker have one writer each, but a balancer needs the sum at every pick, and
//! must not gather it. So this one number is shared: two relaxed additions per request.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::upstream::HostCounts;

/// The bits of no number of requests.
const NOTHING: u64 = u64::MAX;

/// A shared number, alone on its cache lines: a neighbor's writes must not slow its readers. Beside it what
/// the host says of itself, which is read at the same picks and written by the same answers.
#[derive(Debug)]
#[repr(align(128))]
pub struct InFlight {
    count: AtomicU64,
    /// The bits of a floating-point number.
    said: AtomicU64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            said: AtomicU64::new(NOTHING),
        }
    }
}

impl InFlight {
    /// One more.
    pub(super) fn inc(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub(super) fn dec(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn value(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The same to compute with; with a sign, because that is one instruction.
    #[expect(clippy::cast_precision_loss, reason = "requests in flight are few")]
    pub(super) fn amount(&self) -> f64 {
        self.value().cast_signed() as f64
    }

    /// The host says that it has so many, of everybody.
    pub(super) fn say(&self, in_flight: f64) {
        self.said.store(in_flight.to_bits(), Ordering::Relaxed);
    }

    /// What it said is too old to count.
    pub(super) fn forget(&self) {
        self.said.store(NOTHING, Ordering::Relaxed);
    }

    /// What it said, if it did.
    pub(super) fn said(&self) -> Option<f64> {
        let bits = self.said.load(Ordering::Relaxed);
        (bits != NOTHING).then(|| f64::from_bits(bits))
    }
}

/// How many requests all members of a set are answering: asked for by policies that bound the load of
/// each by that of all. Nobody counts it, so a policy that asks can come and go while requests are on their way.
///
/// Of few members it is exact. Of many it is as it was up to a quarter of their number of calls ago, which
/// is a quarter of a request to each.
#[derive(Debug)]
pub struct Total {
    hosts: Box<[Arc<InFlight>]>,
    known: AtomicU64,
    /// Calls until it is added up anew. Workers that count at once may lose some, so it is about so many.
    left: AtomicU64,
}

/// So many are added up at each call.
const FEW: usize = 16;

/// Of more than that, numbers added up per call. Each takes one to two nanoseconds.
const SUMMED: usize = 4;

impl Total {
    /// Of these.
    pub fn new(hosts: Box<[Arc<InFlight>]>) -> Self {
        Self {
            hosts,
            known: AtomicU64::new(0),
            left: AtomicU64::new(0),
        }
    }

    /// How many.
    pub fn value(&self) -> u64 {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            return self.known.load(Ordering::Relaxed);
        }
        let sum = self.hosts.iter().map(|host| host.value()).sum();
        if self.hosts.len() > FEW {
            self.known.store(sum, Ordering::Relaxed);
            let every = (self.hosts.len() / SUMMED) as u64;
            self.left.store(every - 1, Ordering::Relaxed);
        }
        sum
    }
}

/// A stream of bytes towards a host, counted as one request while it lives.
#[derive(Debug)]
pub struct ActiveRequest(Arc<HostCounts>);

impl ActiveRequest {
    /// One more from now on.
    pub fn enter(counts: &Arc<HostCounts>) -> Self {
        counts.begin_request();
        Self(Arc::clone(counts))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_summed_exactly_and_many_soon() {
        let hosts = |count| (0..count).map(|_| Arc::new(InFlight::default())).collect();
        let few: Box<[Arc<InFlight>]> = hosts(FEW);
        let many: Box<[Arc<InFlight>]> = hosts(320);
        let totals = [&few, &many].map(|hosts| Total::new(hosts.clone()));
        assert_eq!(totals.each_ref().map(Total::value), [0, 0]);
        few[FEW - 1].inc();
        many[300].inc();
        assert_eq!(totals[0].value(), 1);
        let late = (0..80).find(|_| totals[1].value() == 1);
        assert_eq!(late, Some(79), "each eightieth call");
    }
}
