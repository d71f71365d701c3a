//! The message as JSON, as protobuf writes it: names in either spelling, numbers also as strings.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Nonsense;
use crate::config::load_report::Metric;

/// The message; what is `null` is not there, what is not known is passed over.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Message {
    #[serde(alias = "applicationUtilization")]
    application_utilization: Option<Number>,
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: Option<Number>,
    eps: Option<Number>,
    #[serde(alias = "memUtilization")]
    mem_utilization: Option<Number>,
    #[serde(alias = "namedMetrics")]
    named_metrics: Option<Numbers>,
    #[serde(alias = "requestCost")]
    request_cost: Option<Numbers>,
    #[serde(alias = "rpsFractional")]
    rps_fractional: Option<Number>,
    utilization: Option<Numbers>,
}

type Numbers = BTreeMap<String, Number>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(f64),
    Text(String),
}

impl Number {
    fn value(&self) -> Result<f64, Nonsense> {
        match self {
            Self::Plain(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| Nonsense::Number),
        }
    }
}

/// Gives each number with its name.
pub(super) fn each(
    value: &[u8],
    take: &mut impl FnMut(Metric<&str>, f64) -> Result<(), Nonsense>,
) -> Result<(), Nonsense> {
    let message: Message = serde_json::from_slice(value).map_err(|_| Nonsense::Syntax)?;
    let plain = [
        (
            Metric::ApplicationUtilization,
            message.application_utilization,
        ),
        (Metric::CpuUtilization, message.cpu_utilization),
        (Metric::Eps, message.eps),
        (Metric::MemUtilization, message.mem_utilization),
        (Metric::Rps, message.rps_fractional),
    ];
    for (metric, number) in plain {
        number.map_or(Ok(()), |number| take(metric, number.value()?))?;
    }
    for (name, number) in message.named_metrics.iter().flatten() {
        take(Metric::Named(name), number.value()?)?;
    }
    for (name, number) in message.request_cost.iter().flatten() {
        take(Metric::RequestCost(name), number.value()?)?;
    }
    for (name, number) in message.utilization.iter().flatten() {
        take(Metric::Utilization(name), number.value()?)?;
    }
    Ok(())
}
