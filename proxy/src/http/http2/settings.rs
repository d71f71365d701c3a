//! Whether a server's SETTINGS have come: before them nobody knows what it allows, and h2 does not say.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// Streams that may be open until a server says how many; larger than what one can say, and no limit.
pub(super) const STREAMS_UNTOLD: usize = usize::MAX - 1;

/// Those of a server.
#[derive(Debug, Default)]
pub struct Settings {
    have_come: Cell<bool>,
    /// They have.
    come: Notify,
}

impl Settings {
    /// Waits until they have come, or will not.
    pub(super) async fn have_come(&self) {
        let mut come = std::pin::pin!(self.come.notified());
        come.as_mut().enable();
        if !self.have_come.get() {
            come.await;
        }
    }
}

/// Tells those who wait, when it is dropped.
#[derive(Debug)]
pub(super) struct Herald(pub(super) Rc<Settings>);

impl Drop for Herald {
    fn drop(&mut self) {
        self.0.have_come.set(true);
        self.0.come.notify_waiters();
    }
}
