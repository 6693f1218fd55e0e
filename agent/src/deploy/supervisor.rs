//! Keeps a deployment as its target says, and tells how its services are.
//!
//! Level-triggered: an event, a new target or a due pause wakes it; it observes, plans and applies until the plan is
//! empty. Waiting is on events, never on a tick. While an operation holds the deployment's turn it only looks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kedge_proto::v1;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compile::Compiled;
use super::crashes::{self, Crashes};
use super::drift::{DriftRecord, End, Fights, Findings, Witness};
use super::memory;
use super::status::Seen;
use crate::apply::{self, Outcome};
use crate::audit;
use crate::clock::stamp;
use crate::engine::observe::Watcher;
use crate::engine::types::LogQuery;
use crate::health::services;
use crate::plan::{self, Desired, Plan, Policy, Scope};
use crate::redact::Redactor;
use crate::store::Writes;
use crate::watchdog::Pulse;
use crate::world::World;

/// Pause before a plan that failed is tried again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Most lines of a log that a report quotes, their longest length, and the time that fetching them may take.
const MOST_LINES: u8 = 20;
const LONGEST_LINE: usize = 300;
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// The longest that one pass may take. It may wait for images to load and for services to get healthy in turn.
const LONGEST_PASS: Duration = Duration::from_secs(3600);

/// What a supervisor is to keep.
#[derive(Debug, Clone)]
pub struct Target {
    /// What should be there.
    pub compiled: Arc<Compiled>,
    /// Knows the deployment's secrets.
    pub redactor: Arc<Redactor>,
    /// Put right what differs, or only look.
    pub act: bool,
}

/// A running supervisor, from outside. Dropping it ends the task.
pub struct Supervisor {
    target: watch::Sender<Option<Target>>,
    seen: watch::Receiver<Seen>,
    turn: Arc<Mutex<()>>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts one that has nothing to keep yet.
    pub fn spawn(world: Arc<World>, deployment: String) -> Self {
        let (target, targets) = watch::channel(None);
        let last_drift = world.store.get::<DriftRecord>(&deployment).ok().flatten();
        let nothing = Seen { last_drift: last_drift.map(|drift| drift.to_proto()), ..Seen::default() };
        let (seen_sender, seen) = watch::channel(nothing);
        let turn = Arc::new(Mutex::new(()));
        let watcher = Watcher::new(Arc::clone(&world.engine), &world.events, Scope::default());
        let pulse = world.pulses.pulse(format!("supervisor of {deployment}"));
        let task = Task {
            world,
            deployment,
            targets,
            seen: seen_sender,
            turn: Arc::clone(&turn),
            watcher,
            witness: Witness::default(),
            crashes: Crashes::default(),
            fights: Fights::default(),
            failures: 0,
            acted: false,
        };
        Self { target, seen, turn, task: tokio::spawn(task.run(pulse)) }
    }

    /// What is to be kept from now on.
    pub fn keep(&self, target: Option<Target>) {
        self.target.send_replace(target);
    }

    /// What it sees, now and after every change.
    pub fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Whoever changes containers holds this. Set a target that does not `act` first: the supervisor then ends what it is
    /// doing and lets go.
    pub fn turn(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.turn)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    world: Arc<World>,
    deployment: String,
    targets: watch::Receiver<Option<Target>>,
    seen: watch::Sender<Seen>,
    turn: Arc<Mutex<()>>,
    watcher: Watcher,
    witness: Witness,
    crashes: Crashes,
    fights: Fights,
    failures: u32,
    /// The last pass was allowed to act.
    acted: bool,
}

impl Task {
    async fn run(mut self, mut pulse: Pulse) {
        let mut why = "start".to_owned();
        loop {
            let target = self.targets.borrow_and_update().clone();
            tracing::debug!(deployment = self.deployment, why, "looking");
            let again = match &target {
                None => {
                    self.seen.send_modify(|seen| {
                        *seen = Seen { last_drift: seen.last_drift.take(), ..Seen::default() };
                    });
                    None
                }
                Some(target) => pulse.work(LONGEST_PASS, self.pass(target)).await,
            };
            let pause = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // All arms are cancel safe: the watcher keeps what it has heard, the watch channel its last value.
            why = tokio::select! {
                wake = self.watcher.changed(), if target.is_some() => format!("{wake:?}"),
                changed = self.targets.changed() => match changed {
                    Ok(()) => "new target".to_owned(),
                    Err(_) => return,
                },
                () = pause => "pause is over".to_owned(),
                never = pulse.answer() => match never {},
            };
        }
    }

    /// Looks once and puts right what differs. Gives the moment to look again though nothing happens.
    async fn pass(&mut self, target: &Target) -> Option<Instant> {
        self.watcher.set_scope(target.compiled.desired.scope());
        if target.act && !self.acted {
            // What was seen while others changed it may be half of the truth: their events come a little later.
            self.watcher.invalidate();
        }
        self.acted = target.act;
        let mut memory = match memory::load(&self.world.store, &self.deployment) {
            Ok(memory) => memory,
            Err(problem) => {
                tracing::error!(deployment = self.deployment, %problem, "what is remembered cannot be read");
                return Some(Instant::now() + PAUSES.1);
            }
        };
        let observed = match self.watcher.observe().await {
            Ok(observed) => observed.clone(),
            Err(error) => {
                self.seen.send_if_modified(|seen| !std::mem::replace(&mut seen.engine_away, true));
                // The engine's return is an event; anything else is worth another look.
                return (!error.is_engine_away()).then(|| self.pause_after_failure());
            }
        };
        let desired = &target.compiled.desired;
        if memory::learn(&mut memory, desired, &observed)
            && let Err(problem) = memory::save(&self.world.store, &self.deployment, &memory).await
        {
            tracing::warn!(deployment = self.deployment, %problem, "a finished job could not be remembered");
        }
        self.listen(target).await;
        if !self.watcher.is_current() {
            // The engine went away meanwhile: a request may have waited for the next one to answer.
            return Some(Instant::now());
        }
        memory.held = self.crashes.held(Instant::now());
        self.show(target, &observed, &memory);
        if !target.act {
            return None;
        }
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().await;
        if self.targets.has_changed().unwrap_or(true) {
            return Some(Instant::now());
        }
        let plan = plan::plan(desired, &observed, &memory, Policy::default());
        for blocked in &plan.blocked {
            tracing::debug!(deployment = self.deployment, "{blocked}");
        }
        let restarted = self.witness.take_restarted();
        if !restarted.is_empty() {
            let what = restarted.iter().map(|name| format!("{name} was restarted by somebody")).collect();
            self.note_drift(what, "seen").await;
        }
        if plan.is_empty() {
            self.failures = 0;
            self.witness.all_is_well();
            return self.crashes.next_due(Instant::now());
        }
        if let Some(due) = self.fights.wait_until(Instant::now()) {
            tracing::warn!(deployment = self.deployment, "somebody undoes what is put right; waiting");
            return Some(due);
        }
        let outcome = self.put_right(target, &plan, &memory).await;
        self.watcher.invalidate();
        if outcome.is_done() || outcome.was_cancelled() {
            self.failures = 0;
            Some(Instant::now())
        } else if outcome.engine_went_away() {
            None
        } else {
            Some(self.pause_after_failure())
        }
    }

    /// Takes in what the events say of who did what, also while only looking: what an operation stops it starts again, and
    /// what somebody does while the deployment is paused is put right later.
    async fn listen(&mut self, target: &Target) {
        self.watcher.heard().iter().for_each(|signal| self.witness.hear(signal));
        let desired = &target.compiled.desired;
        let ends = self.witness.take_ends();
        for end in ends.iter().filter(|end| counts(desired, end)) {
            let at = stamp(&*self.world.clock);
            let begins = self.crashes.ended(&end.service, end.code, Instant::now(), &at);
            if self.crashes.of(&end.service).is_some() {
                let output = self.last_lines(&end.id, &target.redactor).await;
                self.crashes.said(&end.service, output);
            }
            if let Some(crash) = self.crashes.of(&end.service).filter(|_| begins) {
                let message = crashes::sentence(&end.service, &crash);
                self.tell("crash-loop", message, Some(audit_of(&self.deployment, &end.service, &crash)))
                    .await;
            }
        }
        for service in self.crashes.calmed(Instant::now()) {
            let message = format!("{service} runs again and has not ended for a while");
            let over = audit_of(&self.deployment, &service, &v1::CrashLoop::default());
            self.tell("crash-loop", message, Some(over)).await;
        }
    }

    /// What a container said last, as far as the customer's rules let it be told.
    async fn last_lines(&self, id: &str, redactor: &Redactor) -> Vec<String> {
        let most = u64::from(self.world.rules.reports.log_lines.min(MOST_LINES));
        if most == 0 {
            return Vec::new();
        }
        let query = LogQuery { tail: Some(most), ..LogQuery::default() };
        let read = async {
            let mut output = Vec::new();
            if let Ok(mut lines) = self.world.engine.logs(id, &query).await {
                while let Some(Ok(line)) = lines.next().await {
                    let text = redactor.text(&line.text);
                    output.push(text.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect());
                }
            }
            output
        };
        // An engine that does not give its logs must not hold up the news.
        tokio::time::timeout(LOG_PATIENCE, read).await.unwrap_or_default()
    }

    async fn put_right(&mut self, target: &Target, plan: &Plan, memory: &plan::Memory) -> Outcome {
        for step in &plan.steps {
            tracing::info!(deployment = self.deployment, service = step.service, "{step}");
        }
        let findings = self.witness.findings(plan);
        self.witness.expect(plan);
        // Nothing depends on this being on disk first, and a service that is down must not wait for a disk.
        let outcome = {
            let (world, deployment) = (Arc::clone(&self.world), self.deployment.clone());
            let telling = tell_findings(&world, &deployment, &findings);
            let applying = self.apply(target, plan, memory);
            tokio::join!(applying, telling).0
        };
        if !findings.drift.is_empty() {
            self.fights.another(Instant::now());
            let outcome = if outcome.is_done() { "put right" } else { "failed" };
            self.keep_drift(findings.drift, outcome).await;
        }
        outcome
    }

    async fn apply(&mut self, target: &Target, plan: &Plan, memory: &plan::Memory) -> Outcome {
        // Seeing old containers off takes its time. It is done when nothing else is to be done, and ends when something is.
        let only_aftermath = plan.is_settled();
        let options = apply::Options {
            parallel: self.world.config.limits.parallel_steps,
            leave_aftermath: !only_aftermath,
            ..apply::Options::default()
        };
        let cancel = CancellationToken::new();
        let mut ignore = |_: apply::Progress<'_>| {};
        let world = Arc::clone(&self.world);
        let work = apply::apply(&world.engine, &world.events, plan, options, &cancel, &mut ignore);
        tokio::pin!(work);
        loop {
            // `work` is polled to its end, also when cancelled: requests under way are seen through.
            tokio::select! {
                outcome = &mut work => return outcome,
                _ = self.watcher.changed() => {
                    if let Ok(observed) = self.watcher.observe().await {
                        let observed = observed.clone();
                        self.show(target, &observed, memory);
                        let now = plan::plan(&target.compiled.desired, &observed, memory, Policy::default());
                        if only_aftermath && concerns_others(&now, plan) {
                            cancel.cancel();
                        }
                    }
                }
                _ = self.targets.changed(), if !cancel.is_cancelled() => {
                    self.targets.mark_changed();
                    cancel.cancel();
                }
            }
        }
    }

    /// Somebody changed something that leaves nothing to do.
    async fn note_drift(&mut self, what: Vec<String>, outcome: &str) {
        let findings = Findings { drift: what.clone(), ended: Vec::new() };
        tell_findings(&self.world, &self.deployment, &findings).await;
        self.keep_drift(what, outcome).await;
    }

    /// For the status, also after a restart.
    async fn keep_drift(&mut self, what: Vec<String>, outcome: &str) {
        let record = DriftRecord {
            deployment: self.deployment.clone(),
            at: stamp(&*self.world.clock),
            what,
            outcome: outcome.to_owned(),
        };
        self.seen.send_modify(|seen| seen.last_drift = Some(record.to_proto()));
        let written = async { self.world.store.commit(Writes::new().put(&record)?).await };
        if let Err(problem) = written.await {
            tracing::warn!(deployment = self.deployment, %problem, "what was put right could not be written down");
        }
    }

    async fn tell(&self, kind: &str, message: String, audit: Option<audit::Event>) {
        tracing::warn!(deployment = self.deployment, "{message}");
        tell(&self.world, &self.deployment, kind, message, audit).await;
    }

    fn show(&self, target: &Target, observed: &plan::Observed, memory: &plan::Memory) {
        let compiled = &target.compiled;
        let mut services = services::services(&compiled.desired, observed, memory, &compiled.references);
        for service in &mut services {
            service.crash_loop = self.crashes.of(&service.name);
            // Health checks say what they like.
            service.message = target.redactor.text(&service.message);
        }
        self.seen.send_if_modified(|seen| {
            let now = Seen { services, engine_away: false, last_drift: seen.last_drift.clone() };
            let changed = *seen != now;
            *seen = now;
            changed
        });
    }

    fn pause_after_failure(&mut self) -> Instant {
        self.failures = self.failures.saturating_add(1);
        Instant::now() + backoff(self.failures, PAUSES.0, PAUSES.1)
    }
}

/// Whether an end by itself is one too many: jobs and what need not run on may end well.
fn counts(desired: &Desired, end: &End) -> bool {
    let Some(service) = desired.services.get(&end.service) else { return false };
    let restarts = || {
        let wanted = desired.containers.values().find(|wanted| wanted.service == end.service);
        wanted.is_some_and(|wanted| wanted.engine_restarts(end.code))
    };
    end.code != 0 || (!service.is_job && (service.is_server || restarts()))
}

fn audit_of(deployment: &str, service: &str, crash: &v1::CrashLoop) -> audit::Event {
    audit::Event::CrashLoop {
        deployment: deployment.to_owned(),
        service: service.to_owned(),
        count: crash.count,
        exit_code: crash.exit_code,
    }
}

/// For the log, the audit log and the report: what was found and is being put right.
async fn tell_findings(world: &World, deployment: &str, findings: &Findings) {
    if !findings.drift.is_empty() {
        let found = findings.drift.clone();
        let shown = found.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
        let more = found.len().saturating_sub(5);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        tracing::warn!(deployment, "drift: {shown}{more}");
        let audit = audit::Event::Drift { deployment: deployment.to_owned(), found };
        tell(world, deployment, "drift", format!("changed by somebody: {shown}{more}"), Some(audit)).await;
    }
    if !findings.ended.is_empty() {
        tell(world, deployment, "health", findings.ended.join("; "), None).await;
    }
}

async fn tell(world: &World, deployment: &str, kind: &str, message: String, audit: Option<audit::Event>) {
    let event = v1::Event {
        deployment: deployment.to_owned(),
        kind: kind.to_owned(),
        message,
        ..v1::Event::default()
    };
    let written = async {
        if let Some(audit) = audit {
            world.audit(audit).await?;
        }
        world.commit_with_event(Writes::new(), event).await
    };
    if let Err(problem) = written.await {
        tracing::warn!(deployment, %problem, "an event could not be written");
    }
}

/// Whether a plan does something that cannot wait to a container that the other plan is not about.
fn concerns_others(plan: &Plan, other: &Plan) -> bool {
    let aftermath = plan.aftermath();
    let about = |step: &plan::Step| step.action.about().and_then(|target| target.id.clone());
    let known: BTreeSet<String> = other.steps.iter().filter_map(about).collect();
    let is_new = |step: &plan::Step| about(step).is_none_or(|id| !known.contains(&id));
    plan.steps.iter().any(|step| !aftermath.contains(&step.id) && !step.action.is_wait() && is_new(step))
}

/// Pause before try number `attempt`, which doubles from `first` up to `most` and is jittered by half.
pub(super) fn backoff(attempt: u32, first: Duration, most: Duration) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(most).mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_stay_within_their_bounds() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(60));
        for attempt in 0..100 {
            let pause = backoff(attempt, first, most);
            assert!(pause <= most && pause >= first / 2, "{attempt}: {pause:?}");
        }
        assert!(backoff(1, first, most) <= first);
        assert!(backoff(50, first, most) >= most / 2);
    }
}
