//! Running a command to its end and saying what was expected of it.

use std::process::{Command, Stdio};

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end, with nothing on its standard input.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command) -> Outcome {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().expect(&line);
    Outcome {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Outcome {
    /// What it said on standard output, for it must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert!(self.code == Some(0), "it should have succeeded: {self:#?}");
        self.stdout
    }

    /// What it said on standard error, for it must have failed with this exit code and error code.
    ///
    /// # Panics
    /// When it did not, or did not say what to do.
    #[track_caller]
    pub fn failed_with(self, exit: i32, code: &str) -> String {
        assert!(self.code == Some(exit), "it should have failed with exit code {exit}: {self:#?}");
        assert!(self.stderr.contains(code), "it should have named {code}: {self:#?}");
        self.stderr
    }
}
