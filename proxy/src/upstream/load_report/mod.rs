//! What servers say of their load, with each answer (`xds.data.orca.v3.OrcaLoadReport`, gRFC A51 and
//! A58): the fields `endpoint-load-metrics` and `endpoint-load-metrics-bin` of heads and trailers.
//!
//! Reports are read on the workers without an allocation, JSON excepted. One that cannot be read, or has
//! a number in it that is none or below zero where it counts, is ignored as a whole.
//!
//! | file | holds |
//! |---|---|
//! | `binary` | a message of protobuf, in base64 |
//! | `cells` | what one worker was told of one host |
//! | `json` | the same message as JSON |
//! | `text` | names and numbers |
//! | `told` | what a host last said of its requests in flight, and who said it last |
//! | `weights` | from what was told to weights |

mod binary;
mod cells;
mod json;
#[cfg(test)]
mod tests;
mod text;
mod told;
mod weights;

use http::HeaderMap;
use http::HeaderName;

use crate::config::limits;
use crate::config::load_report::Metric;
use crate::config::load_report::WantedReports;
pub(super) use cells::Reading;
pub(super) use cells::Reports;
pub(super) use told::RECENT;
pub(super) use told::Recent;
pub(super) use told::Told;
pub(super) use weights::ReportedWeights;

const FIELD: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const FIELD_BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// Why a report is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// It is neither of the known forms.
    #[error("its form is not known")]
    Form,
    /// It is longer than any report should be.
    #[error("it is too long")]
    Length,
    /// A number is none, infinite, or below zero where it counts.
    #[error("a number in it is none")]
    Number,
    /// It is not what its form wants.
    #[error("it cannot be read")]
    Syntax,
}

/// What counts of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// The greatest of the metrics that the policy names, else of the application, else of processors;
    /// above 1 it is too much. 0 is not known.
    pub utilization: f64,
    /// Requests per second, of all its clients; 0 is not known.
    pub rps: f64,
    /// Errors per second.
    pub eps: f64,
    /// Requests that the server has right now, of all its clients (`named_metrics.in_flight`).
    pub in_flight: Option<f64>,
}

impl LoadReport {
    /// Reads what is in a head or in trailers; `None` if there is nothing.
    ///
    /// # Errors
    /// There is something that is no report.
    pub fn read(fields: &HeaderMap, wanted: WantedReports<'_>) -> Result<Option<Self>, Nonsense> {
        let (value, is_binary) = match fields.get(FIELD_BINARY) {
            Some(value) => (value, true),
            None => match fields.get(FIELD) {
                Some(value) => (value, false),
                None => return Ok(None),
            },
        };
        let value = value.as_bytes();
        if value.len() > limits::LOAD_REPORT_BYTES_MAX {
            return Err(Nonsense::Length);
        }
        let mut found = Found::new(wanted);
        let mut take = |metric: Metric<&str>, number| found.take(metric, number);
        if is_binary {
            binary::each(value, &mut take)?;
        } else if let Some(value) = value.strip_prefix(b"BIN ") {
            binary::each(value, &mut take)?;
        } else if let Some(value) = value.strip_prefix(b"TEXT ") {
            text::each(value, &mut take)?;
        } else if let Some(value) = value.strip_prefix(b"JSON ") {
            json::each(value, &mut take)?;
        } else {
            return Err(Nonsense::Form);
        }
        Ok(Some(found.report()))
    }

    /// What a host that says this should get: requests per second over utilization, errors counted in
    /// (gRFC A58). `None` where nothing follows of it.
    pub fn weight(&self, error_penalty: f64) -> Option<f64> {
        if self.rps <= 0.0 {
            return None;
        }
        let utilization = self.utilization + error_penalty * self.eps / self.rps;
        let weight = self.rps / utilization;
        (utilization > 0.0 && weight.is_finite()).then(|| weight.min(f64::from(u32::MAX)))
    }
}

/// Numbers on their way to a report.
struct Found<'c> {
    wanted: WantedReports<'c>,
    named: f64,
    application: f64,
    processors: f64,
    report: LoadReport,
}

impl<'c> Found<'c> {
    fn new(wanted: WantedReports<'c>) -> Self {
        Self {
            wanted,
            named: 0.0,
            application: 0.0,
            processors: 0.0,
            report: LoadReport::default(),
        }
    }

    /// What an application says in metrics of its own may be below zero; what counts may not.
    fn take(&mut self, metric: Metric<&str>, number: f64) -> Result<(), Nonsense> {
        if !number.is_finite() {
            return Err(Nonsense::Number);
        }
        let slot = match metric {
            Metric::ApplicationUtilization => Some(&mut self.application),
            Metric::CpuUtilization => Some(&mut self.processors),
            Metric::Eps => Some(&mut self.report.eps),
            Metric::Rps => Some(&mut self.report.rps),
            Metric::Named("in_flight") => Some(self.report.in_flight.insert(0.0)),
            Metric::MemUtilization
            | Metric::Named(_)
            | Metric::RequestCost(_)
            | Metric::Utilization(_) => None,
        };
        let is_named = self.wanted.utilization.iter().any(|one| one.means(metric));
        if number < 0.0 && (slot.is_some() || is_named) {
            return Err(Nonsense::Number);
        }
        if let Some(slot) = slot {
            *slot = number;
        }
        if is_named {
            self.named = self.named.max(number);
        }
        Ok(())
    }

    /// The first that is above zero, in Envoy's order.
    fn report(self) -> LoadReport {
        let known = [self.named, self.application];
        let known = known.into_iter().find(|utilization| *utilization > 0.0);
        LoadReport {
            utilization: known.unwrap_or(self.processors),
            ..self.report
        }
    }
}
