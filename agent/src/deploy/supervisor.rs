//! Keeps a deployment as its target says, and tells how its services are.
//!
//! Level-triggered: an event, a new target or a due pause wakes it; it observes, plans and applies until the plan is
//! empty. Waiting is on events, never on a tick. While an operation holds the deployment's turn it only looks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_proto::v1;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::compile::Compiled;
use super::memory;
use super::status::Seen;
use crate::apply::{self, Outcome};
use crate::engine::observe::Watcher;
use crate::health::services;
use crate::plan::{self, Action, Plan, Policy, Scope};
use crate::store::Writes;
use crate::world::World;

/// Pause before a plan that failed is tried again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What a supervisor is to keep.
#[derive(Debug, Clone)]
pub struct Target {
    /// What should be there.
    pub compiled: Arc<Compiled>,
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
        let (seen_sender, seen) = watch::channel(Seen::default());
        let turn = Arc::new(Mutex::new(()));
        let watcher = Watcher::new(Arc::clone(&world.engine), &world.events, Scope::default());
        let task = Task {
            world,
            deployment,
            targets,
            seen: seen_sender,
            turn: Arc::clone(&turn),
            watcher,
            crashes: Crashes::default(),
            failures: 0,
        };
        Self { target, seen, turn, task: tokio::spawn(task.run()) }
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
    crashes: Crashes,
    failures: u32,
}

impl Task {
    async fn run(mut self) {
        let mut why = "start".to_owned();
        loop {
            let target = self.targets.borrow_and_update().clone();
            tracing::debug!(deployment = self.deployment, why, "looking");
            let again = match &target {
                None => {
                    self.seen.send_replace(Seen::default());
                    None
                }
                Some(target) => self.pass(target).await,
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
            };
        }
    }

    /// Looks once and puts right what differs. Gives the moment to look again though nothing happens.
    async fn pass(&mut self, target: &Target) -> Option<Instant> {
        self.watcher.set_scope(target.compiled.desired.scope());
        let mut memory = match memory::load(&self.world.store, &self.deployment) {
            Ok(memory) => memory,
            Err(problem) => {
                tracing::error!(deployment = self.deployment, %problem, "what is remembered cannot be read");
                return Some(Instant::now() + PAUSES.1);
            }
        };
        memory.held = self.crashes.held(Instant::now());
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
        show(&self.seen, target, &observed, &memory);
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
        if plan.is_empty() {
            self.failures = 0;
            return self.crashes.next_due();
        }
        let outcome = self.put_right(target, &plan, &memory).await;
        self.watcher.invalidate();
        if outcome.is_done() {
            self.failures = 0;
            Some(Instant::now())
        } else if outcome.engine_went_away() {
            None
        } else {
            Some(self.pause_after_failure())
        }
    }

    async fn put_right(&mut self, target: &Target, plan: &Plan, memory: &plan::Memory) -> Outcome {
        for step in &plan.steps {
            tracing::info!(deployment = self.deployment, service = step.service, "{step}");
            if let (Action::Start { .. }, Some(service)) = (&step.action, &step.service) {
                self.crashes.started(service, Instant::now());
            }
        }
        let options =
            apply::Options { parallel: self.world.config.limits.parallel_steps, ..apply::Options::default() };
        let cancel = CancellationToken::new();
        let mut ignore = |_: apply::Progress<'_>| {};
        let (world, deployment) = (Arc::clone(&self.world), self.deployment.clone());
        let apply = apply::apply(&world.engine, &world.events, plan, options, &cancel, &mut ignore);
        // Nothing depends on the event being on disk first, and a service that is down must not wait for a disk.
        let work = async { tokio::join!(apply, tell(&world, &deployment, plan)).0 };
        tokio::pin!(work);
        loop {
            // `work` is polled to its end, also when cancelled: requests under way are seen through.
            tokio::select! {
                outcome = &mut work => return outcome,
                _ = self.watcher.changed() => {
                    if let Ok(observed) = self.watcher.observe().await {
                        show(&self.seen, target, observed, memory);
                    }
                }
                _ = self.targets.changed(), if !cancel.is_cancelled() => {
                    self.targets.mark_changed();
                    cancel.cancel();
                }
            }
        }
    }

    fn pause_after_failure(&mut self) -> Instant {
        self.failures = self.failures.saturating_add(1);
        Instant::now() + backoff(self.failures, PAUSES.0, PAUSES.1)
    }
}

/// An event for the report: what differed and is being put right.
async fn tell(world: &World, deployment: &str, plan: &Plan) {
    let sentences = plan.describe();
    let shown: Vec<&str> = sentences.iter().take(5).map(String::as_str).collect();
    let more = sentences.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    let event = v1::Event {
        deployment: deployment.to_owned(),
        kind: "drift".to_owned(),
        message: format!("putting right: {}{more}", shown.join("; ")),
        ..v1::Event::default()
    };
    if let Err(problem) = world.commit_with_event(Writes::new(), event).await {
        tracing::warn!(deployment, %problem, "an event could not be written");
    }
}

fn show(seen: &watch::Sender<Seen>, target: &Target, observed: &plan::Observed, memory: &plan::Memory) {
    let services =
        services::services(&target.compiled.desired, observed, memory, &target.compiled.references);
    let now = Seen { services, engine_away: false };
    seen.send_if_modified(|seen| {
        let changed = *seen != now;
        *seen = now;
        changed
    });
}

/// Pause before try number `attempt`, which doubles from `first` up to `most` and is jittered by half.
pub(super) fn backoff(attempt: u32, first: Duration, most: Duration) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(most).mul_f64(rand::random_range(0.5..=1.0))
}

/// Services that end as often as they are started. They are left alone for longer and longer.
#[derive(Debug, Default)]
struct Crashes {
    services: BTreeMap<String, Crash>,
}

#[derive(Debug)]
struct Crash {
    starts: u32,
    last: Instant,
    until: Option<Instant>,
}

impl Crashes {
    /// Starts in a row from which on a service is held back.
    const PATIENCE: u32 = 4;
    /// A service that ran for so long is no crash loop.
    const CALM: Duration = Duration::from_secs(600);
    /// First and longest pause.
    const HOLD: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

    fn started(&mut self, service: &str, now: Instant) {
        let new = Crash { starts: 0, last: now, until: None };
        let crash = self.services.entry(service.to_owned()).or_insert(new);
        if now.duration_since(crash.last) > Self::CALM {
            crash.starts = 0;
        }
        crash.starts += 1;
        crash.last = now;
        crash.until = (crash.starts > Self::PATIENCE)
            .then(|| now + backoff(crash.starts - Self::PATIENCE, Self::HOLD.0, Self::HOLD.1));
    }

    fn held(&self, now: Instant) -> BTreeMap<String, String> {
        let held = self.services.iter().filter(|(_, crash)| crash.until.is_some_and(|until| until > now));
        held.map(|(service, crash)| {
            let why = format!(
                "it was started {} times and keeps ending; waiting before the next try",
                crash.starts
            );
            (service.clone(), why)
        })
        .collect()
    }

    fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.services.values().filter_map(|crash| crash.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_keeps_ending_is_held_back_and_tried_again() {
        let mut crashes = Crashes::default();
        for _ in 0..Crashes::PATIENCE {
            crashes.started("web", Instant::now());
        }
        assert!(crashes.held(Instant::now()).is_empty());
        crashes.started("web", Instant::now());
        assert!(crashes.held(Instant::now())["web"].contains("5 times"));
        tokio::time::sleep_until(crashes.next_due().unwrap()).await;
        assert!(crashes.held(Instant::now()).is_empty());
        tokio::time::sleep(Crashes::CALM + Duration::from_secs(1)).await;
        crashes.started("web", Instant::now());
        assert!(crashes.held(Instant::now()).is_empty());
    }

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
