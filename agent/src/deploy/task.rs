//! A deployment's task: hears requests, takes its operation from phase to phase, and hands the active
//! generation to its supervisor.
//!
//! Every phase is written to the store before its effect begins (see the table at [`Phase`] for what a restart makes
//! of it). While a phase is under way the task goes on listening: a newer release replaces one that has not
//! touched containers yet, a removal ends whatever is being done.

use std::sync::Arc;
use std::time::Duration;

use kedge_proto::v1;
use tokio::sync::mpsc;

use super::adoption;
use super::compile::{Order, compile_aside};
use super::machine;
use super::pause::{self, PauseRecord};
use super::phases::{Failed, Job};
use super::preview::redactor;
use super::status::{self, Course, sentence};
use super::supervisor::{Supervisor, Target};
use super::{Command, Install};
use crate::host::Progress;
use crate::images::release;
use crate::problem::Problem;
use crate::store::{
    DeploymentRecord, GenerationRecord, OperationRecord, Phase, RefusedRecord, generation_key,
};
use crate::watchdog::Pulse;
use crate::world::World;

/// Pause after the disk refused what must be written before anything else may happen.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// The task.
pub struct Deployment {
    pub(super) world: Arc<World>,
    /// As it is on disk.
    pub(super) record: DeploymentRecord,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) supervisor: Supervisor,
    /// The operation that was under way when the agent started: whoever asked for it waits no longer.
    pub(super) found: Option<String>,
    /// How far the operation has come.
    pub(super) course: Course,
    /// Who wants to see it happen.
    pub(super) watchers: Vec<mpsc::Sender<Progress>>,
    /// The newest request that came while containers were being changed.
    pub(super) queued: Option<Install>,
    /// What a removal left on purpose.
    pub(super) kept: Vec<String>,
    /// Nothing is to be changed.
    pub(super) paused: Option<PauseRecord>,
    /// Shows that this task is alive.
    pub(super) pulse: Pulse,
}

/// Whether the task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// There is more to come.
    GoOn,
    /// The deployment is gone, or the agent ends.
    Over,
}

/// What made a phase stop.
enum Stopped {
    Ended(Result<(), Failed>),
    Interrupted,
    Shutdown,
}

impl Deployment {
    /// A task for what the store knows.
    pub fn new(world: Arc<World>, record: DeploymentRecord, commands: mpsc::Receiver<Command>) -> Self {
        let paused = pause::load(&world.store, &record.name);
        let supervisor = Supervisor::spawn(Arc::clone(&world), record.name.clone());
        let pulse = world.pulses.pulse(format!("deployment {}", record.name));
        let found = record.operation.as_ref().map(|operation| operation.id.clone());
        Self {
            world,
            record,
            commands,
            supervisor,
            found,
            course: Course::default(),
            watchers: Vec::new(),
            queued: None,
            kept: Vec::new(),
            paused,
            pulse,
        }
    }

    /// Runs until the deployment is removed or the agent ends.
    pub async fn run(mut self) {
        if let Some(operation) = &self.record.operation {
            tracing::info!(
                deployment = self.record.name,
                "going on with {} where it was: {:?}",
                sentence(&operation.target),
                operation.phase
            );
        }
        loop {
            self.set_target().await;
            self.publish();
            let flow = match self.record.operation.clone() {
                Some(operation) => self.operate(operation).await,
                None => self.idle().await,
            };
            if flow == Flow::Over {
                self.turn_away().await;
                return;
            }
        }
    }

    /// Nothing to do but to supervise, until a request comes or the engine turns out to be another one.
    pub(super) async fn idle(&mut self) -> Flow {
        if self.record.operation.is_none()
            && let Some(install) = self.queued.take()
        {
            self.install(install).await;
            return Flow::GoOn;
        }
        let mut seen = self.supervisor.seen();
        let mut engine = self.world.engine_kind.clone();
        engine.mark_unchanged();
        loop {
            // All arms are cancel safe.
            tokio::select! {
                command = self.commands.recv() => return match command {
                    Some(command) => {
                        self.hear(command).await;
                        Flow::GoOn
                    }
                    None => Flow::Over,
                },
                never = self.pulse.answer() => match never {},
                changed = engine.changed() => return if changed.is_ok() { Flow::GoOn } else { Flow::Over },
                changed = seen.changed() => {
                    if changed.is_err() {
                        return Flow::Over;
                    }
                    self.publish();
                }
            }
        }
    }

    /// One phase of the operation: do it while listening, then write down what comes next.
    async fn operate(&mut self, operation: OperationRecord) -> Flow {
        if self.must_wait(&operation) {
            return self.wait_while_paused(&operation).await;
        }
        self.world.hooks.entered(&self.record.name, operation.phase).await;
        let result = match self.perform(&operation).await {
            Stopped::Shutdown => return Flow::Over,
            Stopped::Interrupted => return Flow::GoOn,
            Stopped::Ended(result) => result,
        };
        match self.conclude(operation, result).await {
            Ok(flow) => flow,
            Err(problem) => {
                // Nothing may happen that is not on disk; what the disk refused is tried again.
                tracing::error!(deployment = self.record.name, %problem, "the operation cannot go on");
                self.pause(DISK_PAUSE, false).await
            }
        }
    }

    /// Does the phase's work and listens meanwhile.
    async fn perform(&mut self, operation: &OperationRecord) -> Stopped {
        let (course, mut courses) = mpsc::channel(32);
        let job = self.job(operation, course);
        let phase = operation.phase;
        let work = async move {
            match phase {
                Phase::Fetching => job.fetch().await.map(|()| Vec::new()),
                Phase::Verified => job.verify().map(|()| Vec::new()),
                Phase::Preflight => job.preflight().await.map(|()| Vec::new()),
                Phase::Applying => job.apply().await.map(|()| Vec::new()),
                Phase::Gating => job.gate().await.map(|()| Vec::new()),
                Phase::RollingBack => job.roll_back().await.map(|()| Vec::new()),
                Phase::Removing => job.remove().await,
                // Approval, windows and snapshots have their place; nothing asks for them yet.
                Phase::Offered | Phase::AwaitingApproval | Phase::AwaitingWindow | Phase::Snapshotting => {
                    Ok(Vec::new())
                }
            }
        };
        tokio::pin!(work);
        let mut seen = self.supervisor.seen();
        loop {
            // `work` is dropped only on an interruption by a removal or by a newer release before containers are
            // touched; whatever it was doing is found and finished by the next plan. The other arms are cancel safe.
            tokio::select! {
                result = &mut work => {
                    return Stopped::Ended(result.map(|kept| self.kept = kept));
                }
                never = self.pulse.answer() => match never {},
                Some(course) = courses.recv() => {
                    self.course = course;
                    self.publish();
                    self.show(phase);
                }
                changed = seen.changed() => {
                    if changed.is_ok() {
                        self.publish();
                    }
                }
                command = self.commands.recv() => match command {
                    None => return Stopped::Shutdown,
                    Some(command) => {
                        if self.hear(command).await {
                            return Stopped::Interrupted;
                        }
                    }
                },
            }
        }
    }

    pub(super) fn job(&self, operation: &OperationRecord, course: mpsc::Sender<Course>) -> Job {
        Job {
            world: Arc::clone(&self.world),
            record: self.record.clone(),
            operation: operation.clone(),
            turn: self.supervisor.turn(),
            course,
        }
    }

    /// Tells the supervisor what to keep: the active generation, or while containers are being changed, what to look at.
    pub(super) async fn set_target(&self) {
        let target = match self.target().await {
            Ok(target) => target,
            Err(problem) => {
                tracing::error!(deployment = self.record.name, %problem, "the active generation cannot be supervised");
                None
            }
        };
        self.supervisor.keep(target);
    }

    async fn target(&self) -> Result<Option<Target>, Problem> {
        let phase = self.record.operation.as_ref().map(|o| o.phase);
        let changing = phase.is_some_and(machine::touches_containers);
        let generation = match (&self.record.operation, phase) {
            (Some(operation), Some(Phase::Applying | Phase::Gating)) => operation.generation,
            (_, Some(Phase::Removing)) => None,
            // After a first release that failed, what is there of it is shown and left alone.
            (None, _) if self.record.active.is_none() && self.record.newest > 0 => Some(self.record.newest),
            _ => self.record.active,
        };
        let Some(generation) = self.generation(generation)? else { return Ok(None) };
        let Some(info) = self.world.engine_kind.borrow().clone() else { return Ok(None) };
        let digest = release::parse_digest(&generation.release.digest)?;
        let order = Order {
            deployment: self.record.name.clone(),
            generation: generation.number,
            parameters: generation.parameters,
            features: generation.features,
            loaded: release::load(&self.world.content, &digest)?,
            engine: info.clone(),
            dry_run: false,
            adoption: None,
        };
        let compiled = Arc::new(compile_aside(&self.world, order).await?);
        let act = !changing && self.record.active.is_some() && self.paused.is_none();
        let redactor = Arc::new(redactor(&self.world, &self.record.name)?);
        Ok(Some(Target { compiled, redactor, act }))
    }

    pub(super) fn generation(&self, number: Option<u64>) -> Result<Option<GenerationRecord>, Problem> {
        let Some(number) = number else { return Ok(None) };
        self.world.store.get(&generation_key(&self.record.name, number))
    }

    pub(super) fn refused(&self) -> Vec<RefusedRecord> {
        self.world.store.scan(&format!("{}/", self.record.name)).unwrap_or_default()
    }

    pub(super) fn status(&self) -> v1::DeploymentStatus {
        let active = self.generation(self.record.active).ok().flatten();
        let seen = self.supervisor.seen();
        let seen = seen.borrow();
        let adoption = adoption::load(&self.world.store, &self.record.name);
        let project = adoption.map_or_else(|_| self.record.name.clone(), |adoption| adoption.project);
        let known = status::Known {
            active: active.as_ref(),
            project: &project,
            refused: &self.refused(),
            paused: self.paused.as_ref(),
            seen: &seen,
            course: &self.course,
        };
        status::of(&self.record, &known)
    }

    pub(super) fn publish(&self) {
        self.world.board.deployment(self.status());
    }

    /// Tells those who watch the operation where it is. Slow watchers miss steps, never the end.
    pub(super) fn show(&self, phase: Phase) {
        let step = Progress::Step {
            phase: status::phase(phase),
            message: self.course.step.clone(),
            done_bytes: self.course.done_bytes,
            total_bytes: self.course.total_bytes,
        };
        for watcher in &self.watchers {
            let _ = watcher.try_send(step.clone());
        }
    }

    pub(super) async fn finish(&mut self, last: Progress) {
        for watcher in self.watchers.drain(..) {
            let _ = tokio::time::timeout(Duration::from_secs(5), watcher.send(last.clone())).await;
        }
    }
}
