//! A deployment's status, from its record and what its supervisor sees.

use kedge_proto::v1;

use super::pause::PauseRecord;
use crate::health::services;
use crate::store::{DeploymentRecord, GenerationRecord, Phase, RefusedRecord, ReleaseRef};

/// What the supervisor sees of a deployment's services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Services by name; empty before the first look.
    pub services: Vec<v1::ServiceStatus>,
    /// The engine does not answer: what was seen last may be wrong.
    pub engine_away: bool,
    /// What was last found changed though nobody had asked.
    pub last_drift: Option<v1::Drift>,
}

/// How far an operation has come, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Course {
    /// A sentence.
    pub step: String,
    /// Bytes handled.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// What is known of a deployment beside its record.
pub struct Known<'a> {
    /// The active generation.
    pub active: Option<&'a GenerationRecord>,
    /// Compose project.
    pub project: &'a str,
    /// Releases refused here.
    pub refused: &'a [RefusedRecord],
    /// Nothing is to be changed.
    pub paused: Option<&'a PauseRecord>,
    /// What the supervisor sees.
    pub seen: &'a Seen,
    /// How far the operation has come.
    pub course: &'a Course,
}

/// Puts the status together.
pub fn of(record: &DeploymentRecord, known: &Known<'_>) -> v1::DeploymentStatus {
    let Known { active, project, refused, paused, seen, course } = known;
    // Whoever has looked has seen at least one service, if only that it is not there.
    let removing = record.operation.as_ref().is_some_and(|operation| operation.phase == Phase::Removing);
    let looked = !seen.services.is_empty() || record.active.is_none() || removing;
    let health =
        if seen.engine_away || !looked { v1::Health::Unknown } else { services::overall(&seen.services) };
    let phase = match (&record.operation, record.active) {
        (Some(operation), _) => phase(operation.phase),
        (None, Some(_)) => v1::Phase::Active,
        (None, None) => v1::Phase::Failed,
    };
    v1::DeploymentStatus {
        name: record.name.clone(),
        product: record.product.clone(),
        stream: record.stream.clone(),
        active: active.map(|generation| release(&generation.release)),
        phase: phase.into(),
        health: health.into(),
        services: seen.services.clone(),
        operation: record.operation.as_ref().map(|operation| v1::Operation {
            id: operation.id.clone(),
            target: Some(release(&operation.target)),
            started: operation.started.clone(),
            step: course.step.clone(),
            done_bytes: course.done_bytes,
            total_bytes: course.total_bytes,
            attempt: operation.attempt,
        }),
        last_problem: record.last_problem.as_ref().map(crate::store::StoredProblem::to_proto),
        refused: refused
            .iter()
            .map(|r| v1::Refused {
                release: Some(release(&r.release)),
                problem: Some(r.problem.to_proto()),
                at: r.at.clone(),
            })
            .collect(),
        generation: record.active.unwrap_or_default(),
        since: record.since.clone(),
        removed: false,
        compose_project: (*project).to_owned(),
        paused: paused.is_some(),
        pause: paused.map(PauseRecord::to_proto),
        last_drift: seen.last_drift.clone(),
    }
}

/// A release as the protocols carry it.
pub fn release(release: &ReleaseRef) -> v1::Release {
    v1::Release { version: release.version.clone(), seq: release.seq, digest: release.digest.clone() }
}

/// A phase as the protocols carry it.
pub fn phase(phase: Phase) -> v1::Phase {
    match phase {
        Phase::Offered => v1::Phase::Offered,
        Phase::Fetching => v1::Phase::Fetching,
        Phase::Verified => v1::Phase::Verified,
        Phase::Preflight => v1::Phase::Preflight,
        Phase::AwaitingApproval => v1::Phase::AwaitingApproval,
        Phase::AwaitingWindow => v1::Phase::AwaitingWindow,
        Phase::Snapshotting => v1::Phase::Snapshotting,
        Phase::Applying => v1::Phase::Applying,
        Phase::Gating => v1::Phase::Gating,
        Phase::RollingBack => v1::Phase::RollingBack,
        Phase::Removing => v1::Phase::Removing,
    }
}

/// A release in a sentence: `hello 1.2.0 (stable #3)`.
pub fn sentence(release: &ReleaseRef) -> String {
    format!("{} {} ({} #{})", release.product, release.version, release.stream, release.seq)
}
