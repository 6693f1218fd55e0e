//! The gate: has everything that a release wants got where it should, and does it stay there?

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::conditions::{Goal, explain, judge, next_about, reach};
use super::outcome::{Cause, Failure};
use crate::engine::{Container, Engine, EventHub};
use crate::plan::desired::Wanted;
use crate::plan::{Desired, Memory};

/// How long to wait, and how long what has no health check must keep running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Longest wait for everything together.
    pub timeout: Duration,
    /// Time that containers are watched once they are there.
    pub settle: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(300), settle: Duration::from_secs(2) }
    }
}

/// Waits until every container is where its service wants it: healthy where there is a health check, completed where it is a job,
/// running otherwise; then watches them for the settling time. Gives all failures known when the first one is
/// certain, each with what the container said last.
pub async fn wait_converged(
    engine: &Arc<dyn Engine>,
    hub: &EventHub,
    desired: &Desired,
    memory: &Memory,
    gate: Gate,
) -> Result<(), Vec<Failure>> {
    let deadline = Instant::now() + gate.timeout;
    let due =
        |wanted: &Wanted| !memory.done.get(&wanted.service).is_some_and(|done| done.contains(&wanted.digest));
    let expected: Vec<(&String, &Wanted, Goal)> = desired
        .containers
        .iter()
        .filter(|(_, wanted)| due(wanted))
        .map(|(name, wanted)| (name, wanted, goal(desired, wanted)))
        .collect();
    let mut waiting: FuturesUnordered<_> = expected
        .iter()
        .map(|(name, wanted, goal)| async move {
            let mut signals = hub.subscribe();
            let reached =
                tokio::time::timeout_at(deadline, reach(engine.as_ref(), &mut signals, name, *goal)).await;
            let (cause, container) = match reached {
                Ok(Ok(container)) => return Ok((container, *goal, signals, wanted.service.as_str())),
                Ok(Err((cause, container))) => (cause, container),
                Err(_) => (Cause::Timeout((*name).clone()), engine.inspect_container(name).await.ok()),
            };
            Err((cause, container, wanted.service.as_str()))
        })
        .collect();
    let mut there = Vec::new();
    let mut failures = Vec::new();
    while let Some(result) = waiting.next().await {
        match result {
            Ok(container) => there.push(container),
            Err((cause, container, service)) => {
                failures.push(failure(engine, cause, container.as_ref(), service).await);
                // What else has failed by now is told too; what is still on its way is not awaited.
                while let Some(Some(more)) = futures_util::FutureExt::now_or_never(waiting.next()) {
                    if let Err((cause, container, service)) = more {
                        failures.push(failure(engine, cause, container.as_ref(), service).await);
                    }
                }
                break;
            }
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    let settled = there.into_iter().map(|(container, goal, mut signals, service)| async move {
        let stays = stay(engine, &mut signals, &container, goal);
        match tokio::time::timeout(gate.settle, stays).await {
            Err(_) => None,
            Ok((cause, now)) => {
                Some(failure(engine, cause, now.as_ref().or(Some(&container)), service).await)
            }
        }
    });
    let failures: Vec<Failure> = join_all(settled).await.into_iter().flatten().collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

fn goal(desired: &Desired, wanted: &Wanted) -> Goal {
    let service = desired.services.get(&wanted.service);
    if service.is_some_and(|service| service.is_job) {
        Goal::Completed
    } else if wanted.spec.is_checked(&wanted.image) {
        Goal::Healthy
    } else {
        let is_server = service.is_some_and(|service| service.is_server);
        Goal::Running { may_end: !is_server && !wanted.engine_restarts(0) }
    }
}

/// Returns when the container is no longer where it got to, or was started anew.
async fn stay(
    engine: &Arc<dyn Engine>,
    signals: &mut tokio::sync::broadcast::Receiver<crate::engine::Signal>,
    container: &Container,
    goal: Goal,
) -> (Cause, Option<Container>) {
    let start_of = |container: &Container| container.detail.as_ref().and_then(|detail| detail.started_at);
    loop {
        next_about(signals, &container.id).await;
        match engine.inspect_container(&container.id).await {
            Ok(now) => match judge(&now, goal) {
                super::conditions::Verdict::Never(cause) => return (cause, Some(now)),
                _ if start_of(&now) != start_of(container) => {
                    let code = now.exit_code.unwrap_or(-1);
                    return (Cause::Ended(now.name.clone(), code), Some(now));
                }
                _ => {}
            },
            Err(error) if error.is_engine_away() => {}
            Err(error) if error.is_not_found() => return (Cause::Absent(container.name.clone()), None),
            Err(error) => return (Cause::Engine(error), None),
        }
    }
}

async fn failure(
    engine: &Arc<dyn Engine>,
    cause: Cause,
    container: Option<&Container>,
    service: &str,
) -> Failure {
    let failure = Failure::new(format!("service {service}"), Some(service), cause);
    explain(engine.as_ref(), container, failure).await
}
