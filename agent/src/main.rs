//! `kedge`: the agent and the customer's command line. All it does itself is to turn arguments into a
//! command and the outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match kedge::cli::Cli::try_parse() {
        Ok(cli) => kedge::cli::main(cli),
        Err(error) => {
            // Help and version come this way too. A closed pipe is not worth a word.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(kedge_bundle::codes::exit::USAGE))
        }
    }
}
