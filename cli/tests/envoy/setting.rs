//! Envoy, Weir and the control plane as running things, and waiting for what they do.
//!
//! Everything ends with the value that holds it. Waiting is polling with a deadline.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use bench::peer::Envoy;
use bench::peer::Nginx;
use control_plane::Handle;
use proxy::server::Live;
use proxy::server::Options;
use proxy::server::Server;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::sleep;
use xds_proto::Pool;
use xds_proto::pb::google::protobuf::Any;

/// Longest wait for anything; a busy machine needs a part of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at what is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Set to 1 where a missing peer is a failure.
const REQUIRE_PEERS: &str = "WEIR_REQUIRE_PEERS";

/// A number that makes every test take another seed.
const SEED: &str = "WEIR_TEST_SEED";

/// Whether Envoy is there. Says so, past the test harness's capture, when it is not.
///
/// # Panics
/// When peers are required.
pub(crate) fn envoy_is_there() -> bool {
    is_there(
        Envoy::locate(),
        "Envoy is not installed; run bench/peers/install",
    )
}

/// The same of OpenSSL's program.
///
/// # Panics
/// When peers are required.
pub(crate) fn openssl_is_there() -> bool {
    let version = Command::new("openssl").arg("version").output();
    is_there(version, "openssl is not installed")
}

/// The same of nginx.
///
/// # Panics
/// When peers are required.
pub(crate) fn nginx_is_there() -> bool {
    is_there(Nginx::locate(), "nginx is not installed")
}

/// The same of `ss`.
///
/// # Panics
/// When peers are required.
pub(crate) fn ss_is_there() -> bool {
    let version = Command::new("ss").arg("-V").output();
    is_there(version, "ss of iproute2 is not installed")
}

pub(crate) fn is_there<T>(found: Result<T, impl Display>, otherwise: &str) -> bool {
    let Err(error) = found else {
        return true;
    };
    let required = std::env::var_os(REQUIRE_PEERS).is_some_and(|value| value == "1");
    assert!(!required, "{REQUIRE_PEERS} is set, and {error}");
    // The macros would be captured, and a skipped test must not look like a passed one.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {otherwise}");
    false
}

/// The seed of a test, or another one from the environment for a wider search.
pub(crate) fn seed(usual: u64) -> u64 {
    let wanted = std::env::var(SEED).ok();
    let wanted: Option<u64> = wanted.and_then(|seed| seed.parse().ok());
    wanted.map_or(usual, |wanted| wanted.wrapping_mul(16).wrapping_add(usual))
}

/// Polls until `look` says yes; its last excuse is the error.
pub(crate) async fn until<F>(mut look: impl FnMut() -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    let began = Instant::now();
    loop {
        match look().await {
            Ok(()) => return Ok(()),
            Err(excuse) if began.elapsed() > PATIENCE => {
                return Err(format!("after {PATIENCE:?}: {excuse}"));
            }
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

/// A running control plane.
pub(crate) struct ControlPlane {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    task: JoinHandle<()>,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into()).await
    }

    /// Where another one was before it went.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let server = control_plane::Server::builder().build();
        let handle = server.handle();
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            let serving = Box::pin(server.serve(listener, std::future::pending()));
            serving.await.expect("it serves");
        });
        Self {
            address,
            handle,
            task,
        }
    }

    /// Makes `resources`, a list of JSON objects with `@type`, all that `group` gets.
    pub(crate) fn commit(&self, group: &str, resources: &[serde_json::Value]) {
        let dangling = self.commit_dangling(group, resources);
        assert!(dangling.is_empty(), "{dangling}");
    }

    /// The same though something names what is not there; says what.
    pub(crate) fn commit_dangling(&self, group: &str, resources: &[serde_json::Value]) -> String {
        let resources = messages(resources);
        let committed = self.handle.commit(group, &resources);
        let dangling = committed.expect("the resources are sound").dangling;
        let lines = dangling.iter().map(|one| format!("{one:?}\n"));
        lines.collect()
    }
}

impl ControlPlane {
    /// It goes with all its connections.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await; // it was cancelled
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn messages(resources: &[serde_json::Value]) -> Vec<Any> {
    static POOL: OnceLock<Pool> = OnceLock::new();
    let text = serde_json::json!({ "resources": resources }).to_string();
    let file = xds_proto::load::resources(
        POOL.get_or_init(Pool::new),
        Path::new("generated.json"),
        &text,
    );
    let file = file.unwrap_or_else(|errors| unsound(&errors, &text));
    file.resources
        .into_iter()
        .map(|resource| resource.any)
        .collect()
}

#[expect(clippy::panic, reason = "a test's own mistake")]
fn unsound(errors: &[impl ToString], text: &str) -> ! {
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    panic!("{}\n{text}", errors.join("\n"))
}

/// Weir's data plane with one worker, in this process.
pub(crate) struct Weir {
    live: Arc<Live>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Weir {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(bootstrap: &str) -> Self {
        Box::pin(Self::launch(bootstrap)).await.ready().await
    }

    /// The same, with another time for what runs on hosts that leave.
    pub(crate) async fn start_with(bootstrap: &str, drain_time: Duration) -> Self {
        let options = Options {
            drain_time,
            ..Self::options()
        };
        Box::pin(Self::launch_with(bootstrap, options))
            .await
            .ready()
            .await
    }

    async fn ready(self) -> Self {
        let started = self;
        let ready = until(|| async {
            let ready = started.live.is_ready();
            ready.then_some(()).ok_or_else(|| "not ready".to_owned())
        });
        ready.await.expect("Weir gets ready");
        started
    }

    /// Starts it and does not wait.
    pub(crate) async fn launch(bootstrap: &str) -> Self {
        Box::pin(Self::launch_with(bootstrap, Self::options())).await
    }

    fn options() -> Options {
        Options {
            workers: 1,
            drain_timeout: Duration::from_secs(1),
            ..Options::default()
        }
    }

    async fn launch_with(bootstrap: &str, options: Options) -> Self {
        let loaded = proxy::bootstrap::load(Path::new("test.yaml"), bootstrap);
        let loaded = loaded.unwrap_or_else(|errors| unsound(&errors, bootstrap));
        let server = Server::start(loaded, options).await.expect("it starts");
        let live = server.live();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await; // a dropped sender asks to stop, too
        }));
        Self { live, stop, task }
    }

    /// What it is doing.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(()); // it may have ended already
        self.task.await.expect("no panic");
    }
}
