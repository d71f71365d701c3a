//! From one condition of the tenth member to the next, second by second.

use std::time::Duration;

use bench::load::{Counters, Load, Window};
use bench::stats;

use super::site::Member;
use super::{Kind, MEMBERS};

/// Until weights are what they will be.
const WARM_UP: Duration = Duration::from_secs(5);

/// Some thousand answers, of which one in a hundred is a few dozen.
const WINDOW: Duration = Duration::from_secs(5);

const SECOND: Duration = Duration::from_secs(1);

/// While nothing changes.
const STEADY: usize = 10;

/// After a change: the promise holds from the fifth second on, or from the tenth.
const LEAVES: usize = 10;
const RETURNS: usize = 15;

/// The promise: what a member in trouble gets, from five seconds after it got there.
const LEFT_AFTER: usize = 5;

/// The promise: the part of its fair share that it has, ten seconds after it healed.
const BACK_AFTER: usize = 10;
const BACK_MIN: f64 = 0.8;

/// The promise: how much its share of a second deviates while nothing changes, half of a fair one. The bound
/// under load, without the noise of a machine, is that of the unit tests (`swing_tests` of the proxy).
const SWING_MAX: f64 = FAIR / 2.0;

/// The promise: the 99th percentile over that without the slow member.
const P99_MAX: f64 = 1.3;

const FAIR: f64 = 1.0 / (MEMBERS + 1) as f64;

/// Requests of the tenth member and of its cluster, in one second.
type Second = (u64, u64);

/// All conditions in turn; the promises that were broken, of which the formula alone has none.
pub(super) async fn walk(
    (kind, is_plain): (Kind, bool),
    [nine, ten]: &[Load; 2],
    tenth: &Member,
    windows: usize,
) -> Result<Vec<String>, String> {
    let mut broken = Vec::new();
    let mut promise = |kept: bool, sentence: String| {
        let word = match (kept, is_plain) {
            (true, false) => "kept:  ",
            (false, false) => "BROKEN:",
            (true, true) => "so too:",
            (false, true) => "not so:",
        };
        println!("  {word} {sentence}");
        if !kept {
            broken.push(format!("{}: {sentence}", kind.title()));
        }
    };
    let _ = ten.window(WARM_UP).await;
    let (swing, by_chance) = swing(&seconds(ten, tenth, STEADY).await);
    promise(
        swing <= SWING_MAX,
        format!(
            "like the others its share of a second deviates by {:.2} % of all, at most {:.0} %; by chance {:.2} %",
            swing * 100.0,
            SWING_MAX * 100.0,
            by_chance * 100.0
        ),
    );

    tenth.set_slow(true);
    let leaves = seconds(ten, tenth, LEAVES).await;
    let share = share(&leaves[LEFT_AFTER..]);
    promise(
        share <= kind.left_max(),
        left("ten times slower", kind, &leaves),
    );
    let windows = watch([nine, ten], windows).await;
    let p99 = tails(&windows);
    promise(
        p99 <= P99_MAX,
        format!("its cluster's p99 is {p99:.3} of that without it, at most {P99_MAX}"),
    );

    tenth.set_slow(false);
    let returns = seconds(ten, tenth, RETURNS).await;
    let share = self::share(&returns[BACK_AFTER..]) / FAIR;
    let back = (0..RETURNS).find(|from| self::share(&returns[*from..]) >= BACK_MIN * FAIR);
    promise(
        share >= BACK_MIN,
        format!(
            "healed, it has {:.0} % of its fair share after {BACK_AFTER} s; 80 % or more {}",
            share * 100.0,
            from_second(back)
        ),
    );
    // What fails is no failure of the load, but only from here on.
    if let Some(failure) = [nine, ten].iter().find_map(|load| load.first_failure()) {
        return Err(failure);
    }
    if kind != Kind::Tcp {
        tenth.fail();
        let fails = seconds(ten, tenth, LEAVES).await;
        let share = self::share(&fails[LEFT_AFTER..]);
        promise(
            share <= kind.left_max(),
            left("failing in 1 ms", kind, &fails),
        );
    }
    Ok(broken)
}

impl Kind {
    /// Of a stream nobody sees the end of an answer.
    fn left_max(self) -> f64 {
        match self {
            Self::Http | Self::Grpc => 0.02,
            Self::Tcp => 0.03,
        }
    }
}

fn left(condition: &str, kind: Kind, seconds: &[Second]) -> String {
    let most = kind.left_max();
    let is_left = |from: &usize| {
        seconds[*from..]
            .iter()
            .all(|second| share(&[*second]) <= most)
    };
    format!(
        "{condition}, it gets {:.2} % after {LEFT_AFTER} s; {:.0} % or less in each second {}",
        share(&seconds[LEFT_AFTER..]) * 100.0,
        most * 100.0,
        from_second((0..seconds.len()).find(is_left))
    )
}

fn from_second(number: Option<usize>) -> String {
    match number {
        None => "never".to_owned(),
        Some(number) => format!("from {number} s on"),
    }
}

async fn seconds(ten: &Load, tenth: &Member, count: usize) -> Vec<Second> {
    let now = || (tenth.asked(), ended(&ten.counters()));
    let mut seconds = Vec::new();
    for _ in 0..count {
        let before = now();
        tokio::time::sleep(SECOND).await;
        let after = now();
        seconds.push((after.0 - before.0, after.1 - before.1));
    }
    seconds
}

fn ended(counters: &Counters) -> u64 {
    counters.completed + counters.refused + counters.failed
}

fn share(seconds: &[Second]) -> f64 {
    let own: u64 = seconds.iter().map(|(own, _)| own).sum();
    let all: u64 = seconds.iter().map(|(_, all)| all).sum();
    own as f64 / all.max(1) as f64
}

/// The standard deviation of the share of a second, and that of as many independent draws.
fn swing(seconds: &[Second]) -> (f64, f64) {
    let mean = share(seconds);
    let squares = seconds
        .iter()
        .map(|second| (share(&[*second]) - mean).powi(2));
    let found = (squares.sum::<f64>() / (seconds.len().max(2) - 1) as f64).sqrt();
    let variances = seconds
        .iter()
        .map(|(_, all)| mean * (1.0 - mean) / (*all).max(1) as f64);
    let by_chance = (variances.sum::<f64>() / seconds.len().max(1) as f64).sqrt();
    (found, by_chance)
}

/// Of both clusters, at the same time.
async fn watch([nine, ten]: [&Load; 2], windows: usize) -> Vec<(Window, Window)> {
    let mut seen = Vec::new();
    for _ in 0..windows {
        seen.push(tokio::join!(nine.window(WINDOW), ten.window(WINDOW)));
    }
    seen
}

/// Prints how they compare; the ratio at the 99th percentile.
fn tails(windows: &[(Window, Window)]) -> f64 {
    let mut p99 = f64::INFINITY;
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let of = |which: fn(&(Window, Window)) -> &Window| -> Vec<f64> {
            let each = windows.iter().map(|both| which(both).latency_us(quantile));
            each.collect()
        };
        let (without, with) = (of(|both| &both.0), of(|both| &both.1));
        let Some(ratio) = stats::ratio_interval(&with, &without, 1) else {
            continue;
        };
        if quantile == 0.99 {
            p99 = ratio.ratio;
        }
        let median = |values: &[f64]| stats::median(values).unwrap_or(f64::NAN) / 1e3;
        println!(
            "  {name:<6} with the slow member {:.1} ms, without {:.1} ms: {:.3} [{:.3}, {:.3}] over {} windows",
            median(&with),
            median(&without),
            ratio.ratio,
            ratio.low,
            ratio.high,
            ratio.blocks
        );
    }
    p99
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_in_seconds_is_told() {
        let seconds = [
            (30, 1_000),
            (25, 1_000),
            (19, 1_000),
            (21, 1_000),
            (10, 1_000),
        ];
        let seconds = [seconds.as_slice(), &[(0, 1_000); 5]].concat();
        let text = left("slow", Kind::Http, &seconds);
        assert_eq!(
            text,
            "slow, it gets 0.00 % after 5 s; 2 % or less in each second from 4 s on"
        );
        assert!(left("slow", Kind::Http, &[(30, 1_000); 10]).ends_with("never"));
        let (found, by_chance) = swing(&[(90, 1_000), (110, 1_000)]);
        assert!((found - 0.0002_f64.sqrt()).abs() < 1e-12, "{found}");
        assert!((by_chance - (0.09_f64 / 1_000.0).sqrt()).abs() < 1e-12);
    }
}
