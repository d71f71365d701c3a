//! The scenarios without traffic: memory per idle connection, memory at rest, time to start.

use std::time::Duration;

use tokio::time::sleep;

use super::contestant::Contestant;
use super::traffic::Stage;

/// Until allocators and timers of a proxy that just worked have come to rest.
const SETTLE: Duration = Duration::from_millis(300);

/// Connections that were open before the first reading.
const WARM: usize = 64;

/// Before the first reading of an idle proxy: what a start needed must not be given back between the
/// two readings.
const STARTED: Duration = Duration::from_millis(1_500);

/// Until a process is at rest: some give back what a start needed only after a while.
const REST: Duration = Duration::from_secs(3);

/// Bytes of proportional memory per connection that made one request and went silent.
pub(crate) async fn idle(
    stage: &Stage<'_>,
    contestant: Contestant,
    connections: usize,
) -> Result<f64, String> {
    let (mut running, _) = stage.start(contestant).await?;
    sleep(STARTED).await;
    // What serving needs besides connections, program text above all, is there before the first reading.
    let warm = stage.hold(running.listen.addr(), WARM).await;
    drop(warm.map_err(|error| error.to_string())?);
    sleep(SETTLE).await;
    let pss = |running: &mut super::contestant::Running| {
        let memory = running.process().memory();
        memory
            .map(|memory| memory.pss)
            .map_err(|error| error.to_string())
    };
    let empty = pss(&mut running)?;
    let held = stage.hold(running.listen.addr(), connections).await;
    let held = held.map_err(|error| error.to_string())?;
    sleep(SETTLE).await;
    let full = pss(&mut running)?;
    Ok((full as f64 - empty as f64) / held.len() as f64)
}

/// Resident bytes of a configured process that has answered once.
pub(crate) async fn rest(stage: &Stage<'_>, contestant: Contestant) -> Result<f64, String> {
    let (mut running, _) = stage.start(contestant).await?;
    sleep(REST).await;
    let memory = running
        .process()
        .memory()
        .map_err(|error| error.to_string())?;
    Ok(memory.rss as f64)
}

/// Milliseconds from starting the process to its first answer.
pub(crate) async fn start(stage: &Stage<'_>, contestant: Contestant) -> Result<f64, String> {
    let (_running, took) = stage.start(contestant).await?;
    Ok(took.as_secs_f64() * 1e3)
}
