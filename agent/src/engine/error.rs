//! What can go wrong when asking the engine, told apart by what a caller can do about it.

use kedge_bundle::codes::Code;

use super::codes;

/// Result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A verb that failed: what was asked, why it failed, and (through the kind) what helps.
///
/// Messages come from the engine, bounded in length; they name objects, never environment values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct Error {
    /// What a caller can tell apart.
    pub kind: Kind,
    /// What was asked, as in `start container web-1`.
    pub what: String,
    /// Why it failed.
    pub cause: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nobody answers: the engine is down or starting. The state of everything is unknown, not gone.
    Unreachable,
    /// The socket's permissions, or an authorisation plugin.
    Denied,
    /// No answer in time. Whether it was done is unknown.
    Timeout,
    /// No such object.
    NotFound,
    /// No such image.
    NoImage,
    /// The name is another object's.
    NameTaken,
    /// The object's state forbids it.
    Conflict,
    /// A host port is in use.
    PortTaken,
    /// The engine's disk is full.
    NoSpace,
    /// The request itself is not acceptable.
    Refused,
    /// The runtime could not start the process.
    StartFailed,
    /// The engine failed inside.
    Engine,
    /// The answer could not be read.
    Protocol,
    /// The image's ID is not the signed one.
    WrongImage,
    /// A local blob could not be read.
    Blob,
}

/// Longest cause kept from an engine's message.
const LONGEST_CAUSE: usize = 1000;

impl Error {
    /// An error of this kind; the cause is cut to a bounded length.
    pub fn new(kind: Kind, what: impl Into<String>, cause: impl Into<String>) -> Self {
        let mut cause: String = cause.into();
        if cause.len() > LONGEST_CAUSE {
            let mut end = LONGEST_CAUSE;
            while !cause.is_char_boundary(end) {
                end -= 1;
            }
            cause.truncate(end);
            cause.push('…');
        }
        Self { kind, what: what.into(), cause }
    }

    /// Entry of the catalogue.
    pub fn code(&self) -> &'static Code {
        match self.kind {
            Kind::Unreachable => &codes::UNREACHABLE,
            Kind::Denied => &codes::DENIED,
            Kind::Timeout => &codes::TIMEOUT,
            Kind::NotFound => &codes::NOT_FOUND,
            Kind::NoImage => &codes::NO_IMAGE,
            Kind::NameTaken => &codes::NAME_TAKEN,
            Kind::Conflict => &codes::CONFLICT,
            Kind::PortTaken => &codes::PORT_TAKEN,
            Kind::NoSpace => &codes::NO_SPACE,
            Kind::Refused => &codes::REFUSED,
            Kind::StartFailed => &codes::START_FAILED,
            Kind::Engine => &codes::ENGINE,
            Kind::Protocol => &codes::PROTOCOL,
            Kind::WrongImage => &codes::WRONG_IMAGE,
            Kind::Blob => &codes::BLOB,
        }
    }

    /// Whether the engine is away, so that nothing is known rather than something gone.
    pub fn is_engine_away(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Timeout)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }
}

/// Sorts an HTTP status and the engine's message into a kind. Docker's statuses are too coarse to act on
/// (a taken port is a 500), so the message decides where the status does not.
pub fn classify(status: u16, message: &str) -> Kind {
    let has = |needle: &str| message.contains(needle);
    if has("port is already allocated") || has("address already in use") {
        return Kind::PortTaken;
    }
    if has("no space left on device") {
        return Kind::NoSpace;
    }
    if has("is already in use by container") || (status == 409 && has("already exists")) {
        return Kind::NameTaken;
    }
    match status {
        404 if has("No such image") || has("no such image") => Kind::NoImage,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        401 | 403 if has("authorization denied") => Kind::Denied,
        403 if has("already exists") => Kind::NameTaken,
        403 => Kind::Conflict,
        400 if has("OCI runtime") || has("executable file not found") => Kind::StartFailed,
        400..=499 => Kind::Refused,
        500 if has("OCI runtime")
            || has("failed to create shim")
            || has("failed to create task")
            || has("cannot join network") =>
        {
            Kind::StartFailed
        }
        500 if has("has active endpoints") => Kind::Conflict,
        500 if has("invalid") || has("unsupported") || has("not supported") || has("unknown") => {
            Kind::Refused
        }
        _ => Kind::Engine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_engine_become_kinds() {
        let table = [
            (
                500,
                "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
                Kind::PortTaken,
            ),
            (500, "listen tcp4 0.0.0.0:80: bind: address already in use", Kind::PortTaken),
            (
                409,
                "Conflict. The container name \"/a\" is already in use by container \"1f\"",
                Kind::NameTaken,
            ),
            (409, "network with name a already exists", Kind::NameTaken),
            (409, "cannot remove a running container", Kind::Conflict),
            (404, "No such image: sha256:00", Kind::NoImage),
            (404, "No such container: a", Kind::NotFound),
            (404, "network a not found", Kind::NotFound),
            (400, "invalid mount config", Kind::Refused),
            (400, "OCI runtime create failed: executable file not found", Kind::StartFailed),
            (500, "write /var/lib/docker/tmp: no space left on device", Kind::NoSpace),
            (403, "authorization denied by plugin", Kind::Denied),
            (500, "error while removing network: network a has active endpoints", Kind::Conflict),
            (500, "context canceled", Kind::Engine),
        ];
        for (status, message, kind) in table {
            assert_eq!(classify(status, message), kind, "{status} {message}");
        }
    }

    #[test]
    fn a_long_cause_is_cut_at_a_character() {
        let error = Error::new(Kind::Engine, "x", "é".repeat(2000));
        assert!(error.cause.len() <= LONGEST_CAUSE + '…'.len_utf8());
        assert!(error.cause.ends_with('…'));
    }
}
