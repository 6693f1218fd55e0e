//! Running the tools that make images, with errors that name the command and say what it said.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// A tool is not installed, or may not be run.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A tool ran and failed.
    #[error("`{command}` failed, {status}: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        stderr: String,
    },
    /// A file or folder could not be worked with.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is nowhere to keep images between runs.
    #[error("there is no folder to keep images in: set KEDGE_CACHE, or HOME")]
    NoCacheFolder,
}

/// Says of an I/O error what was tried with which path.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, RigError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, RigError> {
        self.map_err(|source| RigError::File { action, path: path.to_owned(), source })
    }
}

/// Runs a command to its end; an exit status other than 0 is an error.
pub(super) fn run(command: &mut Command) -> Result<(), RigError> {
    output(command).map(drop)
}

/// As [`run`], and returns what it wrote to its standard output.
pub(super) fn output(command: &mut Command) -> Result<String, RigError> {
    let result = command.stdin(Stdio::null()).output();
    finish(command, result)
}

/// Runs `from | to`.
pub(super) fn pipe(from: &mut Command, to: &mut Command) -> Result<(), RigError> {
    let mut source = from
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| RigError::Start { command: line(from), source })?;
    let result = match source.stdout.take() {
        Some(stdout) => to.stdin(stdout).output(),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    // `to`'s own end of the pipe must close, or a `from` that still writes would never end.
    to.stdin(Stdio::null());
    let status = source.wait().map_err(|source| RigError::Start { command: line(from), source })?;
    finish(to, result)?;
    if status.success() {
        Ok(())
    } else {
        Err(RigError::Failed { command: line(from), status, stderr: String::new() })
    }
}

fn finish(command: &Command, result: io::Result<Output>) -> Result<String, RigError> {
    let done = result.map_err(|source| RigError::Start { command: line(command), source })?;
    if !done.status.success() {
        let said = if done.stderr.trim_ascii().is_empty() { &done.stdout } else { &done.stderr };
        let stderr = tail(&String::from_utf8_lossy(said));
        return Err(RigError::Failed { command: line(command), status: done.status, stderr });
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last five lines: tools say at the end why they gave up.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said_last() {
        let error =
            run(&mut sh("echo one; for i in 1 2 3 4 5 6; do echo why $i >&2; done; exit 3")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sh -c") && text.contains("exit status: 3") && text.contains("why 2 / "),
            "{text}"
        );
        assert!(!text.contains("why 1 /"), "{text}");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = run(&mut Command::new("no-such-tool-of-kedge")).unwrap_err();
        assert!(
            matches!(error, RigError::Start { .. }) && error.to_string().contains("no-such-tool-of-kedge")
        );
    }

    #[test]
    fn either_end_of_a_pipe_can_fail_it() {
        assert!(pipe(&mut sh("echo a"), &mut sh("grep -q a")).is_ok());
        assert!(pipe(&mut sh("echo b"), &mut sh("grep -q a")).is_err());
        assert!(pipe(&mut sh("echo a; exit 1"), &mut sh("grep -q a")).is_err());
    }
}
