//! Where a measurement happens: in a network namespace of its own when that is possible, the proxy
//! on one core, generator and origin on another; and how it ends when somebody interrupts it.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use bench::process::{cores, pin_thread};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::host::Facts;
use super::namespace;

/// Does `work` there; exit code 1 and one sentence when that fails.
pub(crate) fn measure(
    weir: Option<&Path>,
    no_namespace: bool,
    work: impl AsyncFnOnce(&Facts) -> Result<(), String>,
) -> ExitCode {
    match run(weir, no_namespace, work) {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("weir-bench: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    weir: Option<&Path>,
    no_namespace: bool,
    work: impl AsyncFnOnce(&Facts) -> Result<(), String>,
) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    if let Some(code) = elsewhere(&runtime, no_namespace) {
        return Ok(code);
    }
    let cores = cores().map_err(|error| format!("no processor affinity: {error}"))?;
    let [proxy_core, .., load_core] = cores.as_slice() else {
        return Err("two cores are needed: one for the proxy, one for the load".to_owned());
    };
    let facts = Facts::new(&cores, *proxy_core, *load_core, weir);
    pin_thread(*load_core).map_err(|error| format!("cannot pin to core {load_core}: {error}"))?;
    runtime.block_on(async {
        tokio::select! {
            done = work(&facts) => done.map(|()| ExitCode::SUCCESS),
            signal = interrupted() => {
                signal.map_err(|error| error.to_string())?;
                Err("interrupted; every process it started has ended".to_owned())
            }
        }
    })
}

/// Runs this program again inside a namespace of its own, where that is wanted and possible.
fn elsewhere(runtime: &Runtime, no_namespace: bool) -> Option<ExitCode> {
    let is_wanted = !no_namespace && namespace::inside().is_none();
    if !is_wanted || !namespace::is_possible() {
        return None;
    }
    match runtime.block_on(namespace::run_inside()) {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Some(ExitCode::from(code.unwrap_or(1)))
        }
        Err(error) => {
            eprintln!("weir-bench: no network namespace of its own: {error}");
            None
        }
    }
}

async fn interrupted() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}
