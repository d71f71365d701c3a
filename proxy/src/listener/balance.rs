//! Exact balance: each connection goes to the worker that has the fewest of its listener, whoever
//! accepted it. Without it the kernel spreads connections by their addresses, which is uneven while
//! they are few.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::WeakSender;

use crate::listener::ActiveListener;
use crate::listener::connection;
use crate::net::NetStream;
use crate::net::PlainSocket;
use crate::telemetry::stats::worker;
use crate::worker::Command;
use crate::worker::WorkerContext;

/// The connections of a listener, by worker.
#[derive(Debug)]
pub struct Balance {
    workers: Vec<WeakSender<Command>>,
    /// Held for a look at a few numbers, by workers only: at accept, and at the end of a connection.
    open: Mutex<Vec<usize>>,
}

/// A connection's place with one worker, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Seat {
    balance: Arc<Balance>,
    worker: usize,
}

impl Balance {
    /// Nobody has a connection yet.
    pub fn new(workers: &[WeakSender<Command>]) -> Self {
        Self {
            workers: workers.to_vec(),
            open: Mutex::new(vec![0; workers.len()]),
        }
    }

    /// A seat with the worker that has the fewest; with `own`, if nobody has less.
    pub fn seat(self: &Arc<Self>, own: usize) -> Seat {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let places = open.iter().enumerate();
        let least = places.min_by_key(|(worker, count)| (**count, *worker != own));
        let worker = least.map_or(own, |(worker, _)| worker);
        if let Some(count) = open.get_mut(worker) {
            *count += 1;
        }
        Seat {
            balance: Arc::clone(self),
            worker,
        }
    }
}

impl Seat {
    /// Whose it is.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How that worker is told, unless it is gone.
    fn inbox(&self) -> Option<Sender<Command>> {
        self.balance.workers.get(self.worker)?.upgrade()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let open = self.balance.open.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(self.worker) {
            *count -= 1;
        }
    }
}

/// A connection for another worker than the one that accepted it.
#[derive(Debug)]
pub struct Handed {
    listener: Arc<ActiveListener>,
    socket: PlainSocket,
    seat: Seat,
}

impl Handed {
    /// Serves it on this worker.
    pub fn spawn(self, worker: &Rc<WorkerContext>) {
        let Self {
            listener,
            socket,
            seat,
        } = self;
        match socket.into_stream() {
            Ok(stream) => connection::spawn(worker, &listener, (stream, Some(seat)), false),
            Err(error) => tracing::warn!(listener = %listener.name, %error, "a connection is lost"),
        }
    }
}

/// Serves a connection that was accepted just now, on the worker it is for.
pub(super) fn begin(
    context: &Rc<WorkerContext>,
    listener: &Arc<ActiveListener>,
    stream: NetStream,
) {
    let balance = listener.chains().balance.clone();
    let (Some(balance), Some(own)) = (balance, worker::current()) else {
        return connection::spawn(context, listener, (stream, None), false);
    };
    let seat = balance.seat(own);
    if seat.worker() == own {
        return connection::spawn(context, listener, (stream, Some(seat)), false);
    }
    let inbox = seat.inbox();
    let (Some(inbox), Ok(socket)) = (inbox, stream.into_plain()) else {
        return; // the process ends, or the socket is broken
    };
    let listener = Arc::clone(listener);
    let handed = Handed {
        listener,
        socket,
        seat,
    };
    if let Err(error) = inbox.try_send(Command::Serve(handed))
        && let Command::Serve(handed) = error.into_inner()
    {
        handed.spawn(context); // the other has too much to do
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn whoever_has_the_fewest_gets_the_next() {
        let (sender, _inbox) = mpsc::channel(1);
        let balance = Arc::new(Balance::new(&[
            sender.downgrade(),
            sender.downgrade(),
            sender.downgrade(),
        ]));
        let mut seats: Vec<Seat> = (0..6).map(|_| balance.seat(1)).collect();
        let workers: Vec<usize> = seats.iter().map(Seat::worker).collect();
        assert_eq!(workers, [1, 0, 2, 1, 0, 2], "its own, then the others");
        drop(seats.remove(4));
        assert_eq!(balance.seat(2).worker(), 0, "the first one left");
    }
}
