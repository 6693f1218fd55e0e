//! Where log lines go and how they look: sentences for people, JSON for machines, always on standard error.
//!
//! Under journald the time is the journal's to say. `KEDGE_LOG` overrides the configured level for one run.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::codes;
use crate::problem::Problem;

/// The environment's variable with a level, or levels by module: `info,kedge::tether=debug`.
pub const FILTER: &str = "KEDGE_LOG";

/// How to log.
#[derive(Debug, Clone)]
pub struct Options {
    /// JSON lines instead of sentences.
    pub json: bool,
    /// A level, or levels by module.
    pub filter: String,
    /// Colours, when standard error is a terminal.
    pub colour: bool,
}

/// Sends what the program says from now on to standard error. To be called once, by `main`'s command.
///
/// # Errors
/// [`codes::CONFIG`] when the filter cannot be read.
pub fn init(options: &Options) -> Result<(), Problem> {
    // Levels by module are all that anybody sets here; filters by field would cost the binary a regular expression engine.
    let filter: Targets = options
        .filter
        .parse()
        .map_err(|e| Problem::new(&codes::CONFIG, format!("log level `{}`: {e}", options.filter)))?;
    let terminal = std::io::stderr().is_terminal();
    let base = fmt::layer().with_writer(std::io::stderr);
    let layer = if options.json {
        base.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        let base = base.with_target(false).with_ansi(options.colour && terminal).compact();
        let in_journal = std::env::var_os("JOURNAL_STREAM").is_some() && !terminal;
        if in_journal { base.without_time().boxed() } else { base.boxed() }
    };
    let outcome = tracing_subscriber::registry().with(layer).with(filter).try_init();
    outcome.map_err(|e| Problem::new(&codes::INTERNAL, format!("logging cannot start: {e}")))
}
