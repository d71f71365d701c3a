//! The control plane with its files, the proxy, the origin and everybody's certificates.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bench::TlsClient;
use bench::certificates::{Root, Rotating, ShortLeaf};
use bench::origin::{FixedOptions, FixedOrigin};
use bench::peer::template::render;
use bench::peer::{StartOptions, Weir};
use bench::ports::ReservedPort;
use bench::process::Process;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a process may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Lives as long as the measurement.
pub(super) struct Site {
    certificates: Rotating,
    resources: TempDir,
    origin: FixedOrigin,
    listen: ReservedPort,
    control_plane_port: ReservedPort,
    core: usize,
    weir: Option<PathBuf>,
    /// What the proxy has.
    shown: RefCell<String>,
    control_plane: Option<Process>,
    proxy: Option<Weir>,
}

impl Site {
    /// Nothing runs yet but the origin.
    pub(super) fn new(core: usize, weir: Option<&Path>) -> Result<Self, String> {
        let certificates = Rotating::new().map_err(told)?;
        let origin = FixedOrigin::start(&FixedOptions {
            tls: Some(certificates.origin().map_err(told)?),
            ..FixedOptions::default()
        });
        Ok(Self {
            certificates,
            resources: in_memory().map_err(told)?,
            origin: origin.map_err(told)?,
            listen: ReservedPort::new().map_err(told)?,
            control_plane_port: ReservedPort::new().map_err(told)?,
            core,
            weir: weir.map(Path::to_path_buf),
            shown: RefCell::default(),
            control_plane: None,
            proxy: None,
        })
    }

    /// Starts the control plane beside the load, and the proxy on its own core.
    pub(super) async fn start(&mut self) -> Result<(), String> {
        let program = Weir::locate_cli(self.weir.as_deref()).map_err(told)?;
        let address = self.control_plane_port.addr();
        let mut command = Command::new(&program);
        command
            .arg("control-plane")
            .arg("--resources")
            .arg(self.resources.path());
        command.args(["--listen", &address.to_string()]);
        let started = Process::start("control plane", command, None);
        let control_plane = self.control_plane.insert(started.map_err(told)?);
        let listens = control_plane.wait_for_port(address, START_LIMIT).await;
        listens.map_err(told)?;
        let values = [
            ("listen", self.listen.number().to_string()),
            ("origin", self.origin.addr().port().to_string()),
            ("control_plane", address.port().to_string()),
        ];
        let template = include_str!("../../../peers/envoy/rotation.yaml");
        let bootstrap = render(template, &values).map_err(told)?;
        let options = StartOptions {
            core: Some(self.core),
            program: self.weir.clone(),
            ..StartOptions::default()
        };
        let started = Weir::start_with(&bootstrap, &options).await;
        self.proxy = Some(started.map_err(told)?);
        Ok(())
    }

    pub(super) fn target(&self) -> SocketAddr {
        self.listen.addr()
    }

    /// For a load.
    pub(super) fn client(&self) -> Result<TlsClient, String> {
        self.certificates.client().map_err(told)
    }

    pub(super) fn leaf(&self, root: Root, life: Duration) -> Result<ShortLeaf, String> {
        self.certificates.leaf(root, life).map_err(told)
    }

    /// The client shows this leaf, and so does the proxy as soon as it hears of it.
    pub(super) fn show(&self, leaf: &ShortLeaf, believed: &[Root]) -> Result<(), String> {
        self.certificates.show(leaf).map_err(told)?;
        let text = secrets(
            leaf,
            &self.certificates.trust(believed),
            &self.certificates.trust_in_origin(),
        );
        self.write(&text)?;
        self.shown.replace(text);
        Ok(())
    }

    /// Replaces a leaf that is no business of the proxy's.
    pub(super) fn replace_unused(&self, leaf: &ShortLeaf) -> Result<(), String> {
        let text = self.shown.borrow().clone();
        self.write(&format!("{text}{}", own_secret("unused", leaf)))
    }

    fn write(&self, text: &str) -> Result<(), String> {
        // Written beside it and moved over it: a reader sees the old or the new file, whole.
        let new = self.resources.path().join(".secrets.new");
        fs::write(&new, text).map_err(told)?;
        fs::rename(new, self.resources.path().join("secrets.yaml")).map_err(told)
    }

    /// A new connection with a whole handshake.
    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        let socket = TcpStream::connect(self.target()).await.map_err(told)?;
        let name = Rotating::server_name().map_err(told)?;
        let connector = TlsConnector::from(Arc::clone(&self.certificates.config()));
        connector.connect(name, socket).await.map_err(told)
    }
}

/// The generator writes there, and must not wait for a disk: a flush of others took up to 270 ms.
fn in_memory() -> io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

fn told(error: impl ToString) -> String {
    error.to_string()
}

fn secrets(leaf: &ShortLeaf, clients: &str, origins: &str) -> String {
    let own = own_secret("leaf", leaf);
    let clients = secret("clients", "validation_context", &[("trusted_ca", clients)]);
    let origins = secret("origins", "validation_context", &[("trusted_ca", origins)]);
    format!("resources:\n{own}{clients}{origins}")
}

fn own_secret(name: &str, leaf: &ShortLeaf) -> String {
    let (certificate, key) = (leaf.certificate(), leaf.key());
    let parts = [
        ("certificate_chain", certificate.as_str()),
        ("private_key", key.as_str()),
    ];
    secret(name, "tls_certificate", &parts)
}

/// An element of the file's list.
fn secret(name: &str, kind: &str, parts: &[(&str, &str)]) -> String {
    let mut text = format!(
        "- \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\n  \
         name: {name}\n  {kind}:\n"
    );
    for (field, pem) in parts {
        let _ = writeln!(text, "    {field}:\n      inline_string: |");
        for line in pem.lines() {
            let _ = writeln!(text, "        {line}");
        }
    }
    text
}
