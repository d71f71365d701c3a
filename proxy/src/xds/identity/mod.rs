//! A certificate of our own: makes a key, has it signed, and has that done again at about half the
//! certificate's life.
//!
//! A task of its own on the control runtime; dropping [`Asking`] ends it. The key is in memory only,
//! and what leaves is a signing request. What came is what it was made for, or it is not used: `answer`
//! decides that.
//!
//! | file | holds |
//! |---|---|
//! | `answer` | what the signer sent, taken apart and tried; no I/O |
//! | `call` | one question to the signer |
//!
//! A certificate that could not be renewed is used until its end and not longer: then whoever needs it
//! waits for the next one.

mod answer;
mod call;

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::identity::Identity;
use crate::config::secret::Secret;
use crate::xds::client::Backoff;
use crate::xds::client::Server;

use answer::Issued;

/// First bound of the wait after a failure.
const BACKOFF_BASE: Duration = Duration::from_millis(500);

/// Last bound: a control plane that comes back is asked within this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// News not yet taken in; there is one certificate.
const NEWS_MAX: usize = 2;

/// Renewed after this part of its life at the earliest ...
const RENEWAL_EARLIEST: f64 = 0.4;

/// ... and up to this part later, so that proxies that began together do not come back together.
const RENEWAL_SPREAD: f64 = 0.2;

/// What became of a question.
#[derive(Debug)]
pub(super) enum News {
    /// The certificate is over, and there is no other.
    Expired,
    /// Why there is no new one, and how long until the next attempt.
    Failed(String, Duration),
    /// There is a new one.
    Issued {
        certificate: Secret,
        trust: Secret,
        /// Whom it names, its serial number, and its end, for the log.
        facts: (String, Box<str>, SystemTime),
    },
}

/// What asking is done with.
pub(super) struct Parts {
    pub(super) identity: Arc<Identity>,
    /// Where the signer is.
    pub(super) servers: watch::Receiver<Vec<Server>>,
    pub(super) rng: fastrand::Rng,
    pub(super) clock: fn() -> SystemTime,
}

/// The running task.
#[derive(Debug)]
pub(super) struct Asking {
    task: JoinHandle<()>,
    news: mpsc::Receiver<News>,
}

impl Asking {
    pub(super) fn start(parts: Parts) -> Self {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let task = tokio::spawn(ask_for_ever(parts, sender));
        Self { task, news }
    }

    /// What became of the last question.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask_for_ever(mut parts: Parts, news: mpsc::Sender<News>) {
    let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX, parts.rng.fork());
    // The end of the certificate there is.
    let mut held: Option<SystemTime> = None;
    for turn in 0_usize.. {
        let asked = call::ask(&parts, turn, held.is_some()).await;
        let (said, wait) = match asked {
            Ok(issued) => {
                backoff.reset();
                held = Some(issued.until);
                let now = (parts.clock)();
                let wait = renewal(issued.until, now, parts.rng.f64());
                (issued_news(issued), wait)
            }
            Err(reason) => {
                let wait = backoff.next_wait();
                (News::Failed(reason, wait), wait)
            }
        };
        if news.send(said).await.is_err() {
            return;
        }
        let end = held.map(|until| left(until, (parts.clock)()));
        if let Some(end) = end.filter(|end| *end <= wait) {
            tokio::time::sleep(end).await;
            held = None;
            if news.send(News::Expired).await.is_err() {
                return;
            }
        } else {
            tokio::time::sleep(wait).await;
        }
    }
}

fn issued_news(issued: Issued) -> News {
    let Issued {
        certificate,
        trust,
        name,
        serial,
        until,
    } = issued;
    News::Issued {
        certificate: Secret::Certificate(certificate),
        trust: Secret::Validation(trust),
        facts: (name, serial, until),
    }
}

/// How long to wait before a certificate that is new now is replaced; `random` is within 0 and 1.
fn renewal(until: SystemTime, now: SystemTime, random: f64) -> Duration {
    left(until, now).mul_f64(RENEWAL_SPREAD.mul_add(random, RENEWAL_EARLIEST))
}

fn left(until: SystemTime, now: SystemTime) -> Duration {
    until.duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_life_with_jitter() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |random| renewal(now + Duration::from_secs(100), now, random).as_secs();
        assert_eq!([at(0.0), at(0.5), at(1.0)], [40, 50, 60]);
        assert_eq!(renewal(SystemTime::UNIX_EPOCH, now, 0.5), Duration::ZERO);
    }
}
