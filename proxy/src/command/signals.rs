//! What signals mean: TERM, INT and QUIT stop gracefully, a second INT at once; HUP reads the
//! configuration again, USR1 reopens logs. USR2 is caught and said to do nothing yet: by default it
//! would end the process.

use std::process::ExitCode;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;

/// What a shell reports for a process ended by INT.
const INTERRUPTED: u8 = 130;

/// What a signal that does not stop asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// HUP: read the configuration again.
    Reload,
    /// USR1: open log files anew.
    ReopenLogs,
}

/// Whether the process was told to stop, and how often.
#[derive(Debug, Default)]
pub struct Told {
    stopping: Notify,
}

impl Told {
    /// Done at the first signal that asks to stop; `ask` is called for each of the others before.
    pub async fn asked_to_stop(&self, ask: impl Fn(Asked)) {
        let mut term = listen(SignalKind::terminate());
        let mut int = listen(SignalKind::interrupt());
        let mut quit = listen(SignalKind::quit());
        let mut hup = listen(SignalKind::hangup());
        let mut usr1 = listen(SignalKind::user_defined1());
        let mut usr2 = listen(SignalKind::user_defined2());
        loop {
            let name = tokio::select! {
                () = next(&mut term) => "TERM",
                () = next(&mut int) => "INT",
                () = next(&mut quit) => "QUIT",
                () = next(&mut hup) => {
                    ask(Asked::Reload);
                    continue;
                }
                () = next(&mut usr1) => {
                    ask(Asked::ReopenLogs);
                    continue;
                }
                () = next(&mut usr2) => {
                    tracing::warn!(signal = "USR2", "starting a successor is not supported");
                    continue;
                }
            };
            tracing::info!(signal = name, "asked to stop");
            self.stopping.notify_one();
            return;
        }
    }

    /// Done when INT comes after stopping has begun.
    pub async fn told_twice(&self) -> ExitCode {
        self.stopping.notified().await;
        next(&mut listen(SignalKind::interrupt())).await;
        ExitCode::from(INTERRUPTED)
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind)
        .inspect_err(|error| tracing::error!(%error, "a signal cannot be received"))
        .ok()
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
