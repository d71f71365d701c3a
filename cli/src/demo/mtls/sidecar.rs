//! A proxy, and the control plane that tells it what to do and who it is.

use std::net::SocketAddr;

use control_plane::Server;
use control_plane::ca::access::LocalUsers;
use control_plane::server::Listener;
use serde_json::Value;
use tokio::net::UnixListener;

use super::place::Place;
use crate::demo::first_free;
use crate::demo::resources::bootstrap;
use crate::demo::running;
use crate::demo::running::Proxy;
use crate::demo::running::Task;
use crate::demo::running::commit;

/// A running sidecar.
pub(super) struct Sidecar {
    pub(super) admin: SocketAddr,
    proxy: Proxy,
    control_plane: Task,
}

impl Sidecar {
    /// Starts both, and waits until the proxy takes connections.
    pub(super) async fn start(place: &Place, name: &str, resources: &str) -> Result<Self, String> {
        let path = place.file(&format!("{name}.sock"));
        let listener = UnixListener::bind(&path)
            .map_err(|error| format!("error: {}: {error}", path.display()))?;
        let mut users = LocalUsers::default();
        let uid = rustix::process::getuid().as_raw();
        let user = format!("uid:{uid}={}", place.identity(name));
        users
            .add(&user)
            .map_err(|error| format!("error: {error}"))?;
        let server = Server::builder().authority(place.open()?, None).build();
        let (handle, control_plane) =
            running::control_plane(server, Listener::Local { listener, users });
        commit(&handle, resources)?;
        let (admin, admin_holder) = first_free(9901)?;
        drop(admin_holder);
        // A text in JSON is one in YAML, whatever stands in it.
        let path = Value::from(path.display().to_string());
        let pipe = format!("{{pipe: {{path: {path}}}}}");
        let proxy = Proxy::start(&bootstrap(name, admin, &pipe)).await?;
        proxy.wait_ready(name).await?;
        Ok(Self {
            admin,
            proxy,
            control_plane,
        })
    }

    /// Lets connections finish and ends both.
    pub(super) async fn stop(self) {
        self.proxy.stop().await;
        self.control_plane.stop().await;
    }
}
