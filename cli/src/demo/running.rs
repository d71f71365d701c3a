//! A proxy and a control plane of this process, started and stopped.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control_plane::Handle;
use control_plane::server::Listener;
use proxy::server::Live;
use proxy::server::Options;
use proxy::server::Server;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use xds_proto::Pool;

/// Longest wait for the first configuration to come through.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that runs until it is asked to stop, or this value is dropped.
pub(crate) struct Task {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Task {
    fn start<F>(run: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(stopped));
        Self { stop, task }
    }

    /// Asks it to stop and waits.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await; // a panic has been printed
    }
}

/// A running proxy.
pub(crate) struct Proxy {
    live: Arc<Live>,
    task: Task,
}

impl Proxy {
    /// Starts one with this bootstrap.
    pub(crate) async fn start(bootstrap: &str) -> Result<Self, String> {
        let bootstrap = proxy::bootstrap::load(Path::new("demo"), bootstrap)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())?;
        let options = Options {
            workers: 1,
            drain_timeout: Duration::from_secs(2),
            ..Options::default()
        };
        let server = Server::start(bootstrap, options)
            .await
            .map_err(|error| format!("error: {error}"))?;
        let live = server.live();
        let task = Task::start(|stopped| {
            server.run(async {
                let _ = stopped.await; // a dropped sender asks to stop, too
            })
        });
        Ok(Self { live, task })
    }

    /// Until this listener accepts and nothing is waited for.
    pub(crate) async fn wait_ready(&self, listener: &str) -> Result<(), String> {
        let mut applied = self.live.applied();
        let ready = async {
            while self.live.listener_address(listener).is_none() || !self.live.is_ready() {
                if applied.changed().await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let late = || "error: the configuration did not arrive in time".to_owned();
        tokio::time::timeout(START_TIMEOUT, ready)
            .await
            .map_err(|_| late())
    }

    /// Lets connections finish and ends it.
    pub(crate) async fn stop(self) {
        self.task.stop().await;
    }
}

/// Serves until the task is stopped.
pub(crate) fn control_plane(
    server: control_plane::Server,
    listener: impl Into<Listener>,
) -> (Handle, Task) {
    let handle = server.handle();
    let listener = listener.into();
    let task = Task::start(|stopped| async move {
        let served = server.serve(listener, async {
            let _ = stopped.await; // a dropped sender asks to stop, too
        });
        if let Err(error) = Box::pin(served).await {
            eprintln!("error: control plane: {error}");
        }
    });
    (handle, task)
}

/// Makes these resources everything that is served.
pub(crate) fn commit(handle: &Handle, text: &str) -> Result<(), String> {
    let file = xds_proto::load::resources(&Pool::new(), Path::new("demo"), text)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())?;
    let resources: Vec<_> = file
        .resources
        .into_iter()
        .map(|resource| resource.any)
        .collect();
    handle
        .commit("", &resources)
        .map(|_| ())
        .map_err(|error| format!("error: {error}"))
}
