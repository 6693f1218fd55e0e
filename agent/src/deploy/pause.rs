//! Paused: a person on this host wants nothing of a deployment to be changed until they say so.
//!
//! While a deployment is paused its supervisor only looks, so health goes on being reported, and releases wait before
//! the first phase that could lead to a change; fetching and verifying go on. What containers were already being changed for
//! is seen to its end, because a stack that is left half-way helps nobody, but not tried a second time. An update
//! whose service asks for `failure_action: pause` pauses the deployment itself when it fails. A removal is
//! a person's word too and is carried out.
//!
//! The record is on disk before the pause takes effect, and gone from it before the resumption does: a restart of the agent
//! finds the deployment as its owner left it.

use std::time::Duration;

use kedge_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::machine;
use super::task::{Deployment, Flow};
use crate::audit;
use crate::clock::stamp;
use crate::host::Progress;
use crate::problem::Problem;
use crate::store::{DeploymentRecord, OperationRecord, Record, Store, StoredProblem, Writes};

/// How long a pause waits for requests to the engine that are under way.
const LET_GO: Duration = Duration::from_secs(30);

/// Who wanted what paused. There while it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// Deployment.
    pub deployment: String,
    /// The user who asked.
    pub by: String,
    /// RFC 3339.
    pub at: String,
    /// Why, in their words; may be empty.
    pub reason: String,
}

impl Record for PauseRecord {
    const TABLE: &'static str = "pause";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        self.deployment.clone()
    }
}

impl PauseRecord {
    /// As the protocols carry it.
    pub fn to_proto(&self) -> v1::Pause {
        v1::Pause { by: self.by.clone(), at: self.at.clone(), reason: self.reason.clone() }
    }

    /// `it was paused by root at …: reason`.
    fn sentence(&self) -> String {
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("it was paused by {} at {}{why}", self.by, self.at)
    }
}

/// The pause of a deployment, if there is one. One that cannot be read holds: doing nothing harms least.
pub fn load(store: &Store, deployment: &str) -> Option<PauseRecord> {
    match store.get::<PauseRecord>(deployment) {
        Ok(record) => record,
        Err(problem) => {
            tracing::error!(deployment, %problem, "whether it is paused cannot be read; nothing is changed");
            Some(PauseRecord { reason: problem.message, ..PauseRecord::default() })
        }
    }
}

/// How a pause or a resumption is answered: with a sentence.
pub type Answer = oneshot::Sender<Result<String, Problem>>;

impl Deployment {
    pub(super) async fn pause_it(&mut self, by: String, reason: String, answer: Answer) {
        let said = self.write_pause(by, reason).await;
        let _ = answer.send(said);
    }

    /// An update has failed and `failure_action: pause` wants neither more of it nor the way back. It goes on, from the state
    /// in which it is then, when somebody resumes it, or with a newer release.
    pub(super) async fn hold(
        &mut self,
        mut operation: OperationRecord,
        service: &str,
        problem: Problem,
    ) -> Result<Flow, Problem> {
        operation.attempt = operation.attempt.saturating_add(1);
        operation.problem = Some(StoredProblem::from(&problem));
        let record = DeploymentRecord {
            operation: Some(operation),
            last_problem: Some(StoredProblem::from(&problem)),
            ..self.record.clone()
        };
        // One commit: the update must not be found failed and yet free to go on.
        let writes = Writes::new().put(&record)?;
        if self.paused.is_some() {
            self.world.store.commit(writes).await?;
        } else {
            let pause = self.new_pause(format!("update_config of {service}"), problem.message.clone());
            self.commit_pause(pause, writes).await?;
        }
        self.record = record;
        self.set_target().await;
        self.publish();
        self.finish(Progress::Failed(problem)).await;
        Ok(Flow::GoOn)
    }

    /// Whether the operation waits for the deployment to be resumed.
    pub(super) fn is_held(&self, operation: &OperationRecord) -> bool {
        self.must_wait(operation) && machine::touches_containers(operation.phase)
    }

    async fn write_pause(&mut self, by: String, reason: String) -> Result<String, Problem> {
        let name = self.record.name.clone();
        if let Some(pause) = &self.paused {
            return Ok(format!("{name} is paused already: {}", pause.sentence()));
        }
        self.commit_pause(self.new_pause(by, reason), Writes::new()).await?;
        self.set_target().await;
        self.publish();
        if self.is_changing() {
            return Ok(format!("{name} is paused; what it is being brought to is seen to its end first"));
        }
        // The supervisor ends what it is doing once it sees the new target.
        let turn = self.supervisor.turn();
        let let_go = tokio::time::timeout(LET_GO, turn.lock()).await.is_ok();
        let rest = if let_go { "" } else { "; the last request to the engine is still under way" };
        Ok(format!("{name} is paused: nothing of it is changed until `kedge resume {name}`{rest}"))
    }

    fn new_pause(&self, by: String, reason: String) -> PauseRecord {
        let deployment = self.record.name.clone();
        PauseRecord { deployment, by, at: stamp(&*self.world.clock), reason }
    }

    /// The pause and what else is to be true with it, on disk in one commit.
    async fn commit_pause(&mut self, pause: PauseRecord, writes: Writes) -> Result<(), Problem> {
        let (deployment, by, reason) = (pause.deployment.clone(), pause.by.clone(), pause.reason.clone());
        self.world.audit(audit::Event::Paused { deployment, by, reason }).await?;
        let event = self.event(format!("nothing is changed any more: {}", pause.sentence()));
        self.world.commit_with_event(writes.put(&pause)?, event).await?;
        tracing::info!(deployment = pause.deployment, by = pause.by, "paused");
        self.paused = Some(pause);
        Ok(())
    }

    pub(super) async fn resume_it(&mut self, by: String, answer: Answer) {
        let said = self.write_resumption(by).await;
        let _ = answer.send(said);
    }

    async fn write_resumption(&mut self, by: String) -> Result<String, Problem> {
        let name = self.record.name.clone();
        if self.paused.is_none() {
            return Ok(format!("{name} is not paused"));
        }
        self.world.audit(audit::Event::Resumed { deployment: name.clone(), by: by.clone() }).await?;
        let event = self.event(format!("resumed by {by}: it is kept as it should be again"));
        self.world.commit_with_event(Writes::new().remove::<PauseRecord>(&name), event).await?;
        tracing::info!(deployment = name, by, "resumed");
        self.paused = None;
        self.set_target().await;
        self.publish();
        Ok(format!(
            "{name} is resumed: what changed meanwhile is put right, and a release that waited goes on"
        ))
    }

    fn event(&self, message: String) -> v1::Event {
        v1::Event {
            deployment: self.record.name.clone(),
            kind: "paused".to_owned(),
            message,
            ..v1::Event::default()
        }
    }

    fn is_changing(&self) -> bool {
        self.record.operation.as_ref().is_some_and(|operation| machine::touches_containers(operation.phase))
    }

    /// Whether this phase may not begin now.
    pub(super) fn must_wait(&self, operation: &OperationRecord) -> bool {
        self.paused.is_some() && machine::waits_while_paused(operation.phase, operation.attempt)
    }

    /// Says that the operation waits, until a request comes that may change that.
    pub(super) async fn wait_while_paused(&mut self, operation: &OperationRecord) -> Flow {
        let name = &self.record.name;
        let why = self.paused.as_ref().map(PauseRecord::sentence).unwrap_or_default();
        self.course.step = format!("waiting: {why}; `kedge resume {name}` lets it go on");
        self.publish();
        self.show(operation.phase);
        self.idle().await
    }
}
