//! From bollard's errors to ours.

use std::error::Error as _;
use std::io;

use bollard::errors::Error as Cause;

use super::super::error::{Error, Kind, Result, classify};

/// Says what was asked when it failed.
pub(super) trait Context<T> {
    /// Names the request.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, Cause> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| convert(what(), &error))
    }
}

/// Turns a failure of the client into an error with a kind.
pub(super) fn convert(what: String, error: &Cause) -> Error {
    match error {
        Cause::DockerResponseServerError { status_code, message } => {
            Error::new(classify(*status_code, message), what, message.trim())
        }
        Cause::DockerStreamError { error } => Error::new(classify(500, error), what, error.trim()),
        Cause::DockerContainerWaitError { error, .. } => Error::new(Kind::Engine, what, error.as_str()),
        Cause::RequestTimeoutError => Error::new(Kind::Timeout, what, "no answer in time"),
        Cause::SocketNotFoundError(path) => {
            Error::new(Kind::Unreachable, what, format!("there is no socket {path}"))
        }
        Cause::IOError { err } => Error::new(io_kind(err.kind()), what, err.to_string()),
        Cause::HyperResponseError { .. } | Cause::HyperLegacyError { .. } => {
            let cause = innermost(error);
            let kind =
                cause.downcast_ref::<io::Error>().map_or(Kind::Unreachable, |error| io_kind(error.kind()));
            Error::new(kind, what, cause.to_string())
        }
        Cause::JsonDataError { .. }
        | Cause::JsonSerdeError { .. }
        | Cause::APIVersionParseError {}
        | Cause::StrParseError { .. } => Error::new(Kind::Protocol, what, error.to_string()),
        other => Error::new(Kind::Engine, what, other.to_string()),
    }
}

fn io_kind(kind: io::ErrorKind) -> Kind {
    match kind {
        io::ErrorKind::PermissionDenied => Kind::Denied,
        io::ErrorKind::TimedOut => Kind::Timeout,
        _ => Kind::Unreachable,
    }
}

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    // bollard's transparent variants hide one level of `source`.
    match cause.downcast_ref::<Cause>() {
        Some(Cause::HyperLegacyError { err }) => err.source().unwrap_or(cause),
        _ => cause,
    }
}
