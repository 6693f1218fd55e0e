//! Why something was refused: one variant per rule.

use jiff::Timestamp;

use crate::codes::{self, Code, Coded};
use crate::digest::Digest;
use crate::roles::Role;

/// Which document a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the document of that name")]
pub enum Document {
    Root,
    Release,
    Fresh,
    Licence,
    Support,
    OciLayout,
    Index,
    Manifest,
    Delta,
}

impl From<Role> for Document {
    fn from(role: Role) -> Self {
        match role {
            Role::Root => Self::Root,
            Role::Release => Self::Release,
            Role::Fresh => Self::Fresh,
            Role::Licence => Self::Licence,
            Role::Support => Self::Support,
        }
    }
}

impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Root => "root document",
            Self::Release => "release document",
            Self::Fresh => "fresh statement",
            Self::Licence => "licence",
            Self::Support => "support request",
            Self::OciLayout => "oci-layout",
            Self::Index => "index.json",
            Self::Manifest => "manifest.json",
            Self::Delta => "delta document",
        })
    }
}

/// Why signed documents were refused. Nothing may be changed on a refusal, and every one is audited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Larger than a document may be, or not JSON as it should be, or breaking a rule of its own.
    #[error("{document}: {reason}")]
    Malformed {
        /// Which.
        document: Document,
        /// Why.
        reason: String,
    },
    /// Made by a newer version.
    #[error("{document}: format {format} is newer than this version reads")]
    NewerFormat {
        /// Which.
        document: Document,
        /// Its format.
        format: u32,
    },
    /// TUF 5.3.4, 5.4.2, 5.6.3: fewer unique keys than the threshold have validly signed.
    #[error("{document}: {have} valid signatures by different keys, {need} needed")]
    Unsigned {
        /// Which.
        document: Document,
        /// Unique keys that signed.
        have: u32,
        /// The role's threshold.
        need: u32,
    },
    /// A document of one role in another's place.
    #[error("{document}: its payload type is {found:?}")]
    PayloadType {
        /// What should be there.
        document: Document,
        /// What is there.
        found: String,
    },
    /// Neither the pinned root nor one that descends from it is in the chain (TUF 5.2: the trusted root is shipped out of band).
    #[error("the chain of {versions} root documents does not pass through the pinned root {pinned}")]
    UnknownRoot {
        /// Fingerprint that the host was given.
        pinned: Digest,
        /// Length of the chain offered.
        versions: usize,
    },
    /// TUF 5.3.5: the version after N is N+1, and a chain starts at 1.
    #[error("root chain: version {found} where {expected} must be")]
    RootVersion {
        /// What its place demands.
        expected: u64,
        /// What the document says.
        found: u64,
    },
    /// An epoch that falls would bring old counters back.
    #[error("root version {version}: epoch {found} is below {floor}")]
    RootEpoch {
        /// Which root.
        version: u64,
        /// The epoch before it.
        floor: u64,
        /// Its epoch.
        found: u64,
    },
    /// Another document than the one already accepted claims this version.
    #[error("root version {version} is not the one accepted before ({accepted}), but {found}")]
    RootConflict {
        /// Which version.
        version: u64,
        /// Fingerprint accepted before.
        accepted: Digest,
        /// Fingerprint offered.
        found: Digest,
    },
    /// More root documents than [`super::MAX_ROOTS`], or none.
    #[error("{0} root documents")]
    RootCount(usize),
    /// TUF 5.3.10: the newest root has expired.
    #[error("root version {version} expired at {expired}")]
    RootExpired {
        /// Which root.
        version: u64,
        /// When.
        expired: Timestamp,
    },
    /// TUF 5.6.6.
    #[error("the release expired at {expired}; it is now {now}")]
    ReleaseExpired {
        /// When.
        expired: Timestamp,
        /// The time assumed.
        now: Timestamp,
    },
    /// TUF 5.4.4.
    #[error("the fresh statement expired at {expired}; it is now {now}")]
    FreshExpired {
        /// When.
        expired: Timestamp,
        /// The time assumed.
        now: Timestamp,
    },
    /// A statement from the future would outlive what a statement may.
    #[error("the fresh statement was made at {issued}; it is only {now}")]
    FreshFuture {
        /// When it says it was made.
        issued: Timestamp,
        /// The time assumed.
        now: Timestamp,
    },
    /// TUF 5.6.2, 5.6.4: a file is not what the release names (mix and match, substitution).
    #[error(
        "{document}: {found_size} bytes with digest {found}, but the release was signed for {signed_size} bytes with {signed}"
    )]
    Content {
        /// Which file.
        document: Document,
        /// Digest in the release.
        signed: Digest,
        /// Size in the release.
        signed_size: u64,
        /// Digest of what is there.
        found: Digest,
        /// Size of what is there.
        found_size: u64,
    },
    /// A delta document that was signed for another release.
    #[error("the delta document is of release {named}, the bundle of {found}")]
    DeltaRelease {
        /// In the delta document.
        named: Digest,
        /// Of the bundle.
        found: Digest,
    },
    /// TUF 5.5.5: a lower version than one seen.
    #[error("release {seq} is older than {accepted}, which was accepted before")]
    Rollback {
        /// Offered.
        seq: u64,
        /// Highest accepted.
        accepted: u64,
    },
    /// The vendor has declared everything below a number unfit.
    #[error("release {seq} is below {floor}, the lowest that the vendor still allows")]
    BelowFloor {
        /// Offered.
        seq: u64,
        /// Highest `min_seq` accepted.
        floor: u64,
    },
    /// One number, two contents: somebody with the key is lying to someone.
    #[error("release {seq} is {found}, but {accepted} was known under the same number before")]
    Equivocation {
        /// The number.
        seq: u64,
        /// Digest known before.
        accepted: Digest,
        /// Digest offered.
        found: Digest,
    },
    /// TUF 5.5.2: the statement in force names another release.
    #[error("release {seq} is not the newest that the hub's statement names ({newest})")]
    NotListed {
        /// Offered.
        seq: u64,
        /// What the statement names; 0 for nothing.
        newest: u64,
    },
    /// TUF 5.4.3: the statement is older than one seen, or names an older release than that did.
    #[error("the fresh statement goes back: {reason}")]
    FreshRollback {
        /// What goes back.
        reason: String,
    },
    /// For another product.
    #[error("the bundle is of product {found:?}, not {wanted:?}")]
    WrongProduct {
        /// Expected.
        wanted: String,
        /// In the release.
        found: String,
    },
    /// For another stream.
    #[error("the bundle is of stream {found:?}, not {wanted:?}")]
    WrongStream {
        /// Expected.
        wanted: String,
        /// In the release.
        found: String,
    },
    /// For other sites.
    #[error("the release is not for {}", .site.as_deref().map_or("hosts without a site".into(), |site| format!("site {site:?}")))]
    WrongSite {
        /// This host's.
        site: Option<String>,
    },
}

impl Coded for Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Malformed { document: Document::Delta, .. } => codes::DELTA,
            Self::Malformed { .. } => codes::DOCUMENT,
            Self::NewerFormat { .. } => codes::FORMAT,
            Self::Unsigned { .. } => codes::UNSIGNED,
            Self::PayloadType { .. } => codes::PAYLOAD_TYPE,
            Self::UnknownRoot { .. } => codes::UNKNOWN_ROOT,
            Self::RootVersion { .. } | Self::RootEpoch { .. } | Self::RootCount(_) => codes::ROOT_CHAIN,
            Self::RootConflict { .. } => codes::ROOT_CONFLICT,
            Self::RootExpired { .. } => codes::ROOT_EXPIRED,
            Self::ReleaseExpired { .. } => codes::RELEASE_EXPIRED,
            Self::FreshExpired { .. } => codes::FRESH_EXPIRED,
            Self::FreshFuture { .. } => codes::FRESH_FUTURE,
            Self::Content { .. } => codes::CONTENT,
            Self::DeltaRelease { .. } => codes::DELTA_RELEASE,
            Self::Rollback { .. } => codes::ROLLBACK,
            Self::BelowFloor { .. } => codes::BELOW_FLOOR,
            Self::Equivocation { .. } => codes::EQUIVOCATION,
            Self::NotListed { .. } => codes::NOT_LISTED,
            Self::FreshRollback { .. } => codes::FRESH_ROLLBACK,
            Self::WrongProduct { .. } => codes::PRODUCT,
            Self::WrongStream { .. } => codes::STREAM,
            Self::WrongSite { .. } => codes::SITE,
        }
    }
}
