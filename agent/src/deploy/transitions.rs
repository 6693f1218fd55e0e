//! From one phase to the next: what follows from how a phase ended, written to the store before its effect.

use std::collections::BTreeSet;
use std::time::Duration;

use kedge_bundle::verify::Trust;
use kedge_proto::v1;
use tokio::sync::mpsc;

use super::acceptance::installed;
use super::adoption::{self, AdoptionRecord};
use super::files;
use super::machine::{self, Ended, Next, Situation, touches_containers};
use super::permission;
use super::phases::Failed;
use super::status::{self, Course, sentence};
use super::supervisor::backoff;
use super::task::{Deployment, Flow};
use crate::clock::stamp;
use crate::codes;
use crate::host::Progress;
use crate::problem::Problem;
use crate::store::{
    DeploymentRecord, GenerationRecord, OperationRecord, Origin, Phase, Record, RefusedRecord, ReleaseRef,
    StoredProblem, Writes,
};

/// Requests remembered, so that asking twice does once.
const REQUESTS: usize = 64;
/// First and longest pause before a phase is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

impl Deployment {
    /// Writes down what follows from how a phase ended.
    pub(super) async fn conclude(
        &mut self,
        operation: OperationRecord,
        result: Result<(), Failed>,
    ) -> Result<Flow, Problem> {
        let ended = match &result {
            Ok(()) => Ended::Well,
            Err(failed) if failed.lacking => Ended::Lacking,
            Err(failed) if failed.passing => Ended::Passing,
            Err(_) => Ended::Lasting,
        };
        let engine_away = result.as_ref().is_err_and(|failed| failed.engine_away);
        let situation = Situation {
            can_go_back: self.can_go_back().await?,
            is_waited_for: operation.origin == Origin::Local && self.found.as_ref() != Some(&operation.id),
            // While the engine is away nothing has been tried.
            attempt: if engine_away { 0 } else { operation.attempt },
            is_refetched: operation.is_refetched,
        };
        let pauses = result.as_ref().err().and_then(|failed| failed.pauses.clone());
        let problem = result.err().map(|failed| failed.problem);
        let phase = operation.phase;
        match (machine::next(phase, ended, situation), pauses, problem) {
            (Next::Enter(Phase::RollingBack) | Next::Fail, Some(service), Some(problem)) => {
                return self.hold(operation, &service, problem).await;
            }
            (next, _, problem) => self.follow(operation, next, problem, engine_away).await,
        }
    }

    /// Does what comes next.
    async fn follow(
        &mut self,
        operation: OperationRecord,
        next: Next,
        problem: Option<Problem>,
        engine_away: bool,
    ) -> Result<Flow, Problem> {
        match next {
            Next::Enter(next) => self.enter(operation, next, problem).await?,
            Next::Again => {
                let problem =
                    problem.unwrap_or_else(|| Problem::new(&codes::INTERNAL, "again without a cause"));
                return self.again(operation, problem, engine_away).await;
            }
            Next::Activate => self.activate(operation).await?,
            Next::Restored if self.record.active.is_none() => return self.as_it_was(operation).await,
            Next::Restored => self.restored(operation).await?,
            Next::GiveUp => return self.give_up(operation, problem, false).await,
            Next::Fail => return self.give_up(operation, problem, true).await,
            Next::Gone => return self.gone(operation).await,
        }
        Ok(Flow::GoOn)
    }

    /// The next phase, on disk before its effect.
    async fn enter(
        &mut self,
        mut operation: OperationRecord,
        phase: Phase,
        problem: Option<Problem>,
    ) -> Result<(), Problem> {
        let mut record = self.record.clone();
        let mut writes = Writes::new();
        if phase == Phase::Fetching && touches_containers(operation.phase) {
            // A newer release may take its place now, and shall have a generation of its own.
            (operation.is_refetched, operation.generation) = (true, None);
        }
        if phase == Phase::Verified {
            // Before anything is remembered under a number or a stream that nobody has signed.
            operation.target = self.job(&operation, mpsc::channel(1).0).target_as_signed()?;
            operation.epoch = self.world.trust.lock().await.as_ref().map(Trust::epoch);
        }
        if phase == Phase::Preflight {
            let job = self.job(&operation, mpsc::channel(1).0);
            if let Some(absorbed) = job.absorb_given().map_err(|failed| failed.problem)? {
                operation = absorbed;
            }
        }
        if phase == Phase::Applying && operation.generation.is_none() {
            record.newest += 1;
            operation.generation = Some(record.newest);
            writes = writes.put(&GenerationRecord {
                deployment: record.name.clone(),
                number: record.newest,
                release: operation.target.clone(),
                parameters: operation.parameters.clone(),
                created: stamp(&*self.world.clock),
                features: permission::features_of(&self.world, &operation.target).await?,
            })?;
        }
        operation.phase = phase;
        operation.attempt = 1;
        if let Some(problem) = &problem {
            operation.problem = Some(StoredProblem::from(problem));
        }
        record.operation = Some(operation.clone());
        let writes = writes.put(&record)?;
        if is_news(phase) {
            self.tell_of_phase(&operation, phase, problem.as_ref(), writes).await?;
        } else {
            self.world.store.commit(writes).await?;
        }
        self.record = record;
        if phase == Phase::Applying {
            self.forget_given();
        }
        self.course = Course { step: words(phase).to_owned(), ..Course::default() };
        self.publish();
        Ok(())
    }

    /// Commits a phase with what the log, the audit log and the report say of it.
    async fn tell_of_phase(
        &self,
        operation: &OperationRecord,
        phase: Phase,
        problem: Option<&Problem>,
        writes: Writes,
    ) -> Result<(), Problem> {
        let name = &self.record.name;
        let message = format!("{}: {}", sentence(&operation.target), words(phase));
        tracing::info!(deployment = name, generation = operation.generation, "{message}");
        self.world
            .audit(crate::audit::Event::Phase {
                deployment: name.clone(),
                phase: format!("{phase:?}"),
                release: operation.target.digest.clone(),
            })
            .await?;
        let event = v1::Event {
            deployment: name.clone(),
            kind: "phase".to_owned(),
            message,
            problem: problem.map(Problem::to_proto),
            phase: status::phase(phase).into(),
            release: Some(status::release(&operation.target)),
            ..v1::Event::default()
        };
        self.world.commit_with_event(writes, event).await
    }

    /// The same phase again, after a pause that an engine's or a line's return cuts short.
    async fn again(
        &mut self,
        mut operation: OperationRecord,
        problem: Problem,
        engine_away: bool,
    ) -> Result<Flow, Problem> {
        let (phase, attempt) = (operation.phase, operation.attempt);
        tracing::warn!(deployment = self.record.name, %problem, attempt, "{} will be tried again", words(phase));
        if !engine_away {
            operation.attempt = operation.attempt.saturating_add(1);
        }
        // Why it goes back is worth more than what the way back met with.
        if phase != Phase::RollingBack || operation.problem.is_none() {
            operation.problem = Some(StoredProblem::from(&problem));
        }
        let mut record = self.record.clone();
        record.operation = Some(operation);
        self.world.store.commit(Writes::new().put(&record)?).await?;
        self.record = record;
        self.course = Course { step: format!("waiting: {}", problem.message), ..Course::default() };
        self.publish();
        self.show(phase);
        Ok(self.pause(backoff(attempt, PAUSES.0, PAUSES.1), engine_away).await)
    }

    /// Waits, but not longer than until the engine or the line is back or a request comes.
    pub(super) async fn pause(&mut self, pause: Duration, engine_away: bool) -> Flow {
        let mut up = self.world.events.up();
        let mut courier = self.world.courier.subscribe();
        let engine_back = async {
            if engine_away {
                // That the engine is away is known here sooner than the reader of events finds out.
                tokio::time::sleep(PAUSES.0 / 4).await;
                let _ = up.wait_for(|up| *up).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let line_back = async {
            if courier.borrow_and_update().is_none() {
                let _ = courier.wait_for(Option::is_some).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        // All arms are cancel safe.
        tokio::select! {
            () = tokio::time::sleep(pause) => Flow::GoOn,
            () = engine_back => Flow::GoOn,
            () = line_back => Flow::GoOn,
            never = self.pulse.answer() => match never {},
            command = self.commands.recv() => match command {
                None => Flow::Over,
                Some(command) => {
                    self.hear(command).await;
                    Flow::GoOn
                }
            },
        }
    }

    /// The target is the active generation.
    async fn activate(&mut self, operation: OperationRecord) -> Result<(), Problem> {
        installed(&self.world, &operation.target, operation.epoch).await?;
        let mut record = self.record.clone();
        record.previous = record.active.filter(|active| Some(*active) != operation.generation);
        record.active = operation.generation;
        record.stream.clone_from(&operation.target.stream);
        record.parameters.clone_from(&operation.parameters);
        record.since = stamp(&*self.world.clock);
        record.last_problem = None;
        let message = format!("{} is active and healthy", sentence(&operation.target));
        let writes = Writes::new().remove::<RefusedRecord>(&refused_key(&record.name, &operation.target));
        self.end(record, operation, writes, "active", message.clone(), None).await?;
        self.finish(Progress::Done {
            message,
            deployment: Some(Box::new(self.status())),
            plan: Vec::new(),
            kept: Vec::new(),
        })
        .await;
        self.collect_garbage().await;
        Ok(())
    }

    /// The previous generation is active again.
    async fn restored(&mut self, operation: OperationRecord) -> Result<(), Problem> {
        let mut record = self.record.clone();
        let why = operation.problem.as_ref().map(|p| p.message.clone()).unwrap_or_default();
        let back_to = self.generation(record.active)?.map(|g| sentence(&g.release)).unwrap_or_default();
        let problem = Problem::new(
            &codes::ROLLED_BACK,
            format!("{} was rolled back, {back_to} runs again: {why}", sentence(&operation.target)),
        );
        record.last_problem = Some(StoredProblem::from(&problem));
        let refused = self.refusal(&operation, &problem);
        let writes = Writes::new().put(&refused)?;
        self.end(record, operation, writes, "rolled back", problem.message.clone(), Some(&problem)).await?;
        self.finish(Progress::Failed(problem)).await;
        Ok(())
    }

    /// An adoption failed and the stack runs again as it was: no deployment is left behind, so that it can be adopted anew.
    async fn as_it_was(&mut self, operation: OperationRecord) -> Result<Flow, Problem> {
        let name = self.record.name.clone();
        let project = adoption::load(&self.world.store, &name)?.project;
        let why = operation.problem.as_ref().map(|p| p.message.clone()).unwrap_or_default();
        let problem = Problem::new(
            &codes::AS_IT_WAS,
            format!(
                "{} could not take over the compose project {project}, which was started again as it was: {why}",
                sentence(&operation.target)
            ),
        );
        // In one commit with the end: without the record nothing of the customer's is ours any more.
        let writes = Writes::new().remove::<AdoptionRecord>(&name);
        let record = self.record.clone();
        self.end(record, operation, writes, "as it was", problem.message.clone(), Some(&problem)).await?;
        self.forget().await?;
        self.forget_given();
        // Data stays, and the secrets that it may be of no use without.
        files::keep_only(&self.world.deployment_folder(&name), &BTreeSet::new());
        self.finish(Progress::Failed(problem)).await;
        self.collect_garbage().await;
        Ok(Flow::Over)
    }

    /// The operation is over without success. `touched`: containers of the target may be there and stay for people to look at.
    async fn give_up(
        &mut self,
        operation: OperationRecord,
        problem: Option<Problem>,
        touched: bool,
    ) -> Result<Flow, Problem> {
        let mut problem =
            problem.unwrap_or_else(|| Problem::new(&codes::INTERNAL, "given up without a cause"));
        if touched {
            problem = Problem::new(
                &codes::FAILED,
                format!("{} could not be brought up: {}", sentence(&operation.target), problem.message),
            );
        }
        self.forget_given();
        // A first installation that was refused before anything was touched leaves no deployment behind.
        let vanishes = self.record.newest == 0 && operation.origin == Origin::Local && !touched;
        let mut record = self.record.clone();
        record.last_problem = Some(StoredProblem::from(&problem));
        let mut writes = Writes::new();
        if !vanishes && (touched || !problem.code.retry) {
            writes = writes.put(&self.refusal(&operation, &problem))?;
        }
        let outcome = if touched { "failed" } else { "given up" };
        self.end(record, operation, writes, outcome, problem.message.clone(), Some(&problem)).await?;
        if vanishes {
            self.forget().await?;
        }
        self.finish(Progress::Failed(problem)).await;
        if !vanishes {
            return Ok(Flow::GoOn);
        }
        let _ = std::fs::remove_dir_all(self.world.deployment_folder(&self.record.name));
        self.collect_garbage().await;
        Ok(Flow::Over)
    }

    /// Takes the deployment out of the store and off the board.
    async fn forget(&self) -> Result<(), Problem> {
        let name = &self.record.name;
        let mut writes =
            Writes::new().remove::<DeploymentRecord>(name).remove::<super::memory::JobsRecord>(name);
        writes = writes.remove::<super::pause::PauseRecord>(name).remove::<super::drift::DriftRecord>(name);
        writes = writes.remove::<AdoptionRecord>(name);
        for generation in self.world.store.scan::<GenerationRecord>(&format!("{name}/"))? {
            writes = writes.remove::<GenerationRecord>(&generation.key());
        }
        for refused in self.world.store.scan::<RefusedRecord>(&format!("{name}/"))? {
            writes = writes.remove::<RefusedRecord>(&refused.key());
        }
        self.world.store.commit(writes).await?;
        self.world.board.deployment_gone(name);
        Ok(())
    }

    /// Nothing of the deployment is left but what was kept on purpose.
    async fn gone(&mut self, operation: OperationRecord) -> Result<Flow, Problem> {
        let name = self.record.name.clone();
        let with_volumes = operation.remove_volumes;
        let message = format!("{name} was removed");
        self.end(self.record.clone(), operation, Writes::new(), "removed", message.clone(), None).await?;
        self.forget().await?;
        let folder = self.world.deployment_folder(&name);
        let mut kept = std::mem::take(&mut self.kept);
        if with_volumes {
            // What a container's root has written there is not the agent's to remove, and it has not gone unsaid.
            kept.extend(files::remove_all(&folder).into_iter().map(|left| {
                let path = left.display();
                format!("{path}, which only root can remove: a container wrote it. `sudo rm -r {path}`")
            }));
        } else {
            // Data, and the secrets without which the data in the kept volumes is of no use, stay.
            files::keep_only(&folder, &BTreeSet::new());
            for (below, what) in [("binds", "data folder"), ("secrets", "secrets for the kept volumes")] {
                let path = folder.join(below);
                if path.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
                    kept.push(format!("{what} {}", path.display()));
                }
            }
        }
        self.finish(Progress::Done { message, deployment: None, plan: Vec::new(), kept }).await;
        self.collect_garbage().await;
        Ok(Flow::Over)
    }

    /// Ends the operation on disk, in the audit log and in the report.
    async fn end(
        &mut self,
        mut record: DeploymentRecord,
        operation: OperationRecord,
        writes: Writes,
        outcome: &str,
        message: String,
        problem: Option<&Problem>,
    ) -> Result<(), Problem> {
        self.world
            .audit(crate::audit::Event::Ended {
                deployment: record.name.clone(),
                outcome: outcome.to_owned(),
                release: operation.target.digest.clone(),
                code: problem.map(|p| p.code.id.to_owned()),
            })
            .await?;
        match problem {
            None => tracing::info!(deployment = record.name, "{message}"),
            Some(problem) => tracing::error!(deployment = record.name, code = problem.code.id, "{message}"),
        }
        record.requests.push(operation.id);
        let surplus = record.requests.len().saturating_sub(REQUESTS);
        record.requests.drain(..surplus);
        record.operation = None;
        let event = v1::Event {
            deployment: record.name.clone(),
            kind: if problem.is_some() { "refused" } else { "phase" }.to_owned(),
            message,
            problem: problem.map(Problem::to_proto),
            phase: v1::Phase::Active.into(),
            release: Some(status::release(&operation.target)),
            ..v1::Event::default()
        };
        self.world.commit_with_event(writes.put(&record)?, event).await?;
        self.record = record;
        self.course = Course::default();
        self.publish();
        Ok(())
    }

    fn refusal(&self, operation: &OperationRecord, problem: &Problem) -> RefusedRecord {
        RefusedRecord {
            deployment: self.record.name.clone(),
            release: operation.target.clone(),
            problem: StoredProblem::from(problem),
            at: stamp(&*self.world.clock),
        }
    }

    /// Whether there is a generation to go back to and the vendor's floor allows it, or a stack that was adopted meanwhile.
    async fn can_go_back(&self) -> Result<bool, Problem> {
        let Some(active) = self.generation(self.record.active)? else {
            let adoption = adoption::load(&self.world.store, &self.record.name)?;
            let can = adoption.can_be_undone(&*self.world.engine).await;
            return can.map_err(|error| Problem::from_error(error.code(), &error));
        };
        let release = &active.release;
        let trust = self.world.trust.lock().await;
        Ok(trust
            .as_ref()
            .is_none_or(|trust| trust.may_return_to(&release.product, &release.stream, release.seq).is_ok()))
    }

    /// Parameters given with a request are in no record and go when they have been taken or refused.
    fn forget_given(&self) {
        let _ = std::fs::remove_dir_all(self.world.deployment_folder(&self.record.name).join("given"));
    }

    async fn collect_garbage(&self) {
        crate::host::garbage::collect(&self.world).await;
    }
}

fn refused_key(deployment: &str, release: &ReleaseRef) -> String {
    format!("{deployment}/{}", release.digest)
}

/// A phase in words that follow the release's name.
fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Offered => "offered",
        Phase::Fetching => "fetching",
        Phase::Verified => "verified",
        Phase::Preflight => "checking this host",
        Phase::AwaitingApproval => "awaiting approval",
        Phase::AwaitingWindow => "awaiting the maintenance window",
        Phase::Snapshotting => "saving data",
        Phase::Applying => "applying",
        Phase::Gating => "waiting for health",
        Phase::RollingBack => "rolling back",
        Phase::Removing => "removing",
    }
}

/// Whether a phase is worth an event and a line in the log: what only passes through is on disk and no more.
fn is_news(phase: Phase) -> bool {
    match phase {
        Phase::Fetching | Phase::Applying | Phase::Gating | Phase::RollingBack | Phase::Removing => true,
        Phase::Offered
        | Phase::Verified
        | Phase::Preflight
        | Phase::AwaitingApproval
        | Phase::AwaitingWindow
        | Phase::Snapshotting => false,
    }
}
