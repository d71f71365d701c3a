//! `weir control-plane`: serves a directory of resources over xDS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use control_plane::Server;
use control_plane::ca::Authority;
use control_plane::ca::SpiffeId;
use control_plane::source::secrets::Tls;
use proxy::command::logging;
use proxy::command::logging::LogArgs;
use proxy::command::signals::Asked;
use proxy::command::signals::Told;
use tokio::net::TcpListener;

/// Flags of the control plane.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir control-plane --resources ./resources --listen 127.0.0.1:18000
  weir control-plane --resources ./resources --ca ca --tls-identity spiffe://mesh.example/control-plane

The directory holds YAML or JSON files shaped like Envoy's file-based discovery responses; it is
watched. Files in a subdirectory serve only nodes whose id or cluster is the subdirectory's name.

With --ca, clients get their own certificate as the secrets `default` and `spiffe://...`, and the
roots with their revocation lists as `ROOTCA` and `spiffe://DOMAIN`; see weir ca --help. A client is
known by its certificate, or once by a join token in the header `authorization: Bearer TOKEN`.

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
    /// Where clients connect; `:18000` is every address
    #[arg(
        long,
        value_name = "ADDR",
        env = "WEIR_LISTEN",
        default_value = "127.0.0.1:18000"
    )]
    listen: String,
    /// Directory of a certificate authority whose secrets are served
    #[arg(long, value_name = "DIR", env = "WEIR_CA_DIR")]
    ca: Option<PathBuf>,
    /// Take connections over TLS with a certificate of this identity
    #[arg(long, value_name = "ID", env = "WEIR_TLS_IDENTITY", requires = "ca")]
    tls_identity: Option<SpiffeId>,
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
    let address = parse_listen(&args.listen)?;
    if let Some(dir) = args.resources.as_ref().filter(|dir| !dir.is_dir()) {
        return Err(format!(
            "error: --resources {}: not a directory",
            dir.display()
        ));
    }
    let server = server(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("error: cannot start: {error}"))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.map_err(|error| format!("error: cannot listen on {address}: {error}"))?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = ?listener.local_addr().ok(),
            resources = ?args.resources,
            ca = ?args.ca,
            tls = ?args.tls_identity.as_ref().map(SpiffeId::to_string),
            "weir control plane started",
        );
        if args.ca.is_some() && args.tls_identity.is_none() && !address.ip().is_loopback() {
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
    }
    if let Some(dir) = &args.ca {
        let authority = Authority::open(dir).map_err(|error| format!("error: --ca {error}"))?;
        check_identity(args, &authority)?;
        builder = builder.authority(authority);
    }
    if let Some(identity) = &args.tls_identity {
        builder = builder.tls(Tls {
            identity: identity.clone(),
            requires_certificate: args.require_client_certificate,
        });
    }
    Ok(builder.build())
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

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else {
        text.to_owned()
    };
    full.parse().map_err(|_| {
        format!("error: --listen {text}: an address looks like :18000 or 127.0.0.1:18000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        assert_eq!(parse_listen(":18000").unwrap().to_string(), "0.0.0.0:18000");
        assert_eq!(parse_listen("[::1]:1").unwrap().to_string(), "[::1]:1");
        assert!(
            parse_listen("18000")
                .unwrap_err()
                .contains("--listen 18000")
        );
    }
}
