//! Standard output and standard error: what is a terminal, what may be coloured, how wide it is.

use std::io::{IsTerminal, Write};

use kedge_proto::v1;
use serde::Serialize;

use super::failure::Failure;
use super::say;
use crate::codes;
use crate::problem::Problem;

/// Columns where nobody says how many there are.
const WIDTH: usize = 80;

/// How a text is painted. Meaning never hangs on colour alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Paint {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Paint {
    /// `text` in this paint, where `colour` allows it.
    pub(super) fn on(self, text: &str, colour: bool) -> String {
        let code = match self {
            _ if !colour || text.is_empty() => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Where results and remarks go.
#[derive(Debug, Clone)]
pub(super) struct Out {
    /// Results as JSON.
    pub json: bool,
    /// Nothing but results and errors.
    pub quiet: bool,
    /// Standard output may be coloured and redrawn.
    pub terminal: bool,
    /// Standard error may show bars.
    pub bars: bool,
    colour: bool,
    colour_errors: bool,
}

impl Out {
    pub(super) fn detect(json: bool, quiet: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let terminal = std::io::stdout().is_terminal() && !dumb;
        let errors = std::io::stderr().is_terminal() && !dumb;
        Self {
            json,
            quiet,
            terminal,
            bars: errors && !quiet && !json,
            colour: terminal && !no_colour,
            colour_errors: errors && !no_colour,
        }
    }

    /// Whether results may be coloured.
    pub(super) fn colour(&self) -> bool {
        self.colour
    }

    /// Columns of the terminal.
    pub(super) fn width(&self) -> usize {
        let size = self.terminal.then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok()).flatten();
        size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(WIDTH).max(40)
    }

    /// A result.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// A result, as one line of JSON.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_string(value).map_err(|e| {
            Problem::new(&codes::INTERNAL, format!("a result cannot be written as JSON: {e}"))
        })?;
        line.push('\n');
        self.text(&line)
    }

    /// A remark on standard error.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            eprint_line(text);
        }
    }

    /// A question on standard error, quiet or not.
    pub(super) fn ask(&self, question: &str) {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question}");
        let _ = stderr.flush();
    }

    /// An error on standard error, and what to do about it.
    pub(super) fn error(&self, problem: &v1::Problem) {
        let code = if problem.code.is_empty() { String::new() } else { format!(" [{}]", problem.code) };
        let message = say::clean_lines(&problem.message);
        eprint_line(&format!("{} {message}{code}", Paint::Bad.on("error:", self.colour_errors)));
        if !problem.remedy.is_empty() {
            let remedy = say::clean_lines(&problem.remedy);
            eprint_line(&format!("{}  {remedy}", Paint::Bold.on("help:", self.colour_errors)));
        }
    }
}

/// Standard error that is closed is nobody's to hear about.
fn eprint_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
