//! What signals mean: TERM, INT and QUIT stop gracefully, a second INT at once, USR1 reopens logs.

use std::process::ExitCode;

use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;

/// What a shell reports for a process ended by INT.
const INTERRUPTED: u8 = 130;

/// Whether the process was told to stop, and how often.
#[derive(Debug, Default)]
pub struct Told {
    stopping: Notify,
}

impl Told {
    /// Done at the first signal that asks to stop; `reopen` is called for each USR1 before.
    pub async fn asked_to_stop(&self, reopen: impl Fn()) {
        let mut term = listen(SignalKind::terminate());
        let mut int = listen(SignalKind::interrupt());
        let mut quit = listen(SignalKind::quit());
        let mut usr1 = listen(SignalKind::user_defined1());
        loop {
            let name = tokio::select! {
                () = next(&mut term) => "TERM",
                () = next(&mut int) => "INT",
                () = next(&mut quit) => "QUIT",
                () = next(&mut usr1) => {
                    reopen();
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
