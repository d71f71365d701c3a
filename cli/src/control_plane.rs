//! `weir control-plane`: serves a directory of resources over xDS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
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

The directory holds YAML or JSON files shaped like Envoy's file-based discovery responses; it is
watched. Files in a subdirectory serve only nodes whose id or cluster is the subdirectory's name.

Exit status: 0 after a graceful stop, 1 if it cannot start, 2 for wrong flags.
Signals: TERM, INT and QUIT stop; a second INT stops at once; HUP reads the directory now.")]
pub(crate) struct ControlPlaneArgs {
    /// Directory of resource files
    #[arg(long, value_name = "DIR", env = "WEIR_RESOURCES")]
    resources: PathBuf,
    /// Where clients connect; `:18000` is every address
    #[arg(
        long,
        value_name = "ADDR",
        env = "WEIR_LISTEN",
        default_value = "127.0.0.1:18000"
    )]
    listen: String,
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
    if !args.resources.is_dir() {
        return Err(format!(
            "error: --resources {}: not a directory",
            args.resources.display()
        ));
    }
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
            resources = %args.resources.display(),
            "weir control plane started",
        );
        let server = control_plane::Server::builder()
            .resources_dir(&args.resources)
            .build();
        let told = Told::default();
        let handle = server.handle();
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
