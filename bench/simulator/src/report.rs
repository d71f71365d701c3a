//! The table, and the same as JSON.

use serde_json::{Value, json};

use crate::cell::Cell;
use crate::scenario::Scenario;
use crate::verdict::Verdict;

/// One scenario with all its cells.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) cells: Vec<Cell>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Over the columns.
pub(crate) const HEAD: &str = "             p50 ms  p99 ms [95 %]            p99.9 ms [95 %]            failed  \
     share: swing (chance)  left  back";

impl Row {
    pub(crate) fn text(&self) -> String {
        let title = format!("{}: {}", self.scenario.name, self.scenario.title);
        let cells = self.cells.iter().map(|cell| line(&self.scenario, cell));
        let verdicts = self.verdicts.iter().map(|verdict| {
            let (word, rule) = (verdict.word(), &verdict.rule);
            format!("  {word}: {rule}: {}", verdict.found)
        });
        let lines: Vec<String> = [title].into_iter().chain(cells).chain(verdicts).collect();
        lines.join("\n")
    }

    pub(crate) fn json(&self) -> Value {
        let verdict = |verdict: &Verdict| {
            json!({
                "rule": verdict.rule,
                "found": verdict.found,
                "met": verdict.met,
                "within_the_noise": verdict.is_close,
            })
        };
        json!({
            "name": self.scenario.name,
            "title": self.scenario.title,
            "policies": self.cells.iter().map(cell_json).collect::<Vec<Value>>(),
            "verdicts": self.verdicts.iter().map(verdict).collect::<Vec<Value>>(),
        })
    }
}

fn line(scenario: &Scenario, cell: &Cell) -> String {
    let with_interval = |(value, low, high): (f64, f64, f64)| {
        format!("{} [{}, {}]", short(value), short(low), short(high))
    };
    let (failed, ..) = cell.median(|run| run.failed);
    let shares = cell.each(|run| run.shares.iter().sum());
    // The oracle picks nobody: its hosts come for their work.
    let has_shares = shares.iter().sum::<f64>() > 0.0;
    let (swing, ..) = cell.median(|run| run.swing.0 * 100.0);
    let (by_chance, ..) = cell.median(|run| run.swing.1 * 100.0);
    let swings = match has_shares {
        true => format!("{swing:.2} % ({by_chance:.2} %)"),
        false => String::new(),
    };
    let is_told = has_shares && scenario.trouble().is_some();
    let seconds = |value: Option<usize>| match (is_told, value) {
        (false, _) => String::new(),
        (true, None) => "never".to_owned(),
        (true, Some(seconds)) => format!("{seconds} s"),
    };
    let line = format!(
        "  {:<11}{:>6}  {:<25} {:<25} {:>6.2} %  {:<21} {:>5} {:>5}",
        cell.kind.name(),
        short(cell.median(|run| run.p50).0),
        with_interval(cell.median(|run| run.p99)),
        with_interval(cell.median(|run| run.p999)),
        failed * 100.0,
        swings,
        seconds(cell.slowest(|run| run.left)),
        seconds(cell.slowest(|run| run.back)),
    );
    line.trim_end().to_owned()
}

/// Three digits are enough.
fn short(value: f64) -> String {
    match value {
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn cell_json(cell: &Cell) -> Value {
    let runs = cell.runs.iter().map(|run| {
        json!({
            "p50_ms": run.p50,
            "p99_ms": run.p99,
            "p999_ms": run.p999,
            "failed": run.failed,
            "shares": run.shares,
            "swing": run.swing.0,
            "swing_by_chance": run.swing.1,
            "left_s": run.left,
            "back_s": run.back,
        })
    });
    json!({ "name": cell.kind.name(), "seeds": runs.collect::<Vec<Value>>() })
}
