//! When the configuration on disk is used, and when it is written, without I/O of its own.

use std::time::Duration;

use crate::xds::last_good::Saved;
use crate::xds::last_good::State;
use crate::xds::last_good::Writer;

/// A control plane that is there answers sooner; one that is not is mostly refused at once.
const PATIENCE: Duration = Duration::from_millis(500);

/// A push is rarely alone, so writing waits for a pause ...
const PAUSE: Duration = Duration::from_millis(100);

/// ... but not for ever.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is not whole yet is not written, unless it does not become whole: then what it waits for is
/// taken as it is.
const WHOLE_MAX: Duration = Duration::from_secs(20);

/// The driver's side of a state directory; without one it does nothing.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// What was read, until it is used or not needed.
    saved: Option<Saved>,
    use_at: Duration,
    writer: Option<Writer>,
    dirty: Option<Dirty>,
}

/// Something was received that is not written.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    since: Duration,
    last: Duration,
}

impl Keeper {
    pub(super) fn new(state: Option<State>) -> Self {
        let Some(State { saved, writer }) = state else {
            return Self::default();
        };
        Self {
            saved,
            use_at: PATIENCE,
            writer: Some(writer),
            dirty: None,
        }
    }

    /// The control plane has answered.
    pub(super) fn on_response(&mut self, now: Duration) {
        self.saved = None;
        if self.writer.is_some() {
            let since = self.dirty.map_or(now, |dirty| dirty.since);
            self.dirty = Some(Dirty { since, last: now });
        }
    }

    /// There is no stream to the control plane.
    pub(super) fn on_failed(&mut self) {
        self.use_at = Duration::ZERO;
    }

    /// What is to be served from disk from now on, if the control plane is away.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Saved> {
        if now < self.use_at {
            return None;
        }
        self.saved.take()
    }

    /// The one who writes, if it is time to write.
    pub(super) fn due_writer(&mut self, now: Duration, is_whole: bool) -> Option<&Writer> {
        let dirty = self.dirty?;
        let has_waited = now >= dirty.last + PAUSE || now >= dirty.since + PAUSE_MAX;
        if !has_waited || !(is_whole || now >= dirty.since + WHOLE_MAX) {
            return None;
        }
        self.dirty = None;
        self.writer.as_ref()
    }

    /// When something of this is due after `now`.
    pub(super) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let used = self.saved.as_ref().map(|_| self.use_at);
        let writes = self.dirty.into_iter().flat_map(|dirty| {
            [
                dirty.last + PAUSE,
                dirty.since + PAUSE_MAX,
                dirty.since + WHOLE_MAX,
            ]
        });
        writes.chain(used).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::telemetry::stats::Registry;
    use crate::xds::last_good::Directory;

    fn keeper() -> Keeper {
        let registry = Registry::new(1);
        let stats = Arc::clone(registry.control_plane());
        let saved = Saved {
            at: UNIX_EPOCH,
            node: (String::new(), String::new()),
            resources: Vec::new(),
        };
        Keeper::new(Some(State {
            saved: Some(saved),
            writer: Writer::start(Directory::new("/dev/null/x"), stats).unwrap(),
        }))
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_was_read_is_used_once_nobody_answers() {
        let mut keeper = keeper();
        assert!(keeper.take_due(ms(499)).is_none());
        assert_eq!(keeper.next_deadline(ms(0)), Some(ms(500)));
        keeper.on_failed();
        assert!(keeper.take_due(ms(1)).is_some());
        assert!(keeper.take_due(ms(2)).is_none());
        let mut keeper = self::keeper();
        keeper.on_response(ms(1));
        assert!(keeper.take_due(ms(600)).is_none(), "it is there");
    }

    #[test]
    fn it_is_written_after_a_pause_and_when_it_is_whole() {
        let mut keeper = keeper();
        assert!(keeper.due_writer(ms(1000), true).is_none());
        keeper.on_response(ms(1000));
        assert!(keeper.due_writer(ms(1099), true).is_none());
        assert!(keeper.due_writer(ms(1100), false).is_none());
        assert!(keeper.due_writer(ms(1100), true).is_some());
        assert!(keeper.due_writer(ms(1200), true).is_none(), "once");
        for at in 0..20 {
            keeper.on_response(ms(2000 + at * 90));
        }
        assert!(
            keeper.due_writer(ms(3720), true).is_some(),
            "without a pause"
        );
        keeper.on_response(ms(4000));
        assert!(keeper.due_writer(ms(24_000), false).is_some());
    }
}
