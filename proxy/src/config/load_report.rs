//! What is read of load reports (`xds.data.orca.v3.OrcaLoadReport`), and weights that follow them.

use std::sync::Arc;
use std::time::Duration;

/// A value of a load report, by its name on the wire. `N` is the name inside one of its maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric<N> {
    /// `application_utilization`.
    ApplicationUtilization,
    /// `cpu_utilization`.
    CpuUtilization,
    /// `eps`: errors per second.
    Eps,
    /// `mem_utilization`.
    MemUtilization,
    /// `named_metrics.NAME`.
    Named(N),
    /// `request_cost.NAME`.
    RequestCost(N),
    /// `rps_fractional`: requests per second.
    Rps,
    /// `utilization.NAME`.
    Utilization(N),
}

/// Stands for every name of a map.
const ANY: &str = "*";

impl<'n> Metric<&'n str> {
    /// What a name means; `None` if it is no metric's.
    pub fn of_name(name: &'n str) -> Option<Self> {
        let map = |prefix| name.strip_prefix(prefix).filter(|key| !key.is_empty());
        Some(match name {
            "application_utilization" => Self::ApplicationUtilization,
            "cpu_utilization" => Self::CpuUtilization,
            "eps" => Self::Eps,
            "mem_utilization" => Self::MemUtilization,
            "rps_fractional" => Self::Rps,
            _ => map("named_metrics.")
                .map(Self::Named)
                .or_else(|| map("request_cost.").map(Self::RequestCost))
                .or_else(|| map("utilization.").map(Self::Utilization))?,
        })
    }

    /// The same, to be kept.
    pub fn to_owned(self) -> Metric<Box<str>> {
        match self {
            Self::ApplicationUtilization => Metric::ApplicationUtilization,
            Self::CpuUtilization => Metric::CpuUtilization,
            Self::Eps => Metric::Eps,
            Self::MemUtilization => Metric::MemUtilization,
            Self::Named(name) => Metric::Named(name.into()),
            Self::RequestCost(name) => Metric::RequestCost(name.into()),
            Self::Rps => Metric::Rps,
            Self::Utilization(name) => Metric::Utilization(name.into()),
        }
    }
}

impl Metric<Box<str>> {
    /// Whether `found` is meant.
    pub fn means(&self, found: Metric<&str>) -> bool {
        let is = |wanted: &str, found: &str| wanted == found || wanted == ANY;
        match (self, found) {
            (Self::ApplicationUtilization, Metric::ApplicationUtilization)
            | (Self::CpuUtilization, Metric::CpuUtilization)
            | (Self::Eps, Metric::Eps)
            | (Self::MemUtilization, Metric::MemUtilization)
            | (Self::Rps, Metric::Rps) => true,
            (Self::Named(wanted), Metric::Named(found))
            | (Self::RequestCost(wanted), Metric::RequestCost(found))
            | (Self::Utilization(wanted), Metric::Utilization(found)) => is(wanted, found),
            _ => false,
        }
    }
}

/// What a policy makes of a load report.
#[derive(Clone, Copy, Debug)]
pub struct WantedReports<'c> {
    /// The greatest of these is the utilization, if it is above zero.
    pub utilization: &'c [Metric<Box<str>>],
    /// What errors per request add to the utilization.
    pub error_penalty: f64,
    /// They are good to have, but most servers send none.
    pub are_extra: bool,
}

/// `ClientSideWeightedRoundRobin`: in turn by weights that servers report.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportWeighted {
    /// A host must have reported for so long before its weight counts.
    pub blackout: Duration,
    /// A weight without reports for so long counts no more.
    pub expiration: Duration,
    /// Between two changes of weights.
    pub update_period: Duration,
    /// A finite number of at least 0.
    pub error_penalty: f64,
    /// See [`WantedReports`].
    pub utilization: Arc<[Metric<Box<str>>]>,
}

impl Default for ReportWeighted {
    fn default() -> Self {
        Self {
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            update_period: Duration::from_secs(1),
            error_penalty: 1.0,
            utilization: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_wire() {
        for name in [
            "",
            "cpu",
            "named_metrics.",
            "utilization",
            "rps",
            "named_metrics",
        ] {
            assert_eq!(Metric::of_name(name), None, "{name}");
        }
        assert_eq!(Metric::of_name("rps_fractional"), Some(Metric::Rps));
        assert_eq!(
            Metric::of_name("named_metrics.a.b"),
            Some(Metric::Named("a.b"))
        );
    }

    #[test]
    fn a_star_means_a_whole_map() {
        let means = |wanted: &str, found: &str| {
            let found = Metric::of_name(found).expect("a metric");
            Metric::of_name(wanted)
                .expect("a metric")
                .to_owned()
                .means(found)
        };
        assert!(means("utilization.*", "utilization.gpu"));
        assert!(means("utilization.gpu", "utilization.gpu"));
        assert!(!means("utilization.gpu", "utilization.disk"));
        assert!(!means("utilization.*", "named_metrics.gpu"));
        assert!(means("mem_utilization", "mem_utilization"));
        assert!(!means("mem_utilization", "cpu_utilization"));
    }
}
