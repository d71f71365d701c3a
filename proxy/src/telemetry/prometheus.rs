//! The registry as a Prometheus text exposition (version 0.0.4), under the names Envoy's own gives, so
//! that dashboards made for Envoy work: `envoy_cluster_upstream_rq_total{envoy_cluster_name="x"}`.
//!
//! Durations are in milliseconds as Envoy's are. Names that contain a dot stay whole in their label.

use std::fmt::Write;
use std::sync::Arc;

use regex::Regex;

use crate::telemetry::stats::Field;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::GroupList;
use crate::telemetry::stats::HistogramSnapshot;
use crate::telemetry::stats::Kind;
use crate::telemetry::stats::Reading;
use crate::telemetry::stats::Registry;
use crate::telemetry::text;

/// The media type of what [`render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Which series to give.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only those whose dotted name matches.
    pub filter: Option<Regex>,
    /// Only those that were ever counted.
    pub used_only: bool,
}

/// Appends everything selected, and `weir_build_info` with these labels.
pub fn render(
    registry: &Registry,
    selection: &Selection,
    build: &[(&str, &str)],
    out: &mut String,
) {
    header(out, "weir_build_info", "What is running.", "gauge");
    series(out, "weir_build_info", build, "1");
    for list in registry.groups() {
        let fields = list.instances.first().map(|(_, group)| group.fields());
        let mut family = String::new();
        for (index, field) in fields.unwrap_or_default().iter().enumerate() {
            let name = family_name(&list, field);
            let renderer = Family {
                list: &list,
                field,
                index,
                name: &name,
                // The classes of status codes share one family.
                headed: family == name,
            };
            if renderer.render(selection, out) {
                family = name;
            }
        }
    }
}

/// Appends gauges that nobody counts, computed when they are asked for: labels and value of each.
pub fn gauges<'a>(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], f64)>,
    out: &mut String,
) {
    computed((name, help, "gauge"), samples, out);
}

/// The same of counters.
pub fn counters<'a>(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], f64)>,
    out: &mut String,
) {
    computed((name, help, "counter"), samples, out);
}

fn computed<'a>(
    (name, help, kind): (&str, &str, &str),
    samples: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], f64)>,
    out: &mut String,
) {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_some() {
        header(out, name, help, kind);
    }
    for (labels, value) in samples {
        series(out, name, labels, &value.to_string());
    }
}

/// One field of all instances.
struct Family<'a> {
    list: &'a GroupList,
    field: &'a Field,
    index: usize,
    name: &'a str,
    headed: bool,
}

impl Family<'_> {
    /// Says whether there is a header now.
    fn render(mut self, selection: &Selection, out: &mut String) -> bool {
        for (instance, group) in &self.list.instances {
            let dotted = || text::dotted(self.list.scope, instance, self.field.name);
            let filter = selection.filter.as_ref();
            if filter.is_some_and(|filter| !filter.is_match(&dotted())) {
                continue;
            }
            self.instance(instance, group, selection.used_only, out);
        }
        self.headed
    }

    fn instance(
        &mut self,
        instance: &Arc<str>,
        group: &Arc<dyn Group>,
        used_only: bool,
        out: &mut String,
    ) {
        let Some(reading) = group.read(self.index) else {
            return;
        };
        if used_only && !reading.is_used() {
            return;
        }
        if matches!(&reading, Reading::Codes(codes) if codes.is_empty()) {
            return; // a family without a series would be a header alone
        }
        if !self.headed {
            header(out, self.name, self.field.help, type_name(self.field.kind));
            self.headed = true;
        }
        let label = self.list.scope.label.map(|key| (key, &**instance));
        match reading {
            Reading::Codes(codes) => {
                for (code, count) in codes {
                    self.counted(
                        ("envoy_response_code", &code.to_string()),
                        label,
                        count,
                        out,
                    );
                }
            }
            Reading::Counter(count) => match class(self.field.name) {
                Some(class) => {
                    self.counted(("envoy_response_code_class", class), label, count, out);
                }
                None => series(out, self.name, label.as_slice(), &count.to_string()),
            },
            Reading::Flags(flags) => {
                for (flag, count) in flags {
                    self.counted(("response_flag", flag.short()), label, count, out);
                }
            }
            Reading::Gauge(value) => series(out, self.name, label.as_slice(), &value.to_string()),
            Reading::Histogram(snapshot) => histogram(out, self.name, label, &snapshot),
        }
    }

    fn counted(&self, of: (&str, &str), label: Option<(&str, &str)>, count: u64, out: &mut String) {
        let labels: Vec<_> = [of].into_iter().chain(label).collect();
        series(out, self.name, &labels, &count.to_string());
    }
}

const fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Codes | Kind::Counter | Kind::Flags => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

/// `2` of `upstream_rq_2xx`.
fn class(name: &str) -> Option<&str> {
    let (_, class) = name.rsplit_once('_')?;
    class.strip_suffix("xx")
}

fn family_name(list: &GroupList, field: &Field) -> String {
    let name = match class(field.name) {
        Some(_) => field.name.trim_end_matches(|c: char| c != '_').to_owned() + "xx",
        None => field.name.to_owned(),
    };
    format!("envoy_{}_{name}", list.scope.prefix).replace('.', "_")
}

fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    append(
        out,
        format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
    );
}

fn series(out: &mut String, name: &str, labels: &[(&str, &str)], value: &str) {
    out.push_str(name);
    for (at, (key, text)) in labels.iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        append(out, format_args!("{key}=\""));
        escape(out, text);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    append(out, format_args!(" {value}\n"));
}

fn histogram(
    out: &mut String,
    name: &str,
    label: Option<(&str, &str)>,
    snapshot: &HistogramSnapshot,
) {
    let bucket = format!("{name}_bucket");
    let mut le = |bound: &str, count: u64| {
        let labels: Vec<_> = label.into_iter().chain([("le", bound)]).collect();
        series(out, &bucket, &labels, &count.to_string());
    };
    for (bound, count) in HistogramSnapshot::bounds()
        .iter()
        .zip(snapshot.cumulative())
    {
        le(&text::millis(*bound).to_string(), count);
    }
    le("+Inf", snapshot.count());
    let sum = text::millis(snapshot.sum_micros).to_string();
    series(out, &format!("{name}_sum"), label.as_slice(), &sum);
    let count = snapshot.count().to_string();
    series(out, &format!("{name}_count"), label.as_slice(), &count);
}

/// Names come from configuration: none may end its label or line.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn append(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes every character");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use regex::Regex;

    use super::Selection;
    use super::render;
    use crate::telemetry::ResponseFlag;
    use crate::telemetry::stats::Registry;

    fn rendered(registry: &Registry, selection: &Selection) -> String {
        let mut out = String::new();
        render(registry, selection, &[("version", "1")], &mut out);
        out
    }

    fn filtered(registry: &Registry, filter: &str) -> String {
        let filter = Some(Regex::new(filter).expect("a pattern"));
        let used_only = false;
        let all = rendered(registry, &Selection { filter, used_only });
        all.lines().skip(3).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn names_and_labels_as_envoy() {
        let registry = Registry::new(1);
        let (a, b) = (registry.cluster("a.b\"\\\n"), registry.cluster("ok"));
        let http = registry.http("in");
        a.record_response(503);
        b.record_response(200);
        http.downstream_rq_flag()
            .record(ResponseFlag::NoRouteFound.into());
        assert_eq!(
            filtered(&registry, "upstream_rq$"),
            "# HELP envoy_cluster_upstream_rq Responses by status code.\n\
             # TYPE envoy_cluster_upstream_rq counter\n\
             envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"a.b\\\"\\\\\\n\"} 1\n\
             envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"ok\"} 1"
        );
        assert_eq!(
            filtered(&registry, "ok.upstream_rq_[25]xx"),
            "# HELP envoy_cluster_upstream_rq_xx Responses by class of status code.\n\
             # TYPE envoy_cluster_upstream_rq_xx counter\n\
             envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"ok\"} 1\n\
             envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"5\",envoy_cluster_name=\"ok\"} 0"
        );
        let flags = filtered(&registry, "downstream_rq_flag");
        let line = "envoy_http_downstream_rq_flag{response_flag=\"NR\",envoy_http_conn_manager_prefix=\"in\"} 1";
        assert!(flags.ends_with(line), "{flags}");
        let live = filtered(&registry, "^server.live");
        assert!(live.ends_with("envoy_server_live 0"), "{live}");
    }

    #[test]
    fn histograms_have_envoys_buckets_in_milliseconds() {
        let registry = Registry::new(1);
        let stats = registry.cluster("ok");
        stats
            .upstream_rq_time()
            .record(Duration::from_micros(101_500));
        let text = filtered(&registry, "upstream_rq_time");
        let line = |le: &str, count: u64| {
            let line = format!("_bucket{{envoy_cluster_name=\"ok\",le=\"{le}\"}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        };
        line("0.5", 0);
        line("100", 0);
        line("250", 1);
        line("3600000", 1);
        line("+Inf", 1);
        assert!(text.contains("upstream_rq_time_sum{envoy_cluster_name=\"ok\"} 101.5\n"));
        assert!(text.ends_with("upstream_rq_time_count{envoy_cluster_name=\"ok\"} 1"));
    }

    #[test]
    fn used_only_leaves_out_zeros() {
        let registry = Registry::new(1);
        let stats = registry.cluster("ok");
        stats.upstream_rq_total().inc();
        let filter = Some(Regex::new("^cluster").expect("a pattern"));
        let used_only = true;
        let text = rendered(&registry, &Selection { filter, used_only });
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).count(),
            2
        );
    }

    #[test]
    fn a_family_is_declared_once_and_no_series_twice() {
        let registry = Registry::new(2);
        let held = (
            registry.cluster("a"),
            registry.cluster("b"),
            registry.http("a"),
        );
        held.0.record_response(200);
        held.1.record_response(200);
        let text = rendered(&registry, &Selection::default());
        let mut seen = HashSet::new();
        let mut family = "";
        for line in text.lines() {
            let name = match line.strip_prefix("# TYPE ") {
                Some(declared) => {
                    family = declared.split(' ').next().expect("a name");
                    line
                }
                None => line.rsplit_once(' ').expect("a value").0,
            };
            assert!(seen.insert(name), "{name} twice");
            assert!(
                line.starts_with('#') || line.starts_with(family),
                "{line} outside {family}"
            );
        }
    }
}
