//! Certificates rotated under load: `weir control-plane` serves them by SDS, a fixed rate of requests
//! goes through the proxy with certificates of both ends on both sides.
//!
//! Two parts. In the first, windows in which a leaf is replaced alternate with windows in which one is that
//! nobody uses (A B B A; the handshakes that look for a new leaf are made in both), once in each window or as
//! often as is asked for, and the tails are compared. In the second, leafs that live 15 s are replaced each second and the root once, first
//! believed beside the old one and then alone. Whatever part: no request may fail, a new handshake
//! shows the new leaf soon, no connection outlives a certificate.

mod site;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::certificates::{Root, ShortLeaf};
use bench::load::{Load, Pace, Plan, Protocol, RequestShape, Window};
use bench::stats;
use bench::{Transport, stats::RatioInterval};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::host::Facts;
use super::{report, session};
use site::Site;
use watch::Watchers;

/// Clients that keep their connections.
const CONNECTIONS: usize = 32;

/// Between two rotations of the second part.
const PERIOD: Duration = Duration::from_secs(1);

/// A window of the first part.
const WINDOW_SECONDS: u64 = 5;

/// Until connections to everybody stand and the first latencies are gone.
const WARM_UP: Duration = Duration::from_secs(2);

/// A leaf of the second part lives so long, so that connections have to make way for its end.
const SHORT_LIFE: Duration = Duration::from_secs(15);

/// A leaf of the first part outlives it.
const LONG_LIFE: Duration = Duration::from_secs(3_600);

/// How long a new leaf may take to be shown before the measurement gives up.
const SWAP_LIMIT: Duration = Duration::from_secs(10);

/// From the file to a whole handshake with the new leaf.
const SWAP_GOAL: Duration = Duration::from_millis(100);

/// How long a connection is waited for after its certificate's end, to say by how much it outlived it.
const LATE_MAX: Duration = Duration::from_secs(3);

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct RotationOptions {
    /// Requests per second.
    pub(crate) rate: f64,
    /// Of each part.
    pub(crate) seconds: u64,
    /// Rotations in a window of the first part.
    pub(crate) times: u32,
    pub(crate) weir: Option<PathBuf>,
    pub(crate) no_namespace: bool,
}

/// Measures both parts; exit code 1 if a promise is broken.
pub(crate) fn main(options: &RotationOptions) -> ExitCode {
    session::measure(
        options.weir.as_deref(),
        options.no_namespace,
        async |facts| Box::pin(rotation(options, facts)).await,
    )
}

async fn rotation(options: &RotationOptions, facts: &Facts) -> Result<(), String> {
    report::print_facts(facts);
    let mut site = Site::new(facts.proxy_core, options.weir.as_deref())?;
    let first = site.leaf(Root::Old, LONG_LIFE)?;
    site.show(&first, &[Root::Old])?;
    site.start().await?;
    let mut promises = Promises::default();
    let load = start(&site, options.rate).await?;
    let tails = compare_tails(&site, &load, options, &mut promises).await?;
    promises.end(load).await;
    tails.print();
    site.show(&site.leaf(Root::Old, SHORT_LIFE)?, &[Root::Old])?;
    let load = start(&site, options.rate).await?;
    let watchers = roll_the_root(&site, &load, options.seconds, &mut promises).await?;
    // The last leaf ends after this, and is replaced by none.
    promises.end(load).await;
    promises.outlived_seconds = watchers.ended(SHORT_LIFE + LATE_MAX).await;
    promises.judge()
}

async fn start(site: &Site, rate: f64) -> Result<Load, String> {
    let load = Load::start(plan(site, rate)?).await;
    let load = load.map_err(|error| error.to_string())?;
    let _ = load.window(WARM_UP).await;
    Ok(load)
}

fn plan(site: &Site, rate: f64) -> Result<Plan, String> {
    Ok(Plan {
        target: site.target(),
        protocol: Protocol::Http1,
        transport: Transport::Tls(site.client()?),
        request: RequestShape::default(),
        connections: CONNECTIONS,
        pace: Pace::Open { rate, seed: 1 },
    })
}

/// What is promised about every rotation.
#[derive(Debug, Default)]
struct Promises {
    requests: u64,
    failed: u64,
    failure: Option<String>,
    swaps: Vec<Duration>,
    /// By how much connections that were watched outlived a certificate; negative when they did not.
    outlived_seconds: Vec<f64>,
}

impl Promises {
    async fn end(&mut self, load: Load) {
        let counted = load.counters();
        self.failure = self.failure.take().or_else(|| load.first_failure());
        self.requests += counted.completed;
        self.failed += counted.failed + counted.refused;
        load.stop().await;
    }

    fn judge(&self) -> Result<(), String> {
        let mut swaps = self.swaps.clone();
        swaps.sort();
        let millis =
            |swap: Option<&Duration>| swap.map_or(f64::NAN, |swap| swap.as_secs_f64() * 1e3);
        let median = swaps.get(swaps.len() / 2);
        println!(
            "{} requests, {} failed; {} leafs, handshakes showed the new one that began after {:.1} ms \
             (median), {:.1} ms (slowest)",
            self.requests,
            self.failed,
            swaps.len(),
            millis(median),
            millis(swaps.last()),
        );
        let longest = self
            .outlived_seconds
            .iter()
            .copied()
            .fold(f64::NAN, f64::max);
        println!(
            "{} idle connections watched: the last was ended {:.1} s before its certificate",
            self.outlived_seconds.len(),
            -longest
        );
        if self.failed > 0 {
            let first = self.failure.as_deref().unwrap_or("a status");
            return Err(format!(
                "{} requests failed; the first: {first}",
                self.failed
            ));
        }
        if median.is_none_or(|median| *median > SWAP_GOAL) {
            return Err(format!("the new leaf is not shown within {SWAP_GOAL:?}"));
        }
        if longest.is_nan() || longest > 0.0 {
            return Err("a connection outlived its certificate".to_owned());
        }
        Ok(())
    }
}

/// Tails of windows with and without rotation.
#[derive(Debug, Default)]
struct Tails {
    rotating: Vec<Window>,
    still: Vec<Window>,
}

/// A quantile of latency, with its name.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

impl Tails {
    fn ratio(&self, quantile: f64) -> Option<RatioInterval> {
        let of = |windows: &[Window]| -> Vec<f64> {
            let each = windows.iter().map(|window| window.latency_us(quantile));
            each.collect()
        };
        stats::ratio_interval(&of(&self.rotating), &of(&self.still), 1)
    }

    fn print(&self) {
        for (name, quantile) in QUANTILES {
            let median = |windows: &[Window]| {
                let each = windows.iter().map(|window| window.latency_us(quantile));
                stats::median(&each.collect::<Vec<f64>>()).unwrap_or(f64::NAN)
            };
            let (rotating, still) = (median(&self.rotating), median(&self.still));
            let Some(ratio) = self.ratio(quantile) else {
                continue;
            };
            println!(
                "{name:<6} rotating {rotating:.0} us, still {still:.0} us: {:.3} [{:.3}, {:.3}] over \
                 {} pairs of windows",
                ratio.ratio, ratio.low, ratio.high, ratio.blocks
            );
        }
    }
}

async fn compare_tails(
    site: &Site,
    load: &Load,
    &RotationOptions { seconds, times, .. }: &RotationOptions,
    promises: &mut Promises,
) -> Result<Tails, String> {
    let mut tails = Tails::default();
    // As many as the last rotation took.
    let mut handshakes = 1;
    for at in 0..seconds.div_ceil(WINDOW_SECONDS) {
        let window = load.window(Duration::from_secs(WINDOW_SECONDS));
        // A B B A: a drift of the machine cancels.
        if matches!(at % 4, 0 | 3) {
            let (seen, swaps) = tokio::join!(window, rotate(site, times));
            let swaps = swaps?;
            handshakes = swaps.last().map_or(1, |swap| swap.handshakes);
            promises.swaps.extend(swaps.iter().map(|swap| swap.took));
            tails.rotating.push(seen);
        } else {
            let (seen, idled) = tokio::join!(window, pretend(site, (times, handshakes)));
            idled?;
            tails.still.push(seen);
        }
    }
    let pairs = tails.rotating.len().min(tails.still.len());
    tails.rotating.truncate(pairs);
    tails.still.truncate(pairs);
    Ok(tails)
}

/// Rotations of a window.
async fn rotate(site: &Site, times: u32) -> Result<Vec<Swap>, String> {
    let mut due = due(Duration::from_secs(WINDOW_SECONDS) / times);
    let mut swaps = Vec::new();
    for _ in 0..times {
        due.tick().await;
        let leaf = site.leaf(Root::Old, LONG_LIFE)?;
        swaps.push(swap(site, &leaf, &[Root::Old]).await?);
    }
    Ok(swaps)
}

/// What a rotation asks of everybody but the proxy, and of the proxy besides: a key, a file that the
/// control plane reads, and handshakes.
async fn pretend(site: &Site, (times, handshakes): (u32, u32)) -> Result<(), String> {
    let mut due = due(Duration::from_secs(WINDOW_SECONDS) / times);
    for _ in 0..times {
        due.tick().await;
        site.replace_unused(&site.leaf(Root::Old, LONG_LIFE)?)?;
        for _ in 0..handshakes {
            site.connect().await?;
        }
    }
    Ok(())
}

/// The old root signs, then it signs and the new one is believed as well, then the new one signs, and
/// at last the old one is believed no more: a quarter of the time each.
async fn roll_the_root(
    site: &Site,
    load: &Load,
    seconds: u64,
    promises: &mut Promises,
) -> Result<Watchers, String> {
    let before = load.counters().connections;
    let mut watchers = Watchers::default();
    let mut due = due(PERIOD);
    for at in 0..seconds {
        due.tick().await;
        let (signs, believed): (Root, &[Root]) = match at * 4 / seconds {
            0 => (Root::Old, &[Root::Old]),
            1 => (Root::Old, &[Root::Old, Root::New]),
            2 => (Root::New, &[Root::Old, Root::New]),
            _ => (Root::New, &[Root::New]),
        };
        let leaf = site.leaf(signs, SHORT_LIFE)?;
        let swap = swap(site, &leaf, believed).await?;
        promises.swaps.push(swap.took);
        watchers.add(site, leaf.ends).await?;
    }
    let made = load.counters().connections - before;
    println!("the root was replaced; {made} connections were made by {CONNECTIONS} clients");
    Ok(watchers)
}

/// Ticks from now on, none of them early after a late one.
fn due(period: Duration) -> tokio::time::Interval {
    let mut due = interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

/// How long a rotation took, and how often it was looked for.
#[derive(Clone, Copy, Debug)]
struct Swap {
    took: Duration,
    handshakes: u32,
}

/// Replaces the leaf, and looks how long after that the first handshake began that saw it.
async fn swap(site: &Site, leaf: &ShortLeaf, believed: &[Root]) -> Result<Swap, String> {
    let began = Instant::now();
    site.show(leaf, believed)?;
    let mut handshakes = 0;
    let seen = async {
        loop {
            handshakes += 1;
            let took = began.elapsed();
            if watch::leaf_of(&site.connect().await?)? == leaf.der() {
                return Ok::<_, String>(took);
            }
        }
    };
    let seen = timeout(SWAP_LIMIT, seen).await;
    let took = seen.map_err(|_| format!("the new leaf is not shown within {SWAP_LIMIT:?}"))??;
    Ok(Swap { took, handshakes })
}
