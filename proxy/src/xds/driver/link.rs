//! The connection to the control plane: which server next, and when.

use std::future::pending;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep_until;
use tonic::Code;
use tonic::Status;

use super::AdsConfig;
use crate::xds::client::BACKOFF_MAX;
use crate::xds::client::Backoff;
use crate::xds::client::Call;
use crate::xds::client::Event;
use crate::xds::client::Server;
use crate::xds::client::Stream;
use crate::xds::session::Request;
use crate::xds::session::Response;
use crate::xds::session::Session;

/// What happened on the link.
#[derive(Debug)]
pub(super) enum LinkEvent {
    Closed(Status),
    Opened,
    Response(Response),
    /// Room for requests, or time for the next attempt; look again.
    Woken,
}

/// At most one stream to one of several servers (C-7, C-10).
pub(super) struct Link {
    ads: AdsConfig,
    backoff: Backoff,
    server: usize,
    state: State,
    has_backlog: bool,
}

enum State {
    /// There is no server to connect to.
    Off,
    Open {
        stream: Stream,
        since: Instant,
        has_answered: bool,
    },
    Waiting(Instant),
}

impl Link {
    /// Connects as soon as it is polled.
    pub(super) fn new(ads: AdsConfig, rng: fastrand::Rng) -> Self {
        let state = if ads.servers.is_empty() {
            State::Off
        } else {
            State::Waiting(Instant::now())
        };
        Self {
            backoff: Backoff::new(ads.backoff_base, ads.backoff_max, rng),
            ads,
            server: 0,
            state,
            has_backlog: false,
        }
    }

    /// The server in use.
    pub(super) fn target(&self) -> String {
        let server = self.server();
        server.map_or_else(String::new, |server| server.target.to_string())
    }

    /// Hands over what the session has to say, as far as there is room.
    pub(super) fn flush(&mut self, session: &mut Session, now: Duration) {
        self.has_backlog = false;
        let State::Open { stream, .. } = &self.state else {
            return;
        };
        loop {
            let permit = match stream.requests.try_reserve() {
                Ok(permit) => permit,
                Err(e) => {
                    let is_full = matches!(e, tokio::sync::mpsc::error::TrySendError::Full(()));
                    self.has_backlog = is_full;
                    return;
                }
            };
            let Some(request): Option<Request> = session.next_request(now) else {
                return;
            };
            permit.send(request);
        }
    }

    /// The next event. While `is_reading` is false no response is taken.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(super) async fn next_event(&mut self, is_reading: bool) -> LinkEvent {
        match &mut self.state {
            State::Off => pending().await,
            State::Open {
                stream,
                has_answered,
                ..
            } => {
                // A dead connection takes no more answers, which reading might wait for.
                let is_over = stream.requests.is_closed();
                tokio::select! {
                    event = stream.events.recv(), if is_reading || is_over => match event {
                        Some(Event::Opened) => LinkEvent::Opened,
                        Some(Event::Response(response)) => {
                            *has_answered = true;
                            LinkEvent::Response(response)
                        }
                        Some(Event::Closed(status)) => LinkEvent::Closed(status),
                        None => LinkEvent::Closed(Status::internal("the connection task failed")),
                    },
                    _ = stream.requests.reserve(), if self.has_backlog && !is_over => LinkEvent::Woken,
                    () = stream.requests.closed(), if !is_over => LinkEvent::Woken,
                }
            }
            State::Waiting(at) => {
                sleep_until(*at).await;
                self.connect();
                LinkEvent::Woken
            }
        }
    }

    /// Ends the stream and plans the next attempt. Says how long until then, and whether the end
    /// was in order: after an answer, and without an error (C-9).
    pub(super) fn close(&mut self, status: &Status) -> (Duration, bool) {
        let mut is_orderly = false;
        if let State::Open {
            since,
            has_answered,
            ..
        } = self.state
        {
            // An end after a response is no failure (C-9), unless every stream fails right after
            // it, for example over a message that is too large.
            is_orderly = has_answered && status.code() == Code::Ok;
            let has_lasted = status.code() == Code::Ok || since.elapsed() >= BACKOFF_MAX;
            if has_answered && has_lasted {
                self.backoff.reset();
            } else {
                self.server = (self.server + 1) % self.ads.servers.len().max(1);
            }
        }
        let wait = self.backoff.next_wait();
        self.state = State::Waiting(Instant::now() + wait);
        (wait, is_orderly)
    }

    /// The servers are these now. A stream to one that is still among them goes on; says whether one
    /// has ended.
    pub(super) fn replace_servers(&mut self, servers: Vec<Server>) -> bool {
        let known = self.server();
        let place = known.and_then(|known| servers.iter().position(|server| server == known));
        self.ads.servers = servers;
        self.server = place.unwrap_or_default();
        if place.is_some() {
            return false;
        }
        self.backoff.reset();
        let next = if self.ads.servers.is_empty() {
            State::Off
        } else {
            State::Waiting(Instant::now())
        };
        matches!(std::mem::replace(&mut self.state, next), State::Open { .. })
    }

    fn connect(&mut self) {
        let Some(server) = self.server() else {
            self.state = State::Off;
            return;
        };
        let stream = Stream::open(Call {
            server: server.clone(),
            authority: &self.ads.authority,
            metadata: &self.ads.metadata,
            service: self.ads.service,
            variant: self.ads.variant,
        });
        self.state = State::Open {
            stream,
            since: Instant::now(),
            has_answered: false,
        };
    }

    fn server(&self) -> Option<&Server> {
        self.ads.servers.get(self.server)
    }
}
