//! `weir cert show`: a certificate chain in plain words, from a file or from a server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

mod describe;
pub(crate) mod fetch;
mod verdict;

use describe::Described;
use verdict::Verdict;

/// Flags of `weir cert`.
#[derive(Args, Debug)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a certificate chain in plain words
    Show(ShowArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir cert show cart.pem
  weir cert show cart.pem --ca root.pem
  weir cert show 127.0.0.1:8443 --sni shop.example

Exit status: 0 if the chain holds, 1 if not or if there is none, 2 for wrong flags.")]
struct ShowArgs {
    /// File in PEM or DER, or address of a TLS server such as 127.0.0.1:8443
    #[arg(value_name = "FILE|ADDRESS")]
    from: String,
    /// Roots in PEM; without it the last certificate of the chain is believed
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Name to ask the server for; the host of the address if absent
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs one command.
pub(crate) fn run(args: &CertArgs) -> ExitCode {
    let Command::Show(args) = &args.command;
    match show(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

/// Says whether the chain holds.
fn show(args: &ShowArgs) -> Result<bool, String> {
    let now = UnixTime::now();
    let path = PathBuf::from(&args.from);
    let chain = if path.exists() {
        read(&path)?
    } else if args.from.contains(':') {
        fetch::chain(&args.from, args.sni.as_deref())?
    } else {
        return Err(format!("{}: no such file, and no HOST:PORT", args.from));
    };
    let roots = args.ca.as_ref().map(read).transpose()?;
    let described = chain.iter().map(|der| Described::new(der));
    let described = described.collect::<Result<Vec<_>, _>>()?;
    let verdict = Verdict::new(&chain, roots.as_deref(), now);
    if args.json {
        let certificates: Vec<_> = described.iter().map(|one| one.json(now)).collect();
        println!(
            "{:#}",
            json!({"certificates": certificates, "holds": verdict.holds, "verdict": verdict.text})
        );
    } else {
        for (place, one) in described.iter().enumerate() {
            println!("{}", one.text(place, now));
        }
        println!("{}", verdict.text);
    }
    Ok(verdict.holds)
}

fn read(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn ToString| format!("{}: {}", path.display(), error.to_string());
    let bytes = std::fs::read(path).map_err(|error| failed(&error))?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| failed(&error))?;
    if chain.is_empty() {
        return Err(failed(&"there is no certificate in it"));
    }
    Ok(chain)
}
