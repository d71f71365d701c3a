//! What was counted and what was written, play by play.
//!
//! One worker writes all of the log, so its lines are in the order of the plays, and as many belong to
//! each as requests and streams were counted in it.

use std::collections::BTreeSet;

use crate::settled::Stats;

/// Of each line.
pub(crate) const FORMAT: &str = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS%\n";

/// The flag of a client that left.
const LEFT: &str = "DC";

/// All plays, in order.
#[derive(Default)]
pub(crate) struct Ledger(Vec<Play>);

/// What had been counted, since the beginning, when a play was over.
struct Play {
    name: String,
    totals: Totals,
    /// The last id that was given to a request.
    last_id: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    /// Requests and streams.
    lines: u64,
    answered: u64,
    left: u64,
}

impl Totals {
    fn of(stats: &Stats) -> Self {
        let http = |end: &str| stats.sum("http.", end);
        let streams = stats.sum("tcp.", "downstream_cx_total");
        Self {
            lines: http("downstream_rq_total") + streams,
            answered: http("downstream_rq_completed"),
            left: http("downstream_rq_rx_reset"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            lines: self.lines - before.lines,
            answered: self.answered - before.answered,
            left: self.left - before.left,
        }
    }
}

impl Ledger {
    /// A play is over. What was asked to check the one before is part of it.
    pub(crate) fn note(&mut self, name: &str, settled: &Stats, last_id: u32) {
        self.0.push(Play {
            name: name.to_owned(),
            totals: Totals::of(settled),
            last_id,
        });
    }

    /// Compares it with the log. Returns how many lines there are.
    pub(crate) fn compare(&self, log: &str) -> Result<usize, String> {
        let mut lines = log.lines();
        let (mut before, mut last_id) = (Totals::default(), 0);
        for play in &self.0 {
            let counted = play.totals.since(before);
            let count = usize::try_from(counted.lines).unwrap_or(usize::MAX);
            let its: Vec<&str> = lines.by_ref().take(count).collect();
            let compared = compare(&its, counted, last_id + 1..=play.last_id);
            compared.map_err(|error| format!("the log of {}: {error}", play.name))?;
            (before, last_id) = (play.totals, play.last_id);
        }
        match lines.count() {
            0 => Ok(log.lines().count()),
            more => Err(format!("{more} lines of requests that nobody counted")),
        }
    }
}

fn compare(
    lines: &[&str],
    counted: Totals,
    ids: std::ops::RangeInclusive<u32>,
) -> Result<(), String> {
    let mut written = Totals {
        lines: lines.len() as u64,
        ..Totals::default()
    };
    let mut seen = BTreeSet::new();
    for line in lines {
        let mut words = line.split(' ');
        let (path, status, flags) = (words.next(), words.next(), words.next());
        written.answered += u64::from(status.is_some_and(|status| status != "0"));
        let Some(path) = path.filter(|path| *path != "-") else {
            continue; // a stream, or no request that could be read
        };
        let is_left = flags.is_some_and(|flags| flags.split(',').any(|flag| flag == LEFT));
        written.left += u64::from(is_left);
        let id = path.rsplit_once("/r").and_then(|(_, id)| id.parse().ok());
        if !id.is_some_and(|id| ids.contains(&id) && seen.insert(id)) {
            return Err(format!("{line:?} is there twice, or of another play"));
        }
    }
    if written != counted {
        return Err(format!("it says {written:?}, counted were {counted:?}"));
    }
    Ok(())
}
