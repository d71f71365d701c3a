//! Every transcript, every kind of break, every call.

use std::io::Write;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s05_whichever_call_breaks_nothing_is_left() {
    let Some(mut world) = World::start().await else {
        return;
    };
    let mut sweep = Sweep::default();
    for (place, transcript) in transcripts::ALL.iter().enumerate() {
        Box::pin(sweep.clean(&mut world, transcript)).await;
        for what in BREAKS {
            Box::pin(sweep.all(&mut world, (place, transcript), what)).await;
        }
    }
    assert!(sweep.failures.is_empty(), "{}", sweep.failures.join("\n"));
    let logged = world.check_log().await;
    assert!(
        logged
            .as_ref()
            .is_ok_and(|lines| *lines > transcripts::ALL.len()),
        "{logged:?}"
    );
    assert!(
        sweep.broken > 3 * transcripts::ALL.len() as u64,
        "{}",
        sweep.broken
    );
}

/// What was seen.
#[derive(Default)]
struct Sweep {
    broken: u64,
    failures: Vec<String>,
}

impl Sweep {
    /// Nothing breaks, so all is well; otherwise nothing would be seen.
    async fn clean(&mut self, world: &mut World, transcript: &Transcript) {
        let played = soon(transcript.play(world, true)).await;
        let played = played.unwrap_or_else(|| Err("it hangs".to_owned()));
        let checked = world.check().await;
        if let Err(error) = played.and(checked) {
            self.tell(format!("{}: {error}", transcript.name()));
        }
    }

    async fn all(
        &mut self,
        world: &mut World,
        (place, transcript): (usize, &Transcript),
        what: Break,
    ) {
        let step = if std::env::var_os("WEIR_FULL").is_some() {
            1
        } else {
            STEP
        };
        let mut call = 1 + (place as u64 + what as u64) % step;
        while call < CALLS_MAX && self.failures.len() < TOLD_MAX {
            world.shim.arm(call, what);
            let played = soon(transcript.play(world, false)).await;
            let done = world.shim.disarm();
            let checked = world.check().await;
            let played = played.unwrap_or_else(|| Err("it hangs".to_owned()));
            if let Err(error) = played.and(checked) {
                let number = done.call;
                let name = transcript.name();
                self.tell(format!(
                    "{name}, call {call} (number {number}) {what:?}: {error}"
                ));
            }
            self.broken += u64::from(done.broken);
            if !done.reached {
                return;
            }
            call += step;
        }
    }

    fn tell(&mut self, failure: String) {
        // At once, because a sweep with failures takes long.
        let _ = writeln!(std::io::stderr(), "{failure}");
        self.failures.push(failure);
    }
}
