//! Whether each limit is reached and how far away it is, under Envoy's names. Read off the counts
//! themselves when somebody asks, so that there is no second truth.

use crate::config::circuit_breakers::Priority;
use crate::telemetry::stats::Field;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::Kind;
use crate::telemetry::stats::Reading;
use crate::upstream::breaker::Breakers;
use crate::upstream::breaker::Resource;

/// One field per priority, resource and question, in this order.
const FIELDS: [Field; 16] = [
    open("circuit_breakers.default.cx_open"),
    remaining("circuit_breakers.default.remaining_cx"),
    open("circuit_breakers.default.rq_pending_open"),
    remaining("circuit_breakers.default.remaining_pending"),
    open("circuit_breakers.default.rq_open"),
    remaining("circuit_breakers.default.remaining_rq"),
    open("circuit_breakers.default.rq_retry_open"),
    remaining("circuit_breakers.default.remaining_retries"),
    open("circuit_breakers.high.cx_open"),
    remaining("circuit_breakers.high.remaining_cx"),
    open("circuit_breakers.high.rq_pending_open"),
    remaining("circuit_breakers.high.remaining_pending"),
    open("circuit_breakers.high.rq_open"),
    remaining("circuit_breakers.high.remaining_rq"),
    open("circuit_breakers.high.rq_retry_open"),
    remaining("circuit_breakers.high.remaining_retries"),
];

const fn open(name: &'static str) -> Field {
    gauge(name, "1 while a limit is reached.")
}

const fn remaining(name: &'static str) -> Field {
    gauge(name, "How many more a limit lets in.")
}

const fn gauge(name: &'static str, help: &'static str) -> Field {
    let kind = Kind::Gauge;
    Field { name, help, kind }
}

impl Group for Breakers {
    fn fields(&self) -> &'static [Field] {
        &FIELDS
    }

    fn read(&self, index: usize) -> Option<Reading> {
        let questions = 2 * Resource::ALL.len();
        let priority = *Priority::ALL.get(index / questions)?;
        let resource = *Resource::ALL.get(index % questions / 2)?;
        let standing = self.standing(priority, resource);
        if index.is_multiple_of(2) {
            return Some(Reading::Gauge(standing.is_open().into()));
        }
        // As with Envoy a budget, which moves by itself, has nothing left to tell.
        let tracked = self.config.load().of(priority).tracks_remaining;
        tracked.then(|| Reading::Gauge(standing.remaining.into()))
    }
}
