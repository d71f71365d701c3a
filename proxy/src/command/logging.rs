//! The diagnostic log of every Weir command: standard error, text on a terminal and JSON elsewhere,
//! level changeable while running.

use std::fmt;
use std::io::IsTerminal;

use clap::Args;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::telemetry::log::LogControl;

/// Flags of the diagnostic log.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What is logged: `info`, `debug`, or by module as in `info,proxy::xds=debug`
    #[arg(
        long,
        value_name = "FILTER",
        env = "WEIR_LOG_LEVEL",
        default_value = "info",
        global = true
    )]
    pub log_level: String,
    /// How it is written; `auto` is text on a terminal, JSON elsewhere
    #[arg(
        long,
        value_name = "FORMAT",
        env = "WEIR_LOG_FORMAT",
        default_value = "auto",
        global = true
    )]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One object per line.
    Json,
    /// For people.
    Text,
}

/// The filter in force; `/logging` changes it.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogHandle")
    }
}

/// Installs the log of this process.
///
/// # Errors
/// The filter is not one, or a log is installed already; a sentence to print.
pub fn init(args: &LogArgs) -> Result<LogHandle, String> {
    let filter = EnvFilter::try_new(&args.log_level)
        .map_err(|error| format!("error: --log-level {}: {error}", args.log_level))?;
    let (filter, handle) = reload::Layer::new(filter);
    let terminal = std::io::stderr().is_terminal();
    let text = match args.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Text => true,
    };
    let colors = terminal && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let base = tracing_subscriber::registry().with(filter);
    let installed = if text {
        base.with(lines.with_ansi(colors)).try_init()
    } else {
        base.with(lines.json().flatten_event(true)).try_init()
    };
    installed.map_err(|error| format!("error: cannot install the log: {error}"))?;
    Ok(LogHandle(handle))
}

impl LogControl for LogHandle {
    fn set(&self, spec: &str) -> Result<String, String> {
        let filter = EnvFilter::try_new(spec).map_err(|error| error.to_string())?;
        let understood = filter.to_string();
        self.0.reload(filter).map_err(|error| error.to_string())?;
        Ok(understood)
    }

    fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }
}
