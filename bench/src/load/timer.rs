//! A timer of microseconds. Tokio's rounds up to the millisecond, which would be the p99 of an open
//! loop and not the proxy's.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

/// A `timerfd(2)` awaited by the runtime.
#[derive(Debug)]
pub(super) struct PreciseTimer {
    /// No pipe, but read like one: tokio's only safe way to await a descriptor of its caller.
    fd: Receiver,
}

impl PreciseTimer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            fd: Receiver::from_owned_fd_unchecked(fd)?,
        })
    }

    /// Returns at `due`, at once when it has passed.
    pub(super) async fn sleep_until(&self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        self.arm(left)?;
        loop {
            self.fd.readable().await?;
            let mut expirations = [0; 8];
            match self.fd.try_read(&mut expirations) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }

    fn arm(&self, left: Duration) -> io::Result<()> {
        let value = Timespec::try_from(left).map_err(io::Error::other)?;
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: value,
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
