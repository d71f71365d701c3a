//! The composition root: sources, store and gRPC services on one listener.
//!
//! Runs inside the caller's tokio runtime, next to other things; starts no thread but the file
//! watcher's, and leaves nothing behind when [`Server::serve`] returns.

use std::future::Future;
use std::future::pending;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::sync::watch;

use crate::balancing::kept::Kept;
use crate::ca::Authority;
use crate::ca::access::LocalUsers;
use crate::limits::API_CONNECTIONS_MAX;
use crate::limits::Limits;
use crate::service;
use crate::service::Shared;
use crate::source::file::FileSource;
use crate::source::push::Files;
use crate::source::push::Handle;
use crate::source::secrets::Keeper;
use crate::source::secrets::Secrets;
use crate::source::secrets::Tls;
use crate::status::Registry;
use crate::store::Store;
use crate::stream::Policy;

mod incoming;

use incoming::Incoming;

/// An xDS server that is not running yet.
#[derive(Debug)]
pub struct Server {
    policy: Policy,
    identifier: Arc<str>,
    files: Option<FileSource>,
    secrets: Option<(Secrets, Keeper)>,
    has_tls: bool,
    api: Option<Listener>,
    store: Store,
    registry: Registry,
}

/// What [`Server::builder`] collects.
#[derive(Debug)]
pub struct Builder {
    policy: Policy,
    identifier: String,
    resources_dir: Option<PathBuf>,
    logs_least: usize,
    authority: Option<(Authority, Option<Tls>)>,
}

/// Where clients connect.
#[derive(Debug)]
pub enum Listener {
    /// Over the network, with TLS if there is an identity for it.
    Tcp(TcpListener),
    /// Processes of this machine, known by their user.
    Local {
        /// The socket.
        listener: UnixListener,
        /// Who is who.
        users: LocalUsers,
    },
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// Why the server ended other than by request.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("transport failed")]
    Transport(#[from] tonic::transport::Error),
}

impl Server {
    /// A server with default limits and no source but its [`Handle`].
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            policy: Policy::default(),
            identifier: concat!("weir/", env!("CARGO_PKG_VERSION")).to_owned(),
            resources_dir: None,
            logs_least: 0,
            authority: None,
        }
    }

    /// Serves the API as well, for whom it may change what everybody is served: the listener must
    /// be out of reach of others.
    #[must_use]
    pub fn with_api(mut self, listener: impl Into<Listener>) -> Self {
        self.api = Some(listener.into());
        self
    }

    /// Keeps what the API changes in this directory, and begins with what is there.
    ///
    /// # Errors
    /// When the directory cannot be used; in a sentence.
    pub fn with_state(self, dir: &Path) -> Result<Self, String> {
        self.store.keep(Kept::open(dir)?);
        Ok(self)
    }

    /// Commits resources and reads the status, before and while the server runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let files = self.files.as_ref().map(|files| Files {
            status: files.status(),
            asked: files.asked(),
        });
        Handle::new(self.store.clone(), self.registry.clone(), files)
    }

    /// Reads the resource directory, then serves until `shutdown` completes, ends every stream and
    /// returns. A directory with mistakes does not keep the server from starting: it has nothing
    /// to say until they are mended, see [`Handle::files`].
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(
        mut self,
        listener: impl Into<Listener>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let limits = self.policy.limits.clone();
        let (stopper, stop) = watch::channel(false);
        let (secrets, keeper) = self.secrets.unzip();
        let keeper = match keeper {
            Some(keeper) => Some(keeper.start().await),
            None => None,
        };
        let tls = secrets.clone().filter(|_| self.has_tls);
        let api = serve_api(self.api, self.store.clone());
        let shared = Shared {
            secrets,
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            store: self.store,
            registry: self.registry,
            policy: self.policy,
            identifier: self.identifier,
            stop,
        };
        let stopped = async move {
            shutdown.await;
            // Streams last as long as their client wants; end them, or the server never would.
            stopper.send_replace(true);
        };
        if let Some(files) = &mut self.files {
            files.start().await;
        }
        let following = async {
            match self.files {
                Some(files) => files.run().await,
                None => pending().await,
            }
        };
        let keeping = async {
            match keeper {
                Some(keeper) => keeper.run().await,
                None => pending().await,
            }
        };
        let incoming = Incoming::new(listener.into(), limits.connections_max, tls);
        let serving = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(limits.keepalive_interval))
            .http2_keepalive_timeout(Some(limits.keepalive_timeout))
            .max_concurrent_streams(limits.streams_per_connection_max)
            .add_routes(service::routes(shared))
            .serve_with_incoming_shutdown(incoming, stopped);
        tokio::select! {
            served = serving => Ok(served?),
            () = following => Ok(()),
            () = keeping => Ok(()),
            served = api => Ok(served?),
        }
    }
}

/// Until it is dropped: a call takes no time.
async fn serve_api(
    listener: Option<Listener>,
    store: Store,
) -> Result<(), tonic::transport::Error> {
    let Some(listener) = listener else {
        return pending().await;
    };
    let incoming = Incoming::new(listener, API_CONNECTIONS_MAX, None);
    tonic::transport::Server::builder()
        .add_service(service::Balancing::new(store))
        .serve_with_incoming(incoming)
        .await
}

impl Builder {
    /// Serves the files of this directory and follows their changes; see
    /// [`crate::source::file`].
    #[must_use]
    pub fn resources_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.resources_dir = Some(path.as_ref().to_owned());
        self
    }

    /// Takes certificates from files only if they carry signed timestamps of so many logs; see
    /// [`crate::transparency`].
    #[must_use]
    pub fn required_timestamps(mut self, logs_least: usize) -> Self {
        self.logs_least = logs_least;
        self
    }

    /// Serves the secrets of this authority: `default`, `ROOTCA` and `spiffe://...`, to whom they
    /// belong. With `tls`, connections over the network are taken with a certificate of the
    /// authority, and clients are known by theirs.
    #[must_use]
    pub fn authority(mut self, authority: Authority, tls: Option<Tls>) -> Self {
        self.authority = Some((authority, tls));
        self
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.policy.limits = limits;
        self
    }

    /// Serves clients that do not send `node.id` as well.
    #[must_use]
    pub fn allow_anonymous(mut self) -> Self {
        self.policy.needs_node_id = false;
        self
    }

    /// What responses carry as `control_plane.identifier`.
    #[must_use]
    pub fn identifier(mut self, identifier: &str) -> Self {
        identifier.clone_into(&mut self.identifier);
        self
    }

    /// The server.
    #[must_use]
    pub fn build(self) -> Server {
        let store = Store::new();
        let limits = &self.policy.limits;
        let dir = self.resources_dir;
        let files =
            dir.map(|dir| FileSource::new(&dir, store.clone(), limits.clone(), self.logs_least));
        Server {
            policy: self.policy,
            identifier: Arc::from(self.identifier),
            files,
            has_tls: self
                .authority
                .as_ref()
                .is_some_and(|(_, tls)| tls.is_some()),
            secrets: self
                .authority
                .map(|(authority, tls)| Secrets::new(authority, tls)),
            api: None,
            store,
            registry: Registry::default(),
        }
    }
}
