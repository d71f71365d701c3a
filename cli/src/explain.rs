//! `weir explain`: what a code in an error message means and what to do about it.

use std::process::ExitCode;

use clap::Args;
use xds_proto::Code;

/// Flags of `weir explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir explain W1007
  weir explain            all codes, a line each")]
pub(crate) struct ExplainArgs {
    /// The code in the brackets of an error message, such as W1007
    #[arg(value_name = "CODE")]
    code: Option<Code>,
}

/// Prints one explanation, or the list.
pub(crate) fn run(args: &ExplainArgs) -> ExitCode {
    match args.code {
        Some(code) => println!("{code}: {}\n\n{}", code.title(), code.explanation()),
        None => {
            for code in Code::ALL {
                println!("{code}  {}", code.title());
            }
        }
    }
    ExitCode::SUCCESS
}
