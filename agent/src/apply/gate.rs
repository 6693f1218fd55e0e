//! The gate: has everything that a release wants got where it should, and does it stay there?

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::conditions::{Goal, explain, lost, reach};
use super::outcome::{Cause, Failure};
use crate::engine::{Container, Engine, EventHub};
use crate::plan::desired::Wanted;
use crate::plan::{Desired, Memory};

/// How long to wait, and how long what has no health check must keep running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Longest wait for everything together.
    pub timeout: Duration,
    /// Time for which a container without a health check must keep running to count. A check that passed, and a job that
    /// ended well, have said for themselves that they are there.
    pub settle: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(300), settle: Duration::from_secs(2) }
    }
}

/// Waits until every container is where its service wants it: healthy where there is a health check, completed where it is a job,
/// running for the settling time otherwise. What was lost again while others were awaited is a failure too. Gives all
/// failures known when the first one is certain, each with what the container said last.
pub async fn wait_converged(
    engine: &Arc<dyn Engine>,
    hub: &EventHub,
    desired: &Desired,
    memory: &Memory,
    gate: Gate,
) -> Result<(), Vec<Failure>> {
    let deadline = Instant::now() + gate.timeout;
    let expected: Vec<(&String, &Wanted, Goal)> = desired
        .containers
        .iter()
        .filter(|(_, wanted)| !memory.is_done(wanted))
        .map(|(name, wanted)| (name, wanted, goal(desired, wanted)))
        .collect();
    let mut waiting: FuturesUnordered<_> = expected
        .iter()
        .map(|(name, wanted, goal)| async move {
            let mut signals = hub.subscribe();
            let reached = timeout_at(deadline, reach(engine.as_ref(), &mut signals, name, *goal)).await;
            let (cause, container) = match reached {
                Ok(Ok(container)) => {
                    let settled = Instant::now() + settling_time(*goal, gate);
                    return Ok((container, *goal, signals, settled, wanted.service.as_str()));
                }
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
    let settled = there.into_iter().map(|(container, goal, mut signals, settled, service)| async move {
        let (cause, now) = lost(engine.as_ref(), &mut signals, &container, goal, settled).await?;
        Some(failure(engine, cause, now.as_ref().or(Some(&container)), service).await)
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
        Goal::Running { may_end: service.is_some_and(|service| service.may_end(wanted)) }
    }
}

fn settling_time(goal: Goal, gate: Gate) -> Duration {
    match goal {
        Goal::Running { .. } => gate.settle,
        Goal::Healthy | Goal::Completed => Duration::ZERO,
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
