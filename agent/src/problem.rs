//! The one shape in which this host tells that something went wrong: a code from the catalogue, what failed
//! and where, and what to do. The exit message, the log, the report and the event all print it alike.

use std::fmt;

use kedge_bundle::codes::Code;
use kedge_proto::v1;

/// Something that went wrong, ready to be shown.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Which entry of the catalogue.
    pub code: Code,
    /// What failed and where; never a secret.
    pub message: String,
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: &Code, message: impl Into<String>) -> Self {
        Self { code: *code, message: message.into() }
    }

    /// A problem whose message is the error and the chain of its sources, said once.
    pub fn from_error(code: &Code, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self { code: *code, message }
    }

    /// The same with the place put in front.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// As the protocols carry it.
    pub fn to_proto(&self) -> v1::Problem {
        v1::Problem {
            code: self.code.id.to_owned(),
            message: self.message.clone(),
            remedy: self.code.remedy.to_owned(),
            exit_code: u32::from(self.code.exit),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code.id)
    }
}

impl std::error::Error for Problem {}
