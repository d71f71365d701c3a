//! The registry as Envoy's `/stats`: one `name: value` per line, or JSON.
//!
//! Histograms show quantiles in milliseconds; of Envoy's two numbers, the one of the last interval is
//! always `nan`, because nothing here is flushed at intervals.

use std::fmt::Write;

use serde_json::Value;
use serde_json::json;

use crate::telemetry::prometheus::Selection;
use crate::telemetry::stats::HistogramSnapshot;
use crate::telemetry::stats::Reading;
use crate::telemetry::stats::Registry;
use crate::telemetry::stats::Scope;

/// The quantiles that Envoy shows, in percent.
const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// Appends everything selected, sorted by name, histograms last.
pub fn render(registry: &Registry, selection: &Selection, out: &mut String) {
    let all = Stats::collect(registry, selection);
    for (name, value) in all.numbers {
        line(out, format_args!("{}: {value}\n", Escaped(&name)));
    }
    for (name, snapshot) in all.histograms {
        line(out, format_args!("{}:", Escaped(&name)));
        if snapshot.count() == 0 {
            out.push_str(" No recorded values\n");
            continue;
        }
        for percent in QUANTILES {
            let value = quantile(&snapshot, percent).unwrap_or_default();
            line(out, format_args!(" P{percent}(nan,{value})"));
        }
        out.push('\n');
    }
}

/// Everything selected, in the shape of Envoy's `/stats?format=json`.
#[must_use]
pub fn render_json(registry: &Registry, selection: &Selection) -> Value {
    let all = Stats::collect(registry, selection);
    let numbers = all.numbers.into_iter();
    let mut stats: Vec<_> = numbers
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    if !all.histograms.is_empty() {
        let histograms = all.histograms.iter();
        let computed: Vec<_> = histograms
            .map(|(name, snapshot)| {
                let value =
                    |percent| json!({"cumulative": quantile(snapshot, percent), "interval": null});
                json!({"name": name, "values": QUANTILES.map(value)})
            })
            .collect();
        stats.push(json!({"histograms": {
            "supported_quantiles": QUANTILES,
            "computed_quantiles": computed,
        }}));
    }
    json!({ "stats": stats })
}

/// `cluster.x.upstream_rq_total`; groups of one instance have no middle part.
pub(super) fn dotted(scope: Scope, instance: &str, name: &str) -> String {
    match instance {
        "" => format!("{}.{name}", scope.prefix),
        instance => format!("{}.{instance}.{name}", scope.prefix),
    }
}

/// Microseconds as milliseconds; beyond 2^53 µs, 285 years, digits are lost.
pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

fn quantile(snapshot: &HistogramSnapshot, percent: f64) -> Option<f64> {
    let value = snapshot.quantile(percent / 100.0)?;
    Some(value.as_secs_f64() * 1_000.0)
}

#[derive(Default)]
struct Stats {
    numbers: Vec<(String, i128)>,
    histograms: Vec<(String, HistogramSnapshot)>,
}

impl Stats {
    fn collect(registry: &Registry, selection: &Selection) -> Self {
        let mut all = Self::default();
        for list in registry.groups() {
            for (instance, group) in &list.instances {
                for (index, field) in group.fields().iter().enumerate() {
                    let reading = group.read(index);
                    let reading =
                        reading.filter(|reading| reading.is_used() || !selection.used_only);
                    if let Some(reading) = reading {
                        let name = dotted(list.scope, instance, field.name);
                        all.push(name, reading, selection);
                    }
                }
            }
        }
        all.numbers.sort_unstable();
        all.histograms.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn push(&mut self, name: String, reading: Reading, selection: &Selection) {
        let filter = selection.filter.as_ref();
        let mut number = |name: String, value: i128| {
            if filter.is_none_or(|filter| filter.is_match(&name)) {
                self.numbers.push((name, value));
            }
        };
        match reading {
            Reading::Codes(codes) => codes
                .into_iter()
                .for_each(|(code, count)| number(format!("{name}_{code}"), count.into())),
            Reading::Counter(value) => number(name, value.into()),
            Reading::Flags(flags) => flags
                .into_iter()
                .for_each(|(flag, count)| number(format!("{name}.{flag}"), count.into())),
            Reading::Gauge(value) => number(name, value.into()),
            Reading::Histogram(snapshot) => {
                if filter.is_none_or(|filter| filter.is_match(&name)) {
                    self.histograms.push((name, snapshot));
                }
            }
        }
    }
}

/// Names come from configuration: none may begin a line of its own.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes every character");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use regex::Regex;
    use serde_json::json;

    use super::Selection;
    use super::render;
    use super::render_json;
    use crate::telemetry::stats::Registry;

    fn selection(filter: &str, used_only: bool) -> Selection {
        let filter = Some(Regex::new(filter).expect("a pattern"));
        Selection { filter, used_only }
    }

    fn text(registry: &Registry, selection: &Selection) -> String {
        let mut out = String::new();
        render(registry, selection, &mut out);
        out
    }

    #[test]
    fn lines_as_envoy() {
        let registry = Registry::new(1);
        let stats = registry.cluster("ok");
        stats.record_response(200);
        stats.membership_total().set(1);
        stats.upstream_rq_time().record(Duration::from_millis(100));
        assert_eq!(
            text(&registry, &selection("^cluster", true)),
            "cluster.ok.membership_total: 1\n\
             cluster.ok.upstream_rq_200: 1\n\
             cluster.ok.upstream_rq_2xx: 1\n\
             cluster.ok.upstream_rq_completed: 1\n\
             cluster.ok.upstream_rq_time: P0(nan,100) P25(nan,100) P50(nan,100) P75(nan,100) \
             P90(nan,100) P95(nan,100) P99(nan,100) P99.5(nan,100) P99.9(nan,100) P100(nan,100)\n"
        );
        let http = registry.http("in");
        assert_eq!(
            text(&registry, &selection("downstream_rq_time", false)),
            "http.in.downstream_rq_time: No recorded values\n"
        );
        drop(http);
    }

    #[test]
    fn a_name_stays_on_its_line() {
        let registry = Registry::new(1);
        let stats = registry.cluster("a\nserver.live");
        stats.upstream_rq_total().inc();
        assert_eq!(
            text(&registry, &selection("upstream_rq_total", true)),
            "cluster.a\\nserver.live.upstream_rq_total: 1\n"
        );
    }

    #[test]
    fn json_as_envoy() {
        let registry = Registry::new(1);
        let stats = registry.cluster("ok");
        stats.upstream_rq_active().dec();
        let all = render_json(
            &registry,
            &selection("ok.upstream_(rq_active|rq_time)$", false),
        );
        let stats = all["stats"].as_array().expect("a list");
        assert_eq!(
            stats[0],
            json!({"name": "cluster.ok.upstream_rq_active", "value": -1})
        );
        let histogram = &stats[1]["histograms"]["computed_quantiles"][0];
        assert_eq!(histogram["name"], "cluster.ok.upstream_rq_time");
        assert_eq!(
            histogram["values"][9],
            json!({"cumulative": null, "interval": null})
        );
    }
}
