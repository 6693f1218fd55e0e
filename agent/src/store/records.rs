//! The records: what each holds, and what a restart makes of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Record;
use crate::host::Enrolment;
use crate::problem::Problem;

/// The first record of every store: its absence means that the store was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthRecord {
    /// Version of the agent that made the store.
    pub agent: String,
}

impl Record for BirthRecord {
    const TABLE: &'static str = "birth";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        String::new()
    }
}

/// A release as everything here refers to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// Product.
    pub product: String,
    /// Stream.
    pub stream: String,
    /// Version, for people.
    pub version: String,
    /// Sequence number within the stream.
    pub seq: u64,
    /// `sha256:…` of the signed payload: what the release *is*.
    pub digest: String,
}

/// Where an operation stands. design: every arrow between these is on disk before its effect begins.
///
/// | on restart in | happens |
/// |---|---|
/// | Offered, Fetching | what was fetched is kept; the rest is asked for again once there is a line |
/// | Verified, Preflight | both are done again; they change nothing |
/// | AwaitingApproval, AwaitingWindow, Snapshotting | passed through |
/// | Applying | planned again towards the target: finished steps are seen as done |
/// | Gating | the gate begins anew |
/// | RollingBack | planned again towards the previous generation |
/// | Removing | planned again towards nothing |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Known, nothing fetched.
    Offered,
    /// Documents and blobs are being brought here.
    Fetching,
    /// All of it is here and is what was signed.
    Verified,
    /// Can this host run it?
    Preflight,
    /// The customer's approval is awaited.
    AwaitingApproval,
    /// The customer's maintenance window is awaited.
    AwaitingWindow,
    /// Data is being saved.
    Snapshotting,
    /// The engine is being brought to the target.
    Applying,
    /// The target runs; is it healthy?
    Gating,
    /// The engine is being brought back to the previous generation.
    RollingBack,
    /// The deployment is being removed.
    Removing,
}

/// Who asked for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person on this host.
    Local,
    /// A release that the hub offers and this deployment follows.
    Tether,
}

/// The operation under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Asking twice with the same ID does once.
    pub id: String,
    /// What is to be reached. For a removal, what ran.
    pub target: ReleaseRef,
    /// With these parameters.
    pub parameters: BTreeMap<String, String>,
    /// Where it stands.
    pub phase: Phase,
    /// Who asked.
    pub origin: Origin,
    /// The generation it makes, from `Applying` on.
    pub generation: Option<u64>,
    /// RFC 3339.
    pub started: String,
    /// How often it has been tried.
    pub attempt: u32,
    /// The root's epoch when it was accepted, from `Verified` on.
    #[serde(default)]
    pub epoch: Option<u64>,
    /// What was lacking of the release has been fetched once more.
    #[serde(default)]
    pub is_refetched: bool,
    /// Why it is being rolled back.
    pub problem: Option<StoredProblem>,
    /// For a removal: volumes too, because a person on this host said so.
    pub remove_volumes: bool,
}

/// A deployment: one isolated running copy of a product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// Name, also of the compose project.
    pub name: String,
    /// Product.
    pub product: String,
    /// Stream that it follows.
    pub stream: String,
    /// Parameters as given, without defaults and without secrets.
    pub parameters: BTreeMap<String, String>,
    /// The generation that should be running.
    pub active: Option<u64>,
    /// The generation to go back to.
    pub previous: Option<u64>,
    /// Number of the newest generation ever made.
    pub newest: u64,
    /// What is being done, if anything.
    pub operation: Option<OperationRecord>,
    /// Why the last operation did not succeed; cleared by the next success.
    pub last_problem: Option<StoredProblem>,
    /// RFC 3339: since when `active` is what it is.
    pub since: String,
    /// IDs of the requests already carried out, newest last, a bounded number.
    #[serde(default)]
    pub requests: Vec<String>,
}

impl Record for DeploymentRecord {
    const TABLE: &'static str = "deployment";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        self.name.clone()
    }
}

/// One immutable attempt to bring a deployment to (release, parameters).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// Deployment.
    pub deployment: String,
    /// Rising by one.
    pub number: u64,
    /// Release.
    pub release: ReleaseRef,
    /// Parameters as given.
    pub parameters: BTreeMap<String, String>,
    /// RFC 3339.
    pub created: String,
    /// Features that the licence switched on when it was made: a later licence changes the next generation, not this one.
    #[serde(default)]
    pub features: BTreeSet<String>,
}

impl Record for GenerationRecord {
    const TABLE: &'static str = "generation";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        generation_key(&self.deployment, self.number)
    }
}

/// Key of a [`GenerationRecord`].
pub fn generation_key(deployment: &str, number: u64) -> String {
    format!("{deployment}/{number:020}")
}

/// A release that failed or was refused here, remembered so that it is not tried for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRecord {
    /// Deployment.
    pub deployment: String,
    /// Release.
    pub release: ReleaseRef,
    /// Why.
    pub problem: StoredProblem,
    /// RFC 3339.
    pub at: String,
}

impl Record for RefusedRecord {
    const TABLE: &'static str = "refused";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        format!("{}/{}", self.deployment, self.release.digest)
    }
}

/// A problem as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredProblem {
    /// Stable code.
    pub code: String,
    /// What failed and where.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Exit code.
    pub exit: u8,
}

impl From<&Problem> for StoredProblem {
    fn from(p: &Problem) -> Self {
        Self {
            code: p.code.id.to_owned(),
            message: p.message.clone(),
            remedy: p.code.remedy.to_owned(),
            exit: p.code.exit,
        }
    }
}

impl StoredProblem {
    /// As the protocols carry it.
    pub fn to_proto(&self) -> kedge_proto::v1::Problem {
        kedge_proto::v1::Problem {
            code: self.code.clone(),
            message: self.message.clone(),
            remedy: self.remedy.clone(),
            exit_code: u32::from(self.exit),
        }
    }
}

/// Something that happened and is not yet part of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Rising.
    pub number: u64,
    /// The encoded `kedge.v1.Event`, hex.
    pub event: String,
}

impl Record for EventRecord {
    const TABLE: &'static str = "event";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        format!("{:020}", self.number)
    }
}

/// A report not yet acknowledged by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    /// Rising by one within a session.
    pub number: u64,
    /// The encoded `kedge.tether.v1.Report`, hex.
    pub report: String,
}

impl Record for ReportRecord {
    const TABLE: &'static str = "outbox";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        format!("{:020}", self.number)
    }
}

/// The numbering of reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// Random; a new one starts numbering at 1.
    pub session: String,
    /// Highest number given to a report.
    pub last: u64,
    /// Highest number the hub has acknowledged.
    pub acked: u64,
}

impl Record for OutboxRecord {
    const TABLE: &'static str = "outbox_session";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        String::new()
    }
}

impl Record for Enrolment {
    const TABLE: &'static str = "enrolment";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        String::new()
    }
}

/// The vendor's trusted state on this host. After a restart it is what it was: everything in it only rises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrustRecord(pub kedge_bundle::verify::Trust);

impl Record for TrustRecord {
    const TABLE: &'static str = "trust";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        String::new()
    }
}

/// The licence of a product. After a restart it is what it was: it is only ever replaced by a newer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenceRecord {
    /// Product.
    pub product: String,
    /// What must not be undercut.
    pub accepted: kedge_bundle::licence::Accepted,
    /// The signed file, as it was given.
    pub file: String,
    /// RFC 3339: when it was installed.
    pub installed: String,
}

impl Record for LicenceRecord {
    const TABLE: &'static str = "licence";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        self.product.clone()
    }
}

/// A support request and what has become of it. After a restart what was open is closing, and what came before the machine
/// was started is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SupportRecord(pub crate::support::core::grant::Grant);

impl Record for SupportRecord {
    const TABLE: &'static str = "support";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        self.0.id().to_owned()
    }
}

/// The last time seen. After a restart time goes on from there; a crash loses at most an hour of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeenRecord(pub kedge_bundle::clock::Seen);

impl Record for SeenRecord {
    const TABLE: &'static str = "seen";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        String::new()
    }
}
