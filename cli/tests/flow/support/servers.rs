//! Our control plane and our proxy inside the test's process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control_plane::Handle;
use control_plane::subscription::Variant;
use proxy::server::Live;
use proxy::server::Options;
use proxy::server::Server;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::bootstrap;
use crate::support::soon;
use crate::support::until;

/// A running control plane.
pub(crate) struct ControlPlane {
    pub(crate) addr: SocketAddr,
    pub(crate) handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl ControlPlane {
    /// On a free port.
    pub(crate) async fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_on(any).await
    }

    /// On a given port, to come back.
    pub(crate) async fn start_on(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("the port is free");
        let addr = listener.local_addr().expect("it is bound");
        let server = control_plane::Server::builder().build();
        let handle = server.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let served = server.serve(listener, async { drop(stopped.await) });
            Box::pin(served).await.expect("it serves to its end");
        });
        Self {
            addr,
            handle,
            stop,
            task,
        }
    }

    /// Ends every stream and waits until it is gone.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(()); // a server that failed is told by the next line
        soon("the control plane's end", self.task)
            .await
            .expect("it did not panic");
    }
}

/// A running proxy; drained and gone after [`Proxy::stop`], cut when dropped.
pub(crate) struct Proxy {
    pub(crate) live: Arc<Live>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Subscribed to `control_plane`.
    pub(crate) async fn by_ads(control_plane: SocketAddr, variant: Variant) -> Self {
        Self::start(&bootstrap::ads(control_plane, variant)).await
    }

    /// With this bootstrap and two workers.
    pub(crate) async fn start(text: &str) -> Self {
        Self::with(text, |_| {}).await
    }

    /// The same with other options.
    pub(crate) async fn with(text: &str, change: impl FnOnce(&mut Options)) -> Self {
        let loaded = proxy::bootstrap::load(Path::new("flow"), text);
        let errors = loaded
            .as_ref()
            .err()
            .map(|errors| errors.iter().map(ToString::to_string).collect::<String>());
        assert!(errors.is_none(), "{}", errors.unwrap_or_default());
        let bootstrap = loaded.expect("checked above");
        let mut options = Options {
            workers: 2,
            drain_timeout: Duration::from_secs(1),
            ..Options::default()
        };
        change(&mut options);
        let server = Box::pin(Server::start(bootstrap, options)).await;
        let server = server.expect("it starts");
        let live = server.live();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async { drop(stopped.await) }));
        Self { live, stop, task }
    }

    /// Waits until a listener is open.
    pub(crate) async fn listens(&self, name: &str) {
        until("the listener", async || self.live.listener_address(name)).await;
    }

    /// Its admin interface.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.live.admin_address().expect("the bootstrap has one")
    }

    /// Asks it to drain and end.
    pub(crate) fn drain(self) -> JoinHandle<()> {
        let _ = self.stop.send(()); // a proxy that failed is told by its task
        self.task
    }

    /// Drains and ends.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(()); // a proxy that failed is told by the next line
        soon("the proxy's end", self.task)
            .await
            .expect("it did not panic");
    }
}
