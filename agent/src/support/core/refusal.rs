//! Why something about a support session was refused: one variant per rule.

use kedge_bundle::codes::{Code, Coded};
use kedge_bundle::support::approval::NoApproval;

use super::grant::Reason;
use crate::codes;

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The kill switch is on.
    #[error("support is switched off on this host")]
    Off,
    /// The customer's rules want no sessions, or want to be asked in another way.
    #[error("{0}")]
    Mode(String),
    /// The signed document itself.
    #[error(transparent)]
    Document(kedge_bundle::verify::Refusal),
    /// For another host, or of a product that is not here.
    #[error("{0}")]
    Audience(String),
    /// Not a nonce of this agent, used before, or given out too long ago.
    #[error("the request answers no nonce that this host has given out and still holds")]
    Nonce,
    /// Too late, by the request's own dates.
    #[error("the request was good until {0}")]
    Expired(String),
    /// Made in the future, by this host's clock.
    #[error("the request says that it was made at {0}, which has not come")]
    Early(String),
    /// The grant was asked for, and may have been opened, before.
    #[error("grant {0} is known already")]
    Known(String),
    /// More than the customer's rules permit.
    #[error("guard.toml does not permit it: {0}")]
    Ceiling(String),
    /// An approval of other bytes than those requested.
    #[error("the approval is for another request")]
    OtherBytes,
    /// An approval of more than was requested.
    #[error("an approval can only narrow a request: {0}")]
    Wider(String),
    /// An approval file that is none.
    #[error(transparent)]
    Approval(#[from] NoApproval),
    /// Not in the state for it.
    #[error("the grant is {0}")]
    State(String),
    /// Over.
    #[error("the session is over: {0}")]
    Over(Reason),
}

impl From<kedge_bundle::verify::Refusal> for Refusal {
    fn from(refusal: kedge_bundle::verify::Refusal) -> Self {
        Self::Document(refusal)
    }
}

impl Coded for Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Off => codes::SUPPORT_OFF,
            Self::Mode(_) => codes::SUPPORT_MODE,
            Self::Document(refusal) => refusal.code(),
            Self::Audience(_) => codes::SUPPORT_AUDIENCE,
            Self::Nonce | Self::Expired(_) | Self::Early(_) => codes::SUPPORT_STALE,
            Self::Known(_) => codes::SUPPORT_KNOWN,
            Self::Ceiling(_) => codes::SUPPORT_CEILING,
            Self::OtherBytes | Self::Wider(_) | Self::Approval(_) => codes::SUPPORT_APPROVAL,
            Self::State(_) | Self::Over(_) => codes::SUPPORT_STATE,
        }
    }
}
