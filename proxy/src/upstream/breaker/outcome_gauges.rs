//! How the breaker of a cluster stands that looks at outcomes, for metrics.

use tokio::time::Instant;

use crate::telemetry::stats::Field;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::Kind;
use crate::telemetry::stats::Reading;
use crate::upstream::breaker::outcome::Breaker;
use crate::upstream::breaker::outcome::State;

const FIELDS: [Field; 6] = [
    field(
        "circuit_breakers.outcome.state",
        "0 closed, 1 open, 2 half-open.",
        Kind::Gauge,
    ),
    field(
        "circuit_breakers.outcome.opened",
        "Times it opened.",
        Kind::Counter,
    ),
    field(
        "circuit_breakers.outcome.refused",
        "Requests it refused.",
        Kind::Counter,
    ),
    field(
        "circuit_breakers.outcome.requests",
        "Requests in its window.",
        Kind::Gauge,
    ),
    field(
        "circuit_breakers.outcome.failed",
        "Requests in its window that failed.",
        Kind::Gauge,
    ),
    field(
        "circuit_breakers.outcome.slow",
        "Requests in its window that were slow.",
        Kind::Gauge,
    ),
];

const fn field(name: &'static str, help: &'static str, kind: Kind) -> Field {
    Field { name, help, kind }
}

impl Group for Breaker {
    fn fields(&self) -> &'static [Field] {
        &FIELDS
    }

    fn read(&self, index: usize) -> Option<Reading> {
        let report = self.report(self.age(Instant::now()));
        let gauge = |value: u64| Reading::Gauge(value.cast_signed());
        Some(match index {
            0 => gauge(match report.state {
                State::Closed => 0,
                State::Open { .. } => 1,
                State::HalfOpen { .. } => 2,
            }),
            1 => Reading::Counter(report.opened),
            2 => Reading::Counter(report.refused),
            3 => gauge(report.counts.requests),
            4 => gauge(report.counts.failed),
            5 => gauge(report.counts.slow),
            _ => return None,
        })
    }
}
