//! `weir proxy`, which is also the binary `weir-proxy`: flags, start, signals, stop.
//!
//! | file | holds |
//! |---|---|
//! | `from_to` | the bootstrap behind `--from` and `--to` |
//! | `logging` | the diagnostic log of every Weir command |
//! | `reload` | the bootstrap read again |
//! | `signals` | what signals mean |

mod from_to;
pub mod logging;
mod reload;
pub mod signals;

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;

use crate::bootstrap;
use crate::bootstrap::Admin;
use crate::bootstrap::Bootstrap;
use crate::config::endpoint::Address;
use crate::config::limits;
use crate::net::descriptors;
use crate::server::Options;
use crate::server::Server;
use logging::LogArgs;
use signals::Asked;

/// Largest bootstrap read, bytes: ten times what 10,000 static clusters need.
const BOOTSTRAP_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Flags of the data plane.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  weir proxy --from :8080 --to 127.0.0.1:9000
  weir proxy --from :8080 --to 127.0.0.1:9000,127.0.0.1:9001 --admin-addr 127.0.0.1:9901
  weir proxy -c bootstrap.yaml --workers 2

Exit status: 0 after a graceful stop, 1 if it cannot start, 2 for wrong flags.
Signals: TERM, INT and QUIT drain and stop; a second INT stops at once; HUP reads the bootstrap again
(its listeners and clusters; the rest needs a restart); USR1 reopens access logs.")]
pub struct ProxyArgs {
    /// Envoy bootstrap, YAML or JSON; `-` is standard input
    #[arg(short, long, value_name = "FILE", env = "WEIR_CONFIG", conflicts_with_all = ["from", "to"], required_unless_present = "from")]
    config: Option<PathBuf>,
    /// Listen here, without a file: `:8080` is every address
    #[arg(long, value_name = "ADDR", requires = "to")]
    from: Option<String>,
    /// Send there; several take turns
    #[arg(
        long,
        value_name = "ADDR[,ADDR]",
        value_delimiter = ',',
        requires = "from"
    )]
    to: Vec<String>,
    /// Data-plane threads [default: as many as there are cores]
    #[arg(long, value_name = "N", env = "WEIR_WORKERS", alias = "concurrency")]
    workers: Option<std::num::NonZeroU16>,
    /// Admin interface, instead of the bootstrap's
    #[arg(long, value_name = "ADDR", env = "WEIR_ADMIN_ADDR")]
    admin_addr: Option<SocketAddr>,
    /// After TERM, go on accepting for so many seconds so that load balancers notice
    #[arg(
        long,
        value_name = "SECONDS",
        env = "WEIR_DRAIN_DELAY",
        default_value_t = 0.0
    )]
    drain_delay: f64,
    /// Then let connections finish for so many seconds
    #[arg(
        long,
        value_name = "SECONDS",
        env = "WEIR_DRAIN_TIMEOUT",
        default_value_t = 30.0
    )]
    drain_timeout: f64,
    /// Keep the last good configuration here, and start from it when the control plane is away
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// What runs on a listener or an upstream host that goes may take so many seconds to end
    #[arg(
        long,
        value_name = "SECONDS",
        env = "WEIR_DRAIN_TIME",
        alias = "drain-time-s",
        default_value_t = limits::DRAIN_TIME.as_secs_f64()
    )]
    drain_time: f64,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs the proxy until it is told to stop.
pub fn run(args: &ProxyArgs) -> ExitCode {
    let log = match logging::init(&args.log) {
        Ok(log) => log,
        Err(error) => return fail(&error),
    };
    let bootstrap = match read(args) {
        Ok(bootstrap) => bootstrap,
        Err(errors) => return fail(&errors),
    };
    warn_of(&bootstrap);
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
    let options = match options(args, Some(Arc::new(log))) {
        Ok(options) => options,
        Err(error) => return fail(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    runtime.block_on(serve(args, bootstrap, options))
}

async fn serve(args: &ProxyArgs, bootstrap: Bootstrap, options: Options) -> ExitCode {
    let workers = options.workers;
    let server = match Server::start(bootstrap, options).await {
        Ok(server) => server,
        Err(error) => return fail(&error.to_string()),
    };
    let live = server.live();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers,
        admin = ?live.admin_address(),
        "weir proxy started",
    );
    let told = signals::Told::default();
    let (reload, reloads) = mpsc::channel(1); // one that waits is as good as several
    let reloading = reload::run(args.clone(), server.reloader(), reloads);
    let ask = |asked| match asked {
        Asked::Reload => {
            let _ = reload.try_send(());
        }
        Asked::ReopenLogs => live.reopen_logs(),
    };
    tokio::select! {
        () = server.run(told.asked_to_stop(ask)) => ExitCode::SUCCESS,
        () = reloading => ExitCode::SUCCESS,
        code = told.told_twice() => code,
    }
}

fn warn_of(bootstrap: &Bootstrap) {
    for warning in &bootstrap.warnings {
        tracing::warn!(at = %warning.origin, field = %warning.field, "{}", warning.message);
    }
}

#[expect(
    clippy::print_stderr,
    reason = "an error of the command belongs on standard error"
)]
fn fail(message: &str) -> ExitCode {
    eprintln!("{}", message.trim_end());
    ExitCode::from(1)
}

fn options(
    args: &ProxyArgs,
    log: Option<Arc<dyn crate::telemetry::log::LogControl>>,
) -> Result<Options, String> {
    let seconds = |value: f64, flag: &str| {
        Duration::try_from_secs_f64(value)
            .map_err(|error| format!("error: {flag} {value}: {error}"))
    };
    let defaults = Options::default();
    Ok(Options {
        workers: args
            .workers
            .map_or(defaults.workers, |workers| usize::from(workers.get())),
        drain_delay: seconds(args.drain_delay, "--drain-delay")?,
        drain_timeout: seconds(args.drain_timeout, "--drain-timeout")?,
        drain_time: seconds(args.drain_time, "--drain-time")?,
        log,
        state_dir: args.state_dir.clone(),
        command_line: serde_json::json!({
            "config_path": args.config.as_deref().map(Path::to_string_lossy),
            "concurrency": args.workers,
            "drain_time": format!("{}s", args.drain_time),
        }),
    })
}

/// The bootstrap the flags ask for, or every mistake in it, ready to print.
fn read(args: &ProxyArgs) -> Result<Bootstrap, String> {
    let (path, text) = match (&args.config, &args.from) {
        (Some(path), _) => (path.clone(), read_text(path)?),
        (None, Some(from)) => (PathBuf::from("--from"), from_to::bootstrap(from, &args.to)?),
        (None, None) => return Err("error: --config or --from is needed".to_owned()),
    };
    let mut bootstrap = bootstrap::load(&path, &text).map_err(|errors| {
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    if let Some(address) = args.admin_addr {
        bootstrap.admin = Some(Admin {
            address: Address::Socket(address),
        });
    }
    Ok(bootstrap)
}

fn read_text(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| format!("error: cannot read {}: {error}", path.display());
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::Read::take(std::io::stdin(), BOOTSTRAP_BYTES_MAX))
            .map_err(told);
    }
    let size = std::fs::metadata(path).map_err(told)?.len();
    if size > BOOTSTRAP_BYTES_MAX {
        return Err(format!(
            "error: {} has {size} bytes; {BOOTSTRAP_BYTES_MAX} are allowed",
            path.display()
        ));
    }
    std::fs::read_to_string(path).map_err(told)
}
