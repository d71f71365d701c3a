//! What is promised of the policy, scenario by scenario: met or missed, by the same seeds.

use bench::stats::{RatioInterval, bootstrap_mean, mean, ratio_interval, ratio_of_sums};

use crate::cell::{Cell, RESAMPLING, Run};
use crate::policy::Kind;
use crate::scenario::{Scenario, Story};

/// An excess of peak EWMA's that is below this is none to be halved.
const EXCESS_MIN: f64 = 0.05;

/// Peak EWMA with everybody's constants.
const PEAKS: [Kind; 3] = [Kind::PeakEwma, Kind::Linkerd, Kind::EnvoyEwma];

/// The factor over least request that is still no worse, and over the oracle that is next to perfect.
const TOLERANCE: f64 = 1.05;

/// Part of all requests that may reach a host that fails at once.
const FAILED_MAX: f64 = 0.005;

/// Within which a host that healed is back.
const RECOVERY_MAX: usize = 10;

/// One promise in one scenario.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) rule: String,
    pub(crate) found: String,
    pub(crate) met: bool,
    /// Another draw of seeds might say the opposite.
    pub(crate) is_close: bool,
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        match (self.met, self.is_close) {
            (true, false) => "met",
            (true, true) => "met, within the noise",
            (false, false) => "missed",
            (false, true) => "missed, within the noise",
        }
    }

    /// A value that must not be above a bound.
    fn below(rule: String, value: RatioInterval, bound: f64) -> Self {
        Self {
            rule,
            found: interval(&value),
            met: value.ratio <= bound,
            is_close: value.low <= bound && bound < value.high,
        }
    }
}

/// A figure of a run, with its name.
type Figure = (&'static str, fn(&Run) -> f64);

const FIGURES: [Figure; 2] = [("p99", |run| run.p99), ("p99.9", |run| run.p999)];

/// All that can be told of these cells.
pub(crate) fn verdicts(scenario: &Scenario, cells: &[Cell]) -> Vec<Verdict> {
    let cell = |kind| cells.iter().find(|cell| cell.kind == kind);
    let Some(weir) = cell(Kind::Weir) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for figure in FIGURES {
        if let Some(oracle) = cell(Kind::Oracle) {
            let peaks = PEAKS.into_iter().filter_map(cell);
            all.extend(peaks.filter_map(|peak| half(figure, weir, peak, oracle)));
            let plain = scenario.is_plain().then_some(oracle);
            all.extend(plain.and_then(|oracle| no_worse(figure, weir, oracle, TOLERANCE)));
        }
        let least = cell(Kind::LeastRequest);
        all.extend(least.and_then(|least| no_worse(figure, weir, least, TOLERANCE)));
        if scenario.is_herd() {
            all.extend(below_all(figure, weir, cells));
        }
    }
    if scenario.story == Story::FailsFast {
        all.push(fails(weir));
    }
    if scenario.trouble().is_some() {
        all.push(recovers(weir));
    }
    all
}

/// Excess over the oracle, as a part of it, by seed.
fn excess((_, value): Figure, cell: &Cell, oracle: &Cell) -> Vec<f64> {
    let both = cell.each(value).into_iter().zip(oracle.each(value));
    both.map(|(own, best)| own / best - 1.0).collect()
}

fn half(figure: Figure, weir: &Cell, peak: &Cell, oracle: &Cell) -> Option<Verdict> {
    let (own, theirs) = (excess(figure, weir, oracle), excess(figure, peak, oracle));
    let (own_mean, their_mean) = (mean(&own)?, mean(&theirs)?);
    if their_mean <= EXCESS_MIN {
        return None;
    }
    let ratio = ratio_of_sums(&own, &theirs, RESAMPLING)?;
    let over: Vec<f64> = own
        .iter()
        .zip(&theirs)
        .map(|(own, their)| own - their / 2.0)
        .collect();
    let (low, high) = bootstrap_mean(&over, RESAMPLING)?;
    Some(Verdict {
        rule: format!(
            "excess of {} over the oracle, weir / {} <= 0.5",
            figure.0,
            peak.kind.name()
        ),
        found: format!(
            "{} ({:.1} % / {:.1} %)",
            interval(&ratio),
            own_mean * 100.0,
            their_mean * 100.0
        ),
        met: mean(&over)? <= 0.0,
        is_close: low <= 0.0 && 0.0 < high,
    })
}

fn no_worse((name, value): Figure, weir: &Cell, other: &Cell, bound: f64) -> Option<Verdict> {
    let ratio = ratio_interval(&weir.each(value), &other.each(value), RESAMPLING)?;
    let rule = format!("{name}, weir / {} <= {bound}", other.kind.name());
    Some(Verdict::below(rule, ratio, bound))
}

fn below_all((name, value): Figure, weir: &Cell, cells: &[Cell]) -> Option<Verdict> {
    let others = cells.iter().filter(|cell| cell.kind.is_baseline());
    let ratios = others.filter_map(|cell| {
        let ratio = ratio_interval(&weir.each(value), &cell.each(value), RESAMPLING)?;
        Some((cell.kind.name(), ratio))
    });
    let (best, ratio) =
        ratios.max_by(|(_, left), (_, right)| left.ratio.total_cmp(&right.ratio))?;
    let rule = format!("{name} below every baseline: weir / {best} < 1");
    Some(Verdict::below(rule, ratio, 1.0))
}

fn fails(weir: &Cell) -> Verdict {
    let (value, low, high) = weir.median(|run| run.failed);
    Verdict {
        rule: format!(
            "requests to the host that fails <= {:.1} %",
            FAILED_MAX * 100.0
        ),
        found: format!(
            "{:.2} % [{:.2}, {:.2}]",
            value * 100.0,
            low * 100.0,
            high * 100.0
        ),
        met: value <= FAILED_MAX,
        is_close: low <= FAILED_MAX && FAILED_MAX < high,
    }
}

fn recovers(weir: &Cell) -> Verdict {
    let slowest = weir.slowest(|run| run.back);
    Verdict {
        rule: format!("80 % of the fair share within {RECOVERY_MAX} s, slowest seed"),
        found: match slowest {
            None => "not at all".to_owned(),
            Some(seconds) => format!("{seconds} s"),
        },
        met: slowest.is_some_and(|seconds| seconds <= RECOVERY_MAX),
        is_close: false,
    }
}

fn interval(value: &RatioInterval) -> String {
    format!("{:.3} [{:.3}, {:.3}]", value.ratio, value.low, value.high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::SCENARIOS;

    fn cell(kind: Kind, values: &[f64]) -> Cell {
        let run = |value: &f64| Run {
            p50: 1.0,
            p99: *value,
            p999: *value,
            failed: 0.0,
            shares: Vec::new(),
            swing: (0.0, 0.0),
            left: None,
            back: Some(3),
        };
        Cell {
            kind,
            runs: values.iter().map(run).collect(),
        }
    }

    fn words(name: &str, weir: &[f64]) -> Vec<(String, &'static str)> {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
        let cells = [
            cell(Kind::Oracle, &[10.0, 20.0]),
            cell(Kind::LeastRequest, &[14.0, 28.0]),
            cell(Kind::PeakEwma, &[12.0, 24.0]),
            cell(Kind::Weir, weir),
        ];
        let all = verdicts(scenario.expect("it is in the table"), &cells);
        let p99 = all.into_iter().filter(|one| !one.rule.contains("p99.9"));
        p99.map(|one| (one.rule.clone(), one.word())).collect()
    }

    #[test]
    fn promises_are_judged_seed_by_seed() {
        // Excess of peak EWMA 20 %: half is 11 and 22.
        let good = words("S2", &[10.9, 21.8]);
        assert!(good.iter().all(|(_, word)| *word == "met"), "{good:?}");
        assert_eq!(good.len(), 3, "half, least request, recovery: {good:?}");
        assert_eq!(words("S2", &[11.2, 22.4])[0].1, "missed");
        assert_eq!(words("S2", &[10.2, 22.4])[0].1, "met, within the noise");
        assert_eq!(words("S2", &[14.8, 29.6])[1].1, "missed");
        let herd = words("S8", &[12.1, 24.2]);
        assert_eq!(herd.len(), 3, "{herd:?}");
        assert_eq!(herd[2].1, "missed", "peak EWMA is below: {herd:?}");
        assert_eq!(
            words("S1-80", &[10.6, 21.2])[1].1,
            "missed",
            "not next to perfect"
        );
    }
}
