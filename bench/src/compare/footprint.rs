//! The scenarios without traffic: memory per idle connection, memory at rest, time to start.

use std::time::Duration;

use tokio::time::sleep;

use super::contestant::Contestant;
use super::outcome::Hole;
use super::traffic::Stage;

/// Until allocators and timers of a proxy that just worked have come to rest.
const SETTLE: Duration = Duration::from_millis(300);

/// Connections that were open before the first reading.
const WARM: usize = 64;

/// Bytes of proportional memory per connection that made one request and went silent.
pub(crate) async fn idle(
    stage: &Stage<'_>,
    contestant: Contestant,
    connections: usize,
) -> Result<f64, Hole> {
    let (mut running, _) = stage.start(contestant).await?;
    // What a start needed must not be given back between the two readings.
    sleep(stage.timing.rest).await;
    // What serving needs besides connections, program text above all, is there before the first reading.
    let warm = stage.hold(running.listen.addr(), WARM).await;
    drop(warm.map_err(Hole::failed)?);
    sleep(SETTLE).await;
    let pss = |running: &mut super::contestant::Running| {
        let memory = running.process().memory();
        memory.map(|memory| memory.pss).map_err(Hole::failed)
    };
    let empty = pss(&mut running)?;
    let held = stage.hold(running.listen.addr(), connections).await;
    let held = held.map_err(Hole::failed)?;
    sleep(SETTLE).await;
    let full = pss(&mut running)?;
    Ok((full as f64 - empty as f64) / held.len() as f64)
}

/// Resident bytes of a configured process that has answered once.
pub(crate) async fn rest(stage: &Stage<'_>, contestant: Contestant) -> Result<f64, Hole> {
    let (mut running, _) = stage.start(contestant).await?;
    sleep(stage.timing.rest).await;
    let memory = running.process().memory().map_err(Hole::failed)?;
    Ok(memory.rss as f64)
}

/// Milliseconds from starting the process to its first answer.
pub(crate) async fn start(stage: &Stage<'_>, contestant: Contestant) -> Result<f64, Hole> {
    let (_running, took) = stage.start(contestant).await?;
    Ok(took.as_secs_f64() * 1e3)
}
