//! What balancing by latency learns from a stream of bytes: how long its connection took to stand, how
//! long the upstream then took to say anything, and at its end the round-trip time that the kernel
//! measured while it was open (`TCP_INFO`, one system call per stream).
//!
//! Each is a route class of its own, so that it is compared with its like, and weighs as much as it usually
//! lasts: what a host took in all, over what such things take on average. The time to the first byte
//! counts from the client's first byte, or, if the upstream speaks first, from when the connection stood.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config;
use crate::upstream::HostCounts;
use crate::upstream::latency::Outcome;

/// Route classes of a stream.
const CONNECT: usize = 0;
const FIRST_BYTE: usize = 1;
const ROUND_TRIP: usize = 2;

/// Something that is measured; without an outcome it ends by no fault of the host's.
#[derive(Debug)]
struct Sample {
    counts: Arc<HostCounts>,
    from: Instant,
    has_ended: bool,
}

impl Sample {
    fn begin(counts: &Arc<HostCounts>, from: Instant) -> Self {
        counts.begin_sample();
        Self {
            counts: Arc::clone(counts),
            from,
            has_ended: false,
        }
    }

    fn end(mut self, class: usize, failed: bool) {
        self.has_ended = true;
        let outcome = Outcome {
            class,
            took: self.from.elapsed(),
            failed,
            spare_for: None,
        };
        match class {
            FIRST_BYTE => self.counts.end_sample(Some(&outcome)),
            _ => self.counts.end_part(&outcome),
        }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        if !self.has_ended {
            self.counts.end_sample(None);
        }
    }
}

/// A connection that is being made. That it failed is counted by whoever makes it.
#[derive(Debug)]
pub(super) struct Connecting(Option<Sample>);

impl Connecting {
    /// Measures if the cluster's policy follows latency.
    pub(super) fn begin(config: &config::Cluster, counts: &Arc<HostCounts>) -> Self {
        let follows = config.load_balancing.measures_latency();
        Self(follows.then(|| Sample::begin(counts, Instant::now())))
    }

    /// What is told of it at its end.
    pub(super) fn round_trip(&self) -> RoundTrip {
        RoundTrip(self.0.as_ref().map(|sample| Arc::clone(&sample.counts)))
    }

    /// It stands; what comes first over it is waited for.
    pub(super) fn stands(self) -> FirstByte {
        FirstByte(self.0.map(|connect| {
            let counts = Arc::clone(&connect.counts);
            connect.end(CONNECT, false);
            Box::new(Waited {
                counts,
                stood: Instant::now(),
                asked: None,
            })
        }))
    }
}

/// What the kernel measures of a connection, until it is told.
#[derive(Debug)]
pub(super) struct RoundTrip(Option<Arc<HostCounts>>);

impl RoundTrip {
    /// The stream has ended; `ask` is asked only if somebody wants to know.
    pub(super) fn take(&mut self, ask: impl FnOnce() -> Option<Duration>) {
        let Some((counts, took)) = self.0.take().and_then(|counts| Some((counts, ask()?))) else {
            return;
        };
        counts.begin_sample();
        counts.end_part(&Outcome {
            class: ROUND_TRIP,
            took,
            failed: false,
            spare_for: None,
        });
    }
}

/// The upstream's first byte, until it came. Apart, since most streams measure nothing.
#[derive(Debug, Default)]
pub(super) struct FirstByte(Option<Box<Waited>>);

#[derive(Debug)]
struct Waited {
    counts: Arc<HostCounts>,
    stood: Instant,
    /// Since the client said something: a host is not busy with who says nothing.
    asked: Option<Sample>,
}

impl FirstByte {
    /// So many bytes came from each side by now.
    pub(super) fn look(&mut self, from_client: u64, from_upstream: u64) {
        let Some(waited) = &mut self.0 else {
            return;
        };
        if from_upstream > 0 {
            self.ends(false);
        } else if from_client > 0 && waited.asked.is_none() {
            waited.asked = Some(Sample::begin(&waited.counts, Instant::now()));
        }
    }

    /// The upstream broke the connection; a failure unless it had said something.
    pub(super) fn broken(&mut self) {
        self.ends(true);
    }

    fn ends(&mut self, failed: bool) {
        if let Some(waited) = self.0.take() {
            let Waited {
                counts,
                stood,
                asked,
            } = *waited;
            let sample = asked.unwrap_or_else(|| Sample::begin(&counts, stood));
            sample.end(FIRST_BYTE, failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> (Arc<HostCounts>, FirstByte) {
        let counts = Arc::new(HostCounts::default());
        let connecting = Connecting(Some(Sample::begin(&counts, Instant::now())));
        let first_byte = connecting.stands();
        (counts, first_byte)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_measured_from_the_question() {
        let (counts, mut first_byte) = waiting();
        tokio::time::advance(Duration::from_secs(9)).await;
        first_byte.look(1, 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        first_byte.look(5, 0);
        first_byte.look(5, 1);
        assert!(first_byte.0.is_none());
        assert_eq!(counts.measured(FIRST_BYTE), (1, 2_000_000, 0));
        assert!(!counts.is_measured_now());
    }

    #[test]
    fn the_round_trip_is_told_once_at_the_end_and_only_if_asked_for() {
        let counts = Arc::new(HostCounts::default());
        let connecting = Connecting(Some(Sample::begin(&counts, Instant::now())));
        let mut round_trip = connecting.round_trip();
        let mut asked = 0;
        for _ in 0..2 {
            round_trip.take(|| {
                asked += 1;
                Some(Duration::from_micros(70))
            });
        }
        assert_eq!((asked, counts.measured(ROUND_TRIP)), (1, (1, 70, 0)));
        Connecting(None).round_trip().take(|| {
            asked += 1;
            None
        });
        assert_eq!(asked, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_first_is_measured_from_the_connection_on() {
        let (counts, mut first_byte) = waiting();
        tokio::time::advance(Duration::from_secs(1)).await;
        first_byte.look(0, 7);
        assert_eq!(counts.measured(FIRST_BYTE), (1, 1_000_000, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_nobodys_fault_and_a_broken_connection_the_hosts() {
        let (counts, first_byte) = waiting();
        drop(first_byte);
        assert_eq!(counts.measured(FIRST_BYTE), (0, 0, 0));
        let (broken, mut first_byte) = waiting();
        first_byte.broken();
        assert_eq!(broken.measured(FIRST_BYTE), (0, 0, 1));
        assert!(!counts.is_measured_now() && !broken.is_measured_now());
    }
}
