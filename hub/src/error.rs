//! One failure type for the whole crate: a code of the catalogue and a sentence.
//!
//! The code is what programs match on, so there is no second classification beside it. On the wire a
//! failure travels as a gRPC status whose details are a `kedge.v1.Problem`, so that the other end shows
//! the same code, sentence and remedy as the log here.

use crate::codes;
use kedge_bundle::codes::{Code, Coded};
use kedge_proto::v1::Problem;
use prost::Message;
use tonic::Status;

/// Longest message in a status, in bytes: it travels in headers, which are small.
const MAX_STATUS: usize = 2048;

/// What failed and where; why is in the source.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Entry of the catalogue: exit code and remedy.
    pub code: Code,
    message: String,
    /// Set where a remote end named a remedy of its own.
    remedy: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of everything in this crate.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// `message` says what failed and where, without the final full stop.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure { code, message: message.into(), remedy: None, source: None }
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The message followed by its reasons, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut source = std::error::Error::source(self);
        while let Some(reason) = source {
            let reason_text = reason.to_string();
            if !text.ends_with(&reason_text) {
                text.push_str(": ");
                text.push_str(&reason_text);
            }
            source = reason.source();
        }
        text
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        self.remedy.as_deref().unwrap_or(self.code.remedy)
    }

    /// As reports and the wire carry it.
    pub fn problem(&self) -> Problem {
        Problem {
            code: self.code.id.to_owned(),
            message: self.chain(),
            remedy: self.remedy().to_owned(),
            exit_code: self.code.exit.into(),
        }
    }

    /// The gRPC status that carries this failure.
    pub fn status(&self) -> Status {
        let mut problem = self.problem();
        problem.message.truncate(problem.message.floor_char_boundary(MAX_STATUS));
        let details = problem.encode_to_vec();
        Status::with_details(grpc_code(&self.code), problem.message, details.into())
    }

    /// Reads the failure out of a status; one without details means that the connection itself failed.
    pub fn from_status(status: &Status) -> Self {
        match Problem::decode(status.details()) {
            Ok(problem) if !problem.code.is_empty() => {
                let code = known(&problem.code).unwrap_or(codes::UNEXPECTED);
                Failure { code, message: problem.message, remedy: Some(problem.remedy), source: None }
            }
            _ => Failure::new(codes::UNREACHABLE, format!("the hub answered: {}", status.message())),
        }
    }
}

/// The failure that an error with a catalogue entry of its own is.
pub fn coded<E: Coded + std::error::Error + Send + Sync + 'static>(error: E) -> Failure {
    let failure = Failure::new(error.code(), error.to_string());
    match std::error::Error::source(&error) {
        Some(_) => failure.because(error),
        None => failure,
    }
}

fn known(id: &str) -> Option<Code> {
    codes::ALL.iter().chain(kedge_bundle::codes::ALL).find(|code| code.id == id).copied()
}

fn grpc_code(code: &Code) -> tonic::Code {
    match code.id {
        id if [
            codes::TOKEN_FORM,
            codes::TOKEN_UNKNOWN,
            codes::TOKEN_EXPIRED,
            codes::TOKEN_USED,
            codes::NO_CERTIFICATE,
        ]
        .iter()
        .any(|c| c.id == id) =>
        {
            tonic::Code::Unauthenticated
        }
        id if id == codes::REVOKED.id => tonic::Code::PermissionDenied,
        id if id == codes::BUSY.id || id == codes::TOO_LARGE.id => tonic::Code::ResourceExhausted,
        id if id == codes::RELEASE_UNKNOWN.id
            || id == codes::BLOB_UNKNOWN.id
            || id == codes::HOST_UNKNOWN.id
            || id == codes::HOST_SILENT.id =>
        {
            tonic::Code::NotFound
        }
        id if id == codes::CSR.id || id == codes::PROTOCOL.id || id == codes::ARGUMENT.id => {
            tonic::Code::InvalidArgument
        }
        id if id == codes::STORE.id || id == codes::SILENT.id => tonic::Code::Unavailable,
        id if id == codes::UNEXPECTED.id => tonic::Code::Internal,
        _ => tonic::Code::FailedPrecondition,
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        failure.status()
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        Failure::new(codes::STORE, "the hub's store failed").because(error)
    }
}

macro_rules! from_redb {
    ($($kind:ty),*) => { $(
        impl From<$kind> for Failure {
            fn from(error: $kind) -> Self { redb::Error::from(error).into() }
        }
    )* };
}
from_redb!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire_with_code_sentence_and_remedy() {
        let failure = Failure::new(codes::TOKEN_USED, "token ab12 has no uses left")
            .because(std::io::Error::other("why"));
        let back = Failure::from_status(&failure.status());
        assert_eq!(back.code, codes::TOKEN_USED);
        assert_eq!(back.to_string(), "token ab12 has no uses left: why");
        assert_eq!(back.remedy(), codes::TOKEN_USED.remedy);
    }

    #[test]
    fn a_status_without_details_is_an_unreachable_hub() {
        assert_eq!(Failure::from_status(&Status::unavailable("tcp connect error")).code, codes::UNREACHABLE);
    }
}
