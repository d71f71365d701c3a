//! One member of a cluster changes among very many: from the moment its file is moved into place
//! until a request arrives at the new address.
//!
//! Envoy and Weir follow the same control plane (`weir control-plane`) by delta ADS, one file per
//! cluster; its time is part of the value, for both alike.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bench::Transport;
use bench::load::{Load, Pace, Plan, Protocol, RequestShape};
use bench::origin::{FixedOptions, FixedOrigin};
use bench::peer::Weir;
use bench::peer::template::render;
use bench::ports::ReservedPort;
use bench::process::Process;
use bench::stats;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::contestant::{Contestant, Running, Site};
use super::outcome::Hole;
use super::scenario::MEMBERS;
use super::traffic::Stage;

/// Requests that ask where the member is: the value is exact to half of their distance.
const PROBES_PER_SECOND: f64 = 2_000.0;

/// Changes per started process; their median counts.
const CHANGES: usize = 5;

/// How long a change may take.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// Between two changes, so that nobody is still busy with the one before.
const REST: Duration = Duration::from_millis(200);

/// Between two looks at the new origin.
const LOOK: Duration = Duration::from_micros(100);

/// A control plane, its files and the two addresses.
struct World {
    resources: TempDir,
    control_plane: Process,
    port: ReservedPort,
    origins: [FixedOrigin; 2],
}

/// Milliseconds until traffic moves.
pub(super) async fn change(
    stage: &Stage<'_>,
    contestant: Contestant,
    clusters: usize,
) -> Result<f64, Hole> {
    let world = World::new(clusters, stage.site.weir.as_deref());
    let mut world = world.map_err(|error| Hole::absent(format!("no control plane: {error}")))?;
    let listens = world
        .control_plane
        .wait_for_port(world.port.addr(), CHANGE_LIMIT);
    listens.await.map_err(Hole::failed)?;
    let mut site = Site {
        origin: 0,
        ..stage.site.clone()
    };
    let port = world.port.number().to_string();
    site.values.push(("control_plane", port));
    let (running, _) = stage.start_at(contestant, &site).await?;
    let load = Load::start(probes(&running)).await;
    let load = load.map_err(Hole::failed)?;
    let mut values = Vec::new();
    for at in 1..=CHANGES {
        sleep(REST).await;
        let moved = timeout(CHANGE_LIMIT, world.move_to(at % 2)).await;
        let moved =
            moved.map_err(|_| Hole::failed(format!("no traffic moved within {CHANGE_LIMIT:?}")))?;
        let took = moved.map_err(|error| Hole::failed(format!("cannot change a file: {error}")))?;
        values.push(took.as_secs_f64() * 1e3);
    }
    load.stop().await;
    stats::median(&values).ok_or_else(|| Hole::failed("no change was measured"))
}

fn probes(running: &Running) -> Plan {
    Plan {
        target: running.listen.addr(),
        protocol: Protocol::Http1,
        transport: Transport::Plain,
        request: RequestShape::default(),
        connections: 4,
        pace: Pace::Open {
            rate: PROBES_PER_SECOND,
            seed: 1,
        },
    }
}

impl World {
    fn new(clusters: usize, weir: Option<&Path>) -> io::Result<Self> {
        let program = Weir::locate_cli(weir).map_err(io::Error::other)?;
        let origin = || FixedOrigin::start(&FixedOptions::default());
        let origins = [origin()?, origin()?];
        let resources = tempfile::tempdir()?;
        write_resources(resources.path(), clusters)?;
        write_moving(resources.path(), origins[0].addr().port())?;
        let port = ReservedPort::new()?;
        let control_plane = start_control_plane(program, resources.path(), &port)?;
        Ok(Self {
            resources,
            control_plane,
            port,
            origins,
        })
    }

    /// Moves the member to one of the two addresses and waits for its first request.
    async fn move_to(&self, origin: usize) -> io::Result<Duration> {
        let origin = self.origins.get(origin).ok_or(io::ErrorKind::NotFound)?;
        let before = origin.requests();
        let began = Instant::now();
        write_moving(self.resources.path(), origin.addr().port())?;
        while origin.requests() == before {
            sleep(LOOK).await;
        }
        Ok(began.elapsed())
    }
}

fn start_control_plane(
    program: PathBuf,
    resources: &Path,
    port: &ReservedPort,
) -> io::Result<Process> {
    let mut command = Command::new(program);
    command
        .arg("control-plane")
        .arg("--resources")
        .arg(resources);
    command.args(["--listen", &port.addr().to_string()]);
    Process::start("control plane", command, None).map_err(io::Error::other)
}

fn write_resources(directory: &Path, clusters: usize) -> io::Result<()> {
    let count = [("clusters", clusters.to_string())];
    let text = render(include_str!("../../peers/xds/clusters.yaml"), &count);
    fs::write(
        directory.join("clusters.yaml"),
        text.map_err(io::Error::other)?,
    )?;
    for at in 0..clusters {
        let values = [
            ("cluster", at.to_string()),
            ("members", MEMBERS.to_string()),
        ];
        let text = render(include_str!("../../peers/xds/still.yaml"), &values);
        let file = directory.join(format!("still-{at}.yaml"));
        fs::write(file, text.map_err(io::Error::other)?)?;
    }
    Ok(())
}

/// Written beside it and moved over it: a reader sees the old or the new file, whole.
fn write_moving(directory: &Path, origin: u16) -> io::Result<()> {
    let values = [("origin", origin.to_string())];
    let text = render(include_str!("../../peers/xds/moving.yaml"), &values);
    let new = directory.join(".moving.new");
    fs::write(&new, text.map_err(io::Error::other)?)?;
    fs::rename(new, directory.join("moving.yaml"))
}
