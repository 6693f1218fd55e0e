//! What each phase of an operation does. Each is idempotent: done again after a crash, it finds what was done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::acceptance::{bases, room};
use super::adoption::{self, AdoptionRecord};
use super::compile::{Compiled, Order, compile_aside, split_secrets};
use super::memory;
use super::permission::permitted;
use super::ports;
use super::preview::redactor;
use super::secrets::Secrets;
use super::status::{Course, sentence};
use crate::apply::{self, Failure, Outcome};
use crate::codes;
use crate::engine::error::Kind;
use crate::engine::observe::observe;
use crate::engine::types::{EngineInfo, Filter};
use crate::guard;
use crate::images::intake::{OnBytes, Room};
use crate::images::room::share;
use crate::images::{Loaded, load, release};
use crate::licence;
use crate::plan::rollout::OnFailure;
use crate::plan::{self, Desired, Plan, Policy};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, GenerationRecord, OperationRecord, generation_key};
use crate::world::World;

/// How long an engine may take that has never answered yet, before it counts as away.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Passes of planning and applying before something that keeps differing is a failure.
const PASSES: usize = 4;

/// A phase that did not end well.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Why.
    pub problem: Problem,
    /// Another try, later, may succeed.
    pub passing: bool,
    /// The engine is away: waited for, and no fault of the release.
    pub engine_away: bool,
    /// Part of the release is not here any more, or was damaged here: it has to be fetched again.
    pub lacking: bool,
    /// The service that is to blame, if its `failure_action` asks for a pause instead of going back.
    pub pauses: Option<String>,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        let engine_away = problem.code.exit == kedge_bundle::codes::exit::ENGINE && problem.code.retry;
        Self { passing: problem.code.retry, engine_away, lacking: false, problem, pauses: None }
    }
}

impl From<crate::engine::Error> for Failed {
    fn from(error: crate::engine::Error) -> Self {
        let engine_away = error.is_engine_away();
        let problem = Problem::from_error(error.code(), &error);
        let lacking = error.kind == Kind::Blob;
        Self { problem, passing: error.code().retry, engine_away, lacking, pauses: None }
    }
}

/// What a phase works with: copies, so that the task can listen meanwhile.
#[derive(Clone)]
pub struct Job {
    /// Surroundings.
    pub world: Arc<World>,
    /// The deployment as the store has it.
    pub record: DeploymentRecord,
    /// Its operation.
    pub operation: OperationRecord,
    /// Held by whoever changes containers.
    pub turn: Arc<Mutex<()>>,
    /// How far it has come.
    pub course: mpsc::Sender<Course>,
}

impl Job {
    pub(super) fn say(&self, step: impl Into<String>) {
        // A course that nobody reads fast enough is only less smooth.
        let _ = self.course.try_send(Course { step: step.into(), ..Course::default() });
    }

    pub(super) fn on_bytes(&self, step: String) -> OnBytes {
        let course = self.course.clone();
        let told = std::sync::atomic::AtomicU64::new(0);
        Arc::new(move |done_bytes, total_bytes| {
            // About a hundred times in all.
            let before = told.load(std::sync::atomic::Ordering::Relaxed);
            if done_bytes >= total_bytes || done_bytes - before.min(done_bytes) > total_bytes / 100 {
                told.store(done_bytes, std::sync::atomic::Ordering::Relaxed);
                let _ = course.try_send(Course { step: step.clone(), done_bytes, total_bytes });
            }
        })
    }

    /// The engine, which after a start of the agent may need a moment for its first answer.
    pub(super) async fn engine(&self) -> Result<EngineInfo, Failed> {
        let mut kind = self.world.engine_kind.clone();
        let answered = kind.wait_for(Option::is_some);
        let _ = tokio::time::timeout(FIRST_ANSWER, answered).await;
        let away =
            |problem| Failed { problem, passing: true, engine_away: true, lacking: false, pauses: None };
        self.world.engine_info().map_err(away)
    }

    pub(super) fn loaded(&self, digest: &str) -> Result<Loaded, Problem> {
        release::load(&self.world.content, &release::parse_digest(digest)?)
    }

    pub(super) fn active(&self) -> Result<Option<GenerationRecord>, Problem> {
        let key = self.record.active.map(|number| generation_key(&self.record.name, number));
        Ok(key.map(|key| self.world.store.get::<GenerationRecord>(&key)).transpose()?.flatten())
    }

    /// Parameters given with the request, made permanent: the record holds them, and references to those that are secrets.
    pub fn absorb_given(&self) -> Result<Option<OperationRecord>, Failed> {
        let folder = self.world.deployment_folder(&self.record.name);
        let given = Secrets::open(folder.join("given"))?;
        let values = given.all()?;
        if values.is_empty() {
            return Ok(None);
        }
        let loaded = self.loaded(&self.operation.target.digest)?;
        let values = values.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
        let (plain, secret) = split_secrets(&loaded.listing.product, values);
        let secrets = Secrets::open(folder.join("secrets"))?;
        let mut operation = self.operation.clone();
        for (name, value) in &secret {
            operation.parameters.insert(name.clone(), secrets.keep_new(name, value)?);
        }
        operation.parameters.extend(plain);
        Ok(Some(operation))
    }

    /// Can this host run it? Changes nothing.
    pub async fn preflight(&self) -> Result<(), Failed> {
        self.say("checking whether this host can run it");
        let info = self.engine().await?;
        let loaded = self.loaded(&self.operation.target.digest)?;
        room(&self.world).check(0, self.missing_bytes(&loaded).await?)?;
        let compiled = self.compile(&loaded, &info, self.record.newest + 1, true).await?;
        for warning in &compiled.warnings {
            tracing::warn!(deployment = self.record.name, "{warning}");
        }
        let (product, target) = (&loaded.listing.product, &self.operation.target.digest);
        permitted(&self.world, &self.record, product, target, &compiled).await?;
        let observed = observe(&*self.world.engine, &compiled.desired.scope()).await?;
        let others = guard::others_volumes(&self.world.rules, &compiled.desired, &observed.volumes);
        if !others.is_empty() {
            return Err(Problem::new(&codes::GUARD, others.join("; ")).into());
        }
        let ours = self.adoption()?.containers(&*self.world.engine).await?;
        let taken = ports::taken(&compiled.ports, &ours.iter().collect::<Vec<_>>());
        if !taken.is_empty() {
            return Err(Problem::new(&codes::PORT_TAKEN, taken.join("; ")).into());
        }
        let memory = memory::load(&self.world.store, &self.record.name)?;
        let plan = plan::plan(&compiled.desired, &observed, &memory, Policy::default());
        if !plan.is_whole() {
            let why = plan.blocked.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(Problem::new(&codes::PREFLIGHT, why).into());
        }
        Ok(())
    }

    /// Brings the engine to the target.
    pub async fn apply(&self) -> Result<(), Failed> {
        let info = self.engine().await?;
        let loaded = self.loaded(&self.operation.target.digest)?;
        let generation = self.operation.generation.unwrap_or(self.record.newest);
        let compiled = self.compile(&loaded, &info, generation, false).await?;
        let _turn = self.turn.lock().await;
        self.load_images(&compiled, &info).await?;
        // What was adopted is kept, stopped, until the new ones have proven themselves, though no generation made it.
        let keep_superseded = self.is_update() || self.adoption()?.is_adopted();
        let policy = Policy { keep_superseded, ..Policy::default() };
        self.converge(&compiled.desired, policy).await
    }

    /// Is the target healthy, and does it stay so?
    pub async fn gate(&self) -> Result<(), Failed> {
        let info = self.engine().await?;
        let loaded = self.loaded(&self.operation.target.digest)?;
        let generation = self.operation.generation.unwrap_or(self.record.newest);
        let compiled = self.compile(&loaded, &info, generation, false).await?;
        let _turn = self.turn.lock().await;
        self.say("waiting until every service is healthy");
        self.healthy(&compiled, Policy::default()).await?;
        // What was kept to go back to is let go of; should that fail, the supervisor sees to it.
        if let Err(failed) = self.converge(&compiled.desired, Policy::default()).await {
            tracing::warn!(deployment = self.record.name, problem = %failed.problem, "could not tidy up");
        }
        Ok(())
    }

    /// Brings the engine back to the previous generation, or to the stack that was to be adopted.
    pub async fn roll_back(&self) -> Result<(), Failed> {
        let info = self.engine().await?;
        let Some(active) = self.record.active else { return self.as_it_was().await };
        let key = generation_key(&self.record.name, active);
        let generation = self.world.store.get::<GenerationRecord>(&key)?.ok_or_else(|| {
            Problem::new(&codes::INTERNAL, format!("generation {active} of {} is gone", self.record.name))
        })?;
        let loaded = self.loaded(&generation.release.digest)?;
        let job = Self {
            operation: OperationRecord {
                parameters: generation.parameters.clone(),
                ..self.operation.clone()
            },
            ..self.clone()
        };
        let compiled = job.compile(&loaded, &info, active, false).await?;
        let _turn = self.turn.lock().await;
        self.say(format!("going back to {}", sentence(&generation.release)));
        self.load_images(&compiled, &info).await?;
        let policy = Policy { going_back: true, ..Policy::default() };
        self.converge(&compiled.desired, policy).await?;
        self.healthy(&compiled, policy).await
    }

    /// Removes containers and networks; volumes only where a person on this host said so.
    pub async fn remove(&self) -> Result<Vec<String>, Failed> {
        let _turn = self.turn.lock().await;
        self.say("removing containers and networks");
        self.engine().await?;
        let name = &self.record.name;
        let adoption = self.adoption()?;
        let nothing =
            Desired { adopted: adoption.adopted.clone(), ..Desired::nothing(name, &adoption.project) };
        self.converge(&nothing, Policy::default()).await?;
        let mut kept = Vec::new();
        let mut volumes = self.world.engine.list_volumes(&Filter::deployment(name)).await?;
        if !adoption.adopted.volumes.is_empty() {
            let named = self.world.engine.list_volumes(&Filter::names(adoption.adopted.volumes)).await?;
            volumes.extend(named.into_iter().filter(|volume| volume.deployment() != Some(name)));
        }
        for volume in volumes {
            let is_ours = volume.deployment() == Some(name) || volume.is_adoptable(name, &adoption.project);
            if !is_ours {
                kept.push(format!("volume {}, which somebody else has made anew", volume.name));
            } else if self.operation.remove_volumes {
                self.say(format!("removing volume {}", volume.name));
                self.world.engine.remove_volume(&volume.name).await?;
            } else {
                kept.push(format!("volume {}", volume.name));
            }
        }
        Ok(kept)
    }

    pub(super) fn adoption(&self) -> Result<AdoptionRecord, Problem> {
        adoption::load(&self.world.store, &self.record.name)
    }

    async fn compile(
        &self,
        loaded: &Loaded,
        info: &EngineInfo,
        generation: u64,
        dry_run: bool,
    ) -> Result<Compiled, Failed> {
        let made =
            self.world.store.get::<GenerationRecord>(&generation_key(&self.record.name, generation))?;
        let features = match made {
            Some(made) => made.features,
            None => licence::features(&self.world, &loaded.listing.product).await?,
        };
        let order = Order {
            deployment: self.record.name.clone(),
            generation,
            parameters: self.operation.parameters.clone(),
            loaded: loaded.clone(),
            engine: info.clone(),
            features,
            dry_run,
            adoption: None,
        };
        Ok(compile_aside(&self.world, order).await?)
    }

    async fn load_images(&self, compiled: &Compiled, info: &EngineInfo) -> Result<(), Failed> {
        let blobs: Arc<dyn load::Blobs> = Arc::new(self.world.content.clone());
        let progress = self.on_bytes("giving images to the engine".to_owned());
        load::ensure(&self.world.engine, info, &compiled.images, &blobs, &progress).await?;
        // The engine holds these layers now; a second copy would only fill the disk.
        for layer in compiled.images.iter().flat_map(|image| &image.layers) {
            self.world.content.remove_blob(&layer.digest);
            self.world.content.remove_blob(&layer.diff_id);
        }
        Ok(())
    }

    /// Whether the engine lacks any image: asked by name, before all that it has is listed.
    pub(super) async fn lacks_images(&self, loaded: &Loaded) -> Result<bool, Failed> {
        let (store, images) = (self.engine().await?.store, &loaded.listing.images);
        Ok(!load::lacking(&*self.world.engine, store, images).await?.is_empty())
    }

    /// Bytes that the engine will still have to take.
    async fn missing_bytes(&self, loaded: &Loaded) -> Result<u64, Failed> {
        if !self.lacks_images(loaded).await? {
            return Ok(0);
        }
        let needs = bases(&self.world).needs_in_engine(&loaded.listing.images).await?;
        // It keeps what it is sent until it has unpacked it.
        Ok(share(loaded.release.unpacked_bytes, needs.loaded, needs.all).saturating_add(needs.loaded))
    }

    /// Observes, plans and applies until there is nothing left to do.
    async fn converge(&self, desired: &Desired, policy: Policy) -> Result<(), Failed> {
        let world = &self.world;
        let mut last = None;
        for _ in 0..PASSES {
            let observed = observe(&*world.engine, &desired.scope()).await?;
            let mut memory = memory::load(&world.store, &self.record.name)?;
            if memory::learn(&mut memory, desired, &observed) {
                memory::save(&world.store, &self.record.name, &memory).await?;
            }
            let plan = plan::plan(desired, &observed, &memory, policy);
            // The supervisor sees the containers off that others have taken over from, once the operation is over.
            if plan.is_settled() && plan.is_whole() {
                return Ok(());
            }
            if plan.is_settled() {
                let why = plan.blocked.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return Err(Problem::new(&codes::APPLY, why).into());
            }
            last = plan.steps.first().map(ToString::to_string);
            let outcome = self.carry_out(&plan).await;
            let is_borne =
                |failure: &&Failure| self.on_failure(desired, failure, policy) == OnFailure::Continue;
            let (borne, failures): (Vec<&Failure>, Vec<&Failure>) = outcome.failures().partition(is_borne);
            if !failures.is_empty() {
                return Err(self.failed_by(&failures, desired, policy));
            }
            if !borne.is_empty() {
                let deployment = &self.record.name;
                tracing::warn!(deployment, "going on all the same, as `failure_action: continue` asks");
                return Ok(());
            }
        }
        let what = last.unwrap_or_default();
        Err(Problem::new(&codes::APPLY, format!("it keeps differing from what is wanted: {what}")).into())
    }

    /// Applies a plan, telling each step; the ends of containers that others have taken over from are not waited for.
    pub(super) async fn carry_out(&self, plan: &Plan) -> Outcome {
        let world = &self.world;
        let options = apply::Options {
            parallel: world.config.limits.parallel_steps,
            leave_aftermath: true,
            ..apply::Options::default()
        };
        let mut progress = |progress: apply::Progress<'_>| {
            if let apply::Progress::Began(step) = progress {
                tracing::info!(deployment = self.record.name, service = step.service, "{step}");
                self.say(step.action.to_string());
            }
        };
        let cancel = CancellationToken::new();
        apply::apply(&world.engine, &world.events, plan, options, &cancel, &mut progress).await
    }

    async fn healthy(&self, compiled: &Compiled, policy: Policy) -> Result<(), Failed> {
        let memory = memory::load(&self.world.store, &self.record.name)?;
        let gate = apply::Gate { timeout: compiled.gate.timeout(), settle: Duration::from_secs(2) };
        let (engine, events) = (&self.world.engine, &self.world.events);
        let mut desired = compiled.desired.clone();
        desired.containers.retain(|_, wanted| {
            self.on_failure_of(Some(&wanted.service), &compiled.desired, policy) != OnFailure::Continue
        });
        match apply::wait_converged(engine, events, &desired, &memory, gate).await {
            Ok(()) => {
                let observed = observe(&**engine, &compiled.desired.scope()).await?;
                let mut memory = memory;
                if memory::learn(&mut memory, &compiled.desired, &observed) {
                    memory::save(&self.world.store, &self.record.name, &memory).await?;
                }
                Ok(())
            }
            Err(failures) => Err(self.failed_by(&failures.iter().collect::<Vec<_>>(), &desired, policy)),
        }
    }

    /// The problem of what failed; it is passing only if all of it is. What containers said last is in it as far as the
    /// customer's rules let it be told, without secrets.
    fn failed_by(&self, failures: &[&Failure], desired: &Desired, policy: Policy) -> Failed {
        let redactor = redactor(&self.world, &self.record.name).ok();
        let quotes = redactor.is_some() && self.world.rules.reports.log_lines > 0;
        let sentence = |failure: &&Failure| {
            let silent = Failure { output: Vec::new(), ..Failure::clone(failure) };
            if quotes { failure.to_string() } else { silent.to_string() }
        };
        let message = failures.iter().map(sentence).collect::<Vec<_>>().join("; ");
        let message = redactor.map_or(message.clone(), |redactor| redactor.text(&message));
        let engine_away = failures.iter().any(|failure| failure.is_engine_away());
        let lasting = failures.iter().find(|failure| !failure.code().retry);
        let code = lasting.or(failures.first()).map_or(&codes::APPLY, |failure| failure.code());
        Failed {
            problem: Problem::new(code, message),
            passing: engine_away || lasting.is_none(),
            engine_away,
            lacking: false,
            pauses: failures
                .iter()
                .find(|failure| self.on_failure(desired, failure, policy) == OnFailure::Pause)
                .and_then(|failure| failure.service.clone()),
        }
    }

    /// Something ran before: `update_config` has a meaning.
    fn is_update(&self) -> bool {
        self.record.active.is_some()
    }

    /// What `deploy.update_config`, or `rollback_config` on the way back, says of a failure.
    fn on_failure(&self, desired: &Desired, failure: &Failure, policy: Policy) -> OnFailure {
        self.on_failure_of(failure.service.as_ref(), desired, policy)
    }

    fn on_failure_of(&self, service: Option<&String>, desired: &Desired, policy: Policy) -> OnFailure {
        let service = service.and_then(|name| desired.services.get(name)).filter(|_| self.is_update());
        service.map_or(OnFailure::Rollback, |service| service.rollout(policy.going_back).on_failure)
    }
}
