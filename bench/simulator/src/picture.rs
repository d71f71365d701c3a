//! Pictures: the share of hosts that change, over time, and the tail of every policy.

use bench::plot::{Chart, Panel, Series};

use crate::cell::{Cell, Run};
use crate::policy::Kind;
use crate::report::Row;

/// As many as there are colors, in the order of the legend.
const SHOWN: [Kind; 8] = [
    Kind::RoundRobin,
    Kind::LeastRequest,
    Kind::PeakEwma,
    Kind::Linkerd,
    Kind::C3,
    Kind::Prequal,
    Kind::Orca,
    Kind::Weir,
];

/// Names and documents.
pub(crate) fn pictures(rows: &[Row], seeds: u64) -> Vec<(String, String)> {
    let mut all = vec![("tail.svg".to_owned(), tail(rows, seeds).to_svg())];
    let changing = rows.iter().filter(|row| row.scenario.trouble().is_some());
    all.extend(changing.map(|row| {
        let name = format!("share-{}.svg", row.scenario.name);
        (name, share(row).to_svg())
    }));
    all
}

fn shown(row: &Row) -> impl Iterator<Item = &Cell> {
    let cell = |kind: Kind| row.cells.iter().find(move |cell| cell.kind == kind);
    SHOWN.into_iter().filter_map(cell)
}

/// Of the first seed.
fn share(row: &Row) -> Chart {
    let series = shown(row).map(|cell| {
        let shares = cell.runs.first().map(|run| run.shares.as_slice());
        let shares = shares.unwrap_or_default().iter().enumerate();
        Series {
            name: cell.kind.name().to_owned(),
            points: shares
                .map(|(second, share)| (second as f64, share * 100.0))
                .collect(),
        }
    });
    Chart {
        title: format!("{}: {}", row.scenario.name, row.scenario.title),
        subtitle: "share of the hosts that change, one seed; none is not drawn".to_owned(),
        x_label: "seconds".to_owned(),
        y_label: "% of requests".to_owned(),
        panels: vec![Panel {
            title: "share".to_owned(),
            series: series.collect(),
        }],
    }
}

fn tail(rows: &[Row], seeds: u64) -> Chart {
    let names: Vec<&str> = rows.iter().map(|row| row.scenario.name).collect();
    let panel = |title: &str, value: fn(&Run) -> f64| {
        let series = SHOWN.into_iter().chain([Kind::Oracle]).map(|kind| {
            let cells = rows.iter().enumerate().filter_map(|(place, row)| {
                let cell = row.cells.iter().find(|cell| cell.kind == kind)?;
                Some((place as f64 + 1.0, cell.median(value).0))
            });
            Series {
                name: kind.name().to_owned(),
                points: cells.collect(),
            }
        });
        Panel {
            title: title.to_owned(),
            series: series.collect(),
        }
    };
    Chart {
        title: format!("tail by policy, medians of {seeds} seeds"),
        subtitle: format!("scenarios from left to right: {}", names.join(", ")),
        x_label: "scenario".to_owned(),
        y_label: "ms".to_owned(),
        panels: vec![panel("p99", |run| run.p99), panel("p99.9", |run| run.p999)],
    }
}
