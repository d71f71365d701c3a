//! Every transcript, every kind of break, every call.

use std::io::Write;

use tokio::time::Instant;

use crate::shim::BREAKS;
use crate::shim::Break;
use crate::soon;
use crate::transcripts;
use crate::transcripts::Transcript;
use crate::world::World;

/// Of the calls of a transcript every so manieth is broken, another one for each kind and transcript.
const STEP: u64 = 7;

/// A transcript has that many at most, however the machine divides what comes.
const CALLS_MAX: u64 = 2000;

/// Failures told of one sweep.
const TOLD_MAX: usize = 10;

// On one thread: hyper never answers a request that is queued while another thread ends its connection.
#[tokio::test]
async fn s05_whichever_call_breaks_nothing_is_left() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let extent = Extent::wanted();
    let mut sweep = Sweep::new(extent.step);
    let mut played = 0;
    for (place, transcript) in transcripts::ALL.iter().enumerate() {
        if !extent.has(place) {
            continue;
        }
        played += 1;
        let (began, before) = (Instant::now(), sweep.broken);
        Box::pin(sweep.clean(&mut world, transcript)).await;
        for what in BREAKS {
            Box::pin(sweep.all(&mut world, (place, transcript), what)).await;
        }
        if extent.step == 1 {
            let broken = sweep.broken - before;
            let took = began.elapsed();
            tell(&format!("{}: {broken} calls, {took:?}", transcript.name()));
        }
    }
    assert!(sweep.failures.is_empty(), "{}", sweep.failures.join("\n"));
    let logged = world.check_log().await;
    assert!(
        logged.as_ref().is_ok_and(|lines| *lines > played),
        "{logged:?}"
    );
    assert!(sweep.broken > 3 * played as u64, "{}", sweep.broken);
    tell(&format!("{} calls were broken", sweep.broken));
}

/// How much of it is done.
struct Extent {
    step: u64,
    /// Which part of the transcripts, of how many.
    part: (usize, usize),
}

impl Extent {
    fn wanted() -> Self {
        let Ok(wanted) = std::env::var("WEIR_FULL") else {
            let (step, part) = (STEP, (0, 1));
            return Self { step, part };
        };
        let part = wanted.split_once('/').and_then(|(part, parts)| {
            let (part, parts): (usize, usize) = (part.parse().ok()?, parts.parse().ok()?);
            (1..=parts).contains(&part).then(|| (part - 1, parts))
        });
        let part = part.unwrap_or((0, 1));
        Self { step: 1, part }
    }

    fn has(&self, place: usize) -> bool {
        place * self.part.1 / transcripts::ALL.len() == self.part.0
    }
}

/// What was seen.
struct Sweep {
    step: u64,
    broken: u64,
    failures: Vec<String>,
}

impl Sweep {
    fn new(step: u64) -> Self {
        Self {
            step,
            broken: 0,
            failures: Vec::new(),
        }
    }

    /// Nothing breaks, so all is well; otherwise nothing would be seen.
    async fn clean(&mut self, world: &mut World, transcript: &Transcript) {
        let played = soon(transcript.play(world, true)).await;
        let played = played.unwrap_or_else(|| Err("it hangs".to_owned()));
        let checked = match world.settle().await {
            Ok(settled) => world.check(&transcript.name(), &settled).await,
            Err(error) => Err(error),
        };
        if let Err(error) = played.and(checked) {
            self.fail(format!("{}: {error}", transcript.name()));
        }
    }

    async fn all(
        &mut self,
        world: &mut World,
        (place, transcript): (usize, &Transcript),
        what: Break,
    ) {
        let mut call = 1 + (place as u64 + what as u64) % self.step;
        while call < CALLS_MAX && self.failures.len() < TOLD_MAX {
            let name = format!("{}, call {call} {what:?}", transcript.name());
            world.shim.arm(call, what);
            let played = soon(transcript.play(world, false)).await;
            // What is done once a client has left is broken, too.
            let settled = world.settle().await;
            let done = world.shim.disarm();
            let checked = match settled {
                Ok(settled) => world.check(&name, &settled).await,
                Err(error) => Err(error),
            };
            let played = played.unwrap_or_else(|| Err("it hangs".to_owned()));
            if let Err(error) = played.and(checked) {
                self.fail(format!("{name} (number {}): {error}", done.call));
            }
            self.broken += u64::from(done.broken);
            if !done.reached {
                return;
            }
            call += self.step;
        }
    }

    fn fail(&mut self, failure: String) {
        tell(&failure);
        self.failures.push(failure);
    }
}

/// At once, because a sweep with failures takes long.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
