//! Why a command ends with something other than 0.

use std::process::ExitCode;

use kedge_proto::v1;
use tonic::Status;

use super::out::Out;
use crate::codes;
use crate::local::wire;
use crate::problem::Problem;

/// The end of a command that did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Something to tell: found here or told by the daemon.
    Problem(v1::Problem),
    /// Nothing went wrong: there are changes, and the exit code says so.
    Changes,
    /// The reader of our output has gone; there is nobody to tell.
    ClosedPipe,
    /// Ctrl-C; what there was to say about it was said.
    Interrupted,
}

impl Failure {
    /// The command line itself is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Problem(v1::Problem {
            message: message.into(),
            remedy: "See `--help`".to_owned(),
            exit_code: u32::from(kedge_bundle::codes::exit::USAGE),
            ..v1::Problem::default()
        })
    }

    /// Says it on standard error and gives the exit code.
    pub(super) fn report(&self, out: &Out) -> ExitCode {
        match self {
            Self::Problem(problem) => {
                out.error(problem);
                let code = u8::try_from(problem.exit_code).ok().filter(|code| *code != 0);
                ExitCode::from(code.unwrap_or(kedge_bundle::codes::exit::UNEXPECTED))
            }
            Self::Changes => ExitCode::from(kedge_bundle::codes::exit::CHANGES),
            Self::ClosedPipe => ExitCode::SUCCESS,
            // 128 + SIGINT, what a shell says of a program that Ctrl-C ended.
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem.to_proto())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Problem(wire::from_status(&status))
    }
}

impl From<std::io::Error> for Failure {
    /// Of standard output: a closed pipe is nobody's mistake.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Problem::new(&codes::INTERNAL, format!("standard output: {error}")).into()
        }
    }
}
