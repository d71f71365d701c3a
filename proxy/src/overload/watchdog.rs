//! A watch over workers: one that does not come to its housekeeping is stuck in something that does
//! not end, and its connections with it.
//!
//! Time is counted in own looks, not by the clock: a process that was stopped as a whole, or a machine
//! that slept, misses nothing.

use std::io;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::telemetry::stats::ServerStats;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Looks without a sign of life until it is told: three seconds, as workers give one each second ...
const MISS: u32 = 6;

/// ... and until it is told that it is bad: ten seconds.
const MEGA_MISS: u32 = 20;

/// A worker's sign of life.
#[derive(Debug, Default)]
pub struct Beat(AtomicU64);

impl Beat {
    /// It is alive.
    pub fn give(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Watches these workers until they are gone.
///
/// # Errors
/// The thread could not be made.
pub fn start(beats: &[Arc<Beat>], stats: Arc<ServerStats>) -> io::Result<()> {
    let mut watched: Vec<Watched> = beats.iter().map(Watched::new).collect();
    std::thread::Builder::new()
        .name("weir-watchdog".to_owned())
        .spawn(move || {
            loop {
                std::thread::park_timeout(LOOK);
                for (worker, watched) in watched.iter_mut().enumerate() {
                    tell(worker, watched.look(), &stats);
                }
                watched.retain(|watched| watched.beat.strong_count() > 0);
                if watched.is_empty() {
                    return;
                }
            }
        })?;
    Ok(())
}

#[derive(Debug)]
struct Watched {
    beat: Weak<Beat>,
    last: u64,
    silent: u32,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Alive,
    MegaMiss,
    Miss,
    Nothing,
}

impl Watched {
    fn new(beat: &Arc<Beat>) -> Self {
        Self {
            beat: Arc::downgrade(beat),
            last: u64::MAX,
            silent: 0,
        }
    }

    fn look(&mut self) -> Found {
        let Some(beat) = self.beat.upgrade() else {
            return Found::Nothing;
        };
        let now = beat.0.load(Ordering::Relaxed);
        if now != self.last {
            self.last = now;
            let was_missed = std::mem::take(&mut self.silent) >= MISS;
            return if was_missed {
                Found::Alive
            } else {
                Found::Nothing
            };
        }
        self.silent = self.silent.saturating_add(1);
        match self.silent {
            MISS => Found::Miss,
            MEGA_MISS => Found::MegaMiss,
            _ => Found::Nothing,
        }
    }
}

fn tell(worker: usize, found: Found, stats: &ServerStats) {
    match found {
        Found::Nothing => {}
        Found::Alive => tracing::warn!(worker, "the worker answers again"),
        Found::Miss => {
            stats.watchdog_miss().inc();
            tracing::warn!(worker, silent = ?(LOOK * MISS), "a worker does not answer");
        }
        Found::MegaMiss => {
            stats.watchdog_mega_miss().inc();
            tracing::error!(worker, silent = ?(LOOK * MEGA_MISS), "a worker is stuck");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_and_so_is_its_end() {
        let beat = Arc::<Beat>::default();
        let mut watched = Watched::new(&beat);
        let found: Vec<_> = (0..=MEGA_MISS + 5).map(|_| watched.look()).collect();
        let told: Vec<_> = found
            .iter()
            .filter(|found| **found != Found::Nothing)
            .collect();
        assert_eq!(told, [&Found::Miss, &Found::MegaMiss]);
        assert_eq!(found[MISS as usize], Found::Miss);
        beat.give();
        assert_eq!(watched.look(), Found::Alive);
        for _ in 0..100 {
            beat.give();
            assert_eq!(watched.look(), Found::Nothing);
        }
    }
}
