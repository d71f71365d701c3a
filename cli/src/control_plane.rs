//! `weir control-plane`: serves a directory of resources over xDS.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use control_plane::Server;
use control_plane::ca::Authority;
use control_plane::ca::SpiffeId;
use control_plane::ca::access::LocalUsers;
use control_plane::server::Listener;
use control_plane::source::secrets::Tls;
use proxy::command::logging;
use proxy::command::logging::LogArgs;
use proxy::command::signals::Asked;
use proxy::command::signals::Told;
use rustix::process::DumpableBehavior;
use tokio::net::TcpListener;
use tokio::net::UnixListener;

/// Flags of the control plane.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir control-plane --resources ./resources --listen 127.0.0.1:18000
  weir control-plane --resources ./resources --ca ca --tls-identity spiffe://mesh.example/control-plane
  weir control-plane --resources ./resources --api 127.0.0.1:18001 --state-dir /var/lib/weir

The directory holds YAML or JSON files shaped like Envoy's file-based discovery responses; it is
watched. Files in a subdirectory serve only nodes whose id or cluster is the subdirectory's name.

With --ca, clients get their own certificate as the secrets `default` and `spiffe://...`, and the
roots with their revocation lists as `ROOTCA` and `spiffe://DOMAIN`, and those of all trust domains
that are believed as `ALL`; see weir ca --help. A client is known by its certificate, by its user on a
unix socket, or once by a join token in the header `authorization: Bearer TOKEN`. Clients that make
their keys themselves have them signed by the service istio.v1.auth.IstioCertificateService, as
istio-agent and ztunnel do.

Exit status: 0 after a graceful stop, 1 if it cannot start, 2 for wrong flags.
Signals: TERM, INT and QUIT stop; a second INT stops at once; HUP reads the directory now.")]
pub(crate) struct ControlPlaneArgs {
    /// Directory of resource files
    #[arg(
        long,
        value_name = "DIR",
        env = "WEIR_RESOURCES",
        required_unless_present = "ca"
    )]
    resources: Option<PathBuf>,
    /// Where clients connect; `:18000` is every address, `unix:PATH` a socket of this machine
    #[arg(
        long,
        value_name = "ADDR",
        env = "WEIR_LISTEN",
        default_value = "127.0.0.1:18000"
    )]
    listen: String,
    /// Serve the API that changes how clusters balance, for this machine alone: a loopback address or
    /// unix:PATH; see weir lb set --help
    #[arg(long, value_name = "ADDR", env = "WEIR_API")]
    api: Option<String>,
    /// Keep what the API changes in this directory
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR", requires = "api")]
    state_dir: Option<PathBuf>,
    /// Directory of a certificate authority whose secrets are served
    #[arg(long, value_name = "DIR", env = "WEIR_CA_DIR")]
    ca: Option<PathBuf>,
    /// Take connections over TLS with a certificate of this identity
    #[arg(long, value_name = "ID", env = "WEIR_TLS_IDENTITY", requires = "ca")]
    tls_identity: Option<SpiffeId>,
    /// Who a local user is, for --listen unix:PATH: uid:1000=spiffe://... or gid:50=...; may be
    /// repeated
    #[arg(long, value_name = "USER", requires = "ca")]
    local_user: Vec<String>,
    /// Take certificates from resource files only with signed timestamps of at least so many logs
    #[arg(
        long,
        value_name = "LOGS",
        env = "WEIR_REQUIRE_TIMESTAMPS",
        default_value_t = 0,
        requires = "resources"
    )]
    require_timestamps: usize,
    /// Send clients without a certificate away
    #[arg(
        long,
        env = "WEIR_REQUIRE_CLIENT_CERTIFICATE",
        requires = "tls_identity"
    )]
    require_client_certificate: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Serves until told to stop.
pub(crate) fn run(args: &ControlPlaneArgs) -> ExitCode {
    match serve(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn serve(args: &ControlPlaneArgs) -> Result<ExitCode, String> {
    logging::init(&args.log)?;
    let place: Place = args.listen.parse()?;
    if let Some(dir) = args.resources.as_ref().filter(|dir| !dir.is_dir()) {
        return Err(format!(
            "error: --resources {}: not a directory",
            dir.display()
        ));
    }
    let api = args.api.as_deref().map(Place::of_api).transpose()?;
    let server = server(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("error: cannot start: {error}"))?;
    runtime.block_on(async {
        let listener = place.listen(args).await?;
        let server = match &api {
            Some(place) => server.with_api(place.listen_privately().await?),
            None => server,
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = args.listen,
            resources = ?args.resources,
            ca = ?args.ca,
            api = ?args.api,
            tls = ?args.tls_identity.as_ref().map(SpiffeId::to_string),
            "weir control plane started",
        );
        if args.ca.is_some() && args.tls_identity.is_none() && !place.is_local() {
            tracing::warn!("--ca without --tls-identity: only clients of this machine get secrets");
        }
        let told = Told::default();
        let handle = server.handle();
        if args.resources.is_none() {
            // Nothing comes from elsewhere, so clients need not wait for it.
            let committed = handle.commit("", &[]);
            committed.map_err(|error| format!("error: {error}"))?;
        }
        let ask = |asked| match asked {
            Asked::Reload => handle.reread_files(),
            Asked::ReopenLogs => {} // there is only standard error
        };
        tokio::select! {
            served = server.serve(listener, told.asked_to_stop(ask)) => {
                served.map(|()| ExitCode::SUCCESS).map_err(|error| format!("error: {error}"))
            }
            code = told.told_twice() => Ok(code),
        }
    })
}

fn server(args: &ControlPlaneArgs) -> Result<Server, String> {
    let mut builder = Server::builder();
    if let Some(dir) = &args.resources {
        builder = builder.resources_dir(dir);
        builder = builder.required_timestamps(args.require_timestamps);
    }
    if let Some(dir) = &args.ca {
        keep_out_of_dumps();
        let authority = Authority::open(dir).map_err(|error| format!("error: --ca {error}"))?;
        check_identity(args, &authority)?;
        let tls = args.tls_identity.clone().map(|identity| Tls {
            identity,
            requires_certificate: args.require_client_certificate,
        });
        builder = builder.authority(authority, tls);
    }
    let server = builder.build();
    match &args.state_dir {
        Some(dir) => server
            .with_state(dir)
            .map_err(|error| format!("error: --state-dir {error}")),
        None => Ok(server),
    }
}

/// No core file, and nobody of the same user who looks into the memory: keys that sign are in it.
fn keep_out_of_dumps() {
    let kept = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = kept {
        tracing::warn!(%error, "a core file of this process would hold the keys of the authority");
    }
}

fn check_identity(args: &ControlPlaneArgs, authority: &Authority) -> Result<(), String> {
    match &args.tls_identity {
        Some(identity) if identity.domain() != authority.domain() => Err(format!(
            "error: --tls-identity {identity}: the authority of --ca vouches for {} only",
            authority.domain().id()
        )),
        _ => Ok(()),
    }
}

/// Where to listen.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Network(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    async fn listen(&self, args: &ControlPlaneArgs) -> Result<Listener, String> {
        match self {
            Self::Network(address) => match TcpListener::bind(address).await {
                Ok(listener) => Ok(listener.into()),
                Err(error) => Err(format!("error: cannot listen on {address}: {error}")),
            },
            Self::Unix(path) => {
                let mut users = LocalUsers::default();
                for user in &args.local_user {
                    let added = users.add(user);
                    added.map_err(|error| format!("error: --local-user {error}"))?;
                }
                let listener = bind(path).map_err(|error| {
                    format!("error: cannot listen on {}: {error}", path.display())
                })?;
                Ok(Listener::Local { listener, users })
            }
        }
    }

    /// Where only this machine comes.
    fn of_api(text: &str) -> Result<Self, String> {
        let place: Self = text
            .parse()
            .map_err(|error: String| error.replace("--listen", "--api"))?;
        if place.is_local() {
            return Ok(place);
        }
        Err(format!(
            "error: --api {text}: whoever reaches it changes what everybody is served, so it is on \
             loopback or unix:PATH"
        ))
    }

    /// A socket is for its owner alone.
    async fn listen_privately(&self) -> Result<Listener, String> {
        match self {
            Self::Network(address) => match TcpListener::bind(address).await {
                Ok(listener) => Ok(listener.into()),
                Err(error) => Err(format!("error: --api {address}: cannot listen: {error}")),
            },
            Self::Unix(path) => {
                let closed = || {
                    let listener = bind(path)?;
                    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
                    Ok(listener)
                };
                let listener = closed().map_err(|error: io::Error| {
                    format!("error: --api {}: cannot listen: {error}", path.display())
                })?;
                Ok(Listener::Local {
                    listener,
                    users: LocalUsers::default(),
                })
            }
        }
    }

    fn is_local(&self) -> bool {
        match self {
            Self::Network(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let full = if text.starts_with(':') {
            format!("0.0.0.0{text}")
        } else {
            text.to_owned()
        };
        full.parse().map(Self::Network).map_err(|_| {
            format!(
                "error: --listen {text}: an address looks like :18000, 127.0.0.1:18000 or unix:PATH"
            )
        })
    }
}

/// Binds a socket; one that nobody listens on any more is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

fn is_left_over(path: &Path) -> bool {
    let is_socket = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        let network = |text: &str| match text.parse() {
            Ok(Place::Network(address)) => address.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(network(":18000"), "0.0.0.0:18000");
        assert_eq!(network("[::1]:1"), "[::1]:1");
        assert_eq!("unix:a/b".parse(), Ok(Place::Unix(PathBuf::from("a/b"))));
        let refused = "18000".parse::<Place>().unwrap_err();
        assert!(refused.contains("--listen 18000"));
        let refused = Place::of_api(":18001").unwrap_err();
        assert!(refused.contains("--api :18001") && refused.contains("loopback"));
        assert!(Place::of_api("127.0.0.1:18001").is_ok() && Place::of_api("unix:a").is_ok());
    }
}
