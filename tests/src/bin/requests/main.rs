//! A well-behaved server, and a client that retries nothing: what an update of a service loses is what the second says
//! of the first. Both are this one program, so that one image serves both ends.
//!
//! | command | does |
//! |---|---|
//! | `requests serve` | answers every request a little later with `$EDITION`; on SIGTERM closes its listener, ends what it has begun, and exits |
//! | `requests check` | asks the server beside it, as a health check does |
//! | `requests ask NAME` | sends requests to NAME until SIGTERM, then says what became of them |

#![allow(clippy::print_stdout, reason = "a program's output")]

mod ask;
mod resolve;
mod serve;

use std::process::ExitCode;

/// Port of the server.
const PORT: u16 = 8080;

fn main() -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = runtime.block_on(async {
        match words[..] {
            ["serve"] => serve::serve().await,
            ["check"] => serve::check().await,
            ["ask", name] => ask::ask(name).await,
            _ => Err(std::io::Error::other("usage: requests serve | check | ask NAME")),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("requests: {error}");
            ExitCode::FAILURE
        }
    }
}
