//! Waiting for containers to get somewhere: on events, with a look after subscribing, so that nothing is missed and
//! nothing is polled.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::outcome::{Cause, Failure};
use crate::engine::types::{Health, LogQuery, State};
use crate::engine::{Container, Engine, Signal};

/// Where a container should get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Running, and healthy where it has a health check.
    Healthy,
    /// Running; or ended well, for what may end.
    Running {
        /// Whether a clean end will do.
        may_end: bool,
    },
    /// Ended with exit code 0.
    Completed,
}

/// What a look at a container says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    There,
    NotYet,
    Never(Cause),
}

/// Judges a container by state, health and exit code.
pub(super) fn judge(container: &Container, goal: Goal) -> Verdict {
    let name = || container.name.clone();
    let ended = || Verdict::Never(Cause::Ended(name(), container.exit_code.unwrap_or(-1)));
    match (container.state, goal) {
        (State::Dead | State::Removing, _) => Verdict::Never(Cause::Absent(name())),
        (State::Created | State::Paused | State::Restarting, _) => Verdict::NotYet,
        (State::Exited, Goal::Completed | Goal::Running { may_end: true })
            if container.exit_code == Some(0) =>
        {
            Verdict::There
        }
        (State::Exited, _) => ended(),
        (State::Running, Goal::Completed) => Verdict::NotYet,
        (State::Running, Goal::Healthy | Goal::Running { .. }) => match container.health {
            Health::None | Health::Healthy => Verdict::There,
            Health::Starting => Verdict::NotYet,
            Health::Unhealthy => Verdict::Never(Cause::Unhealthy(name())),
        },
    }
}

/// Waits until a container, by ID or name, is where it should be. The receiver must have subscribed before this is called.
pub(super) async fn reach(
    engine: &dyn Engine,
    signals: &mut Receiver<Signal>,
    reference: &str,
    goal: Goal,
) -> Result<Container, (Cause, Option<Container>)> {
    let mut id = reference.to_owned();
    loop {
        match engine.inspect_container(&id).await {
            Ok(container) => match judge(&container, goal) {
                Verdict::There => return Ok(container),
                // Events are told apart by ID; a name can pass to another container.
                Verdict::NotYet => id = container.id,
                Verdict::Never(cause) => return Err((cause, Some(container))),
            },
            // Unknown is not gone: the hub says when the engine is back.
            Err(error) if error.is_engine_away() => {}
            Err(error) if error.is_not_found() => return Err((Cause::Absent(reference.to_owned()), None)),
            Err(error) => return Err((Cause::Engine(error), None)),
        }
        next_about(signals, &id).await;
    }
}

/// Returns at the next event of this container, by ID, or when anything may have happened.
pub(super) async fn next_about(signals: &mut Receiver<Signal>, id: &str) {
    loop {
        match signals.recv().await {
            Ok(Signal::Event(event)) if event.id == id => return,
            Ok(Signal::Back { .. }) | Err(RecvError::Lagged(_)) => return,
            Ok(Signal::Event(_) | Signal::Lost { .. }) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Whether, and how, the container is no longer where it got to or was started anew: by now, or until it has settled.
pub(super) async fn lost(
    engine: &dyn Engine,
    signals: &mut Receiver<Signal>,
    container: &Container,
    goal: Goal,
    settled: Instant,
) -> Option<(Cause, Option<Container>)> {
    let start_of = |container: &Container| container.detail.as_ref().and_then(|detail| detail.started_at);
    // What has been told already is heard even when the time is over.
    while timeout_at(settled, next_about(signals, &container.id)).await.is_ok() {
        match engine.inspect_container(&container.id).await {
            Ok(now) => match judge(&now, goal) {
                Verdict::Never(cause) => return Some((cause, Some(now))),
                Verdict::There | Verdict::NotYet if start_of(&now) != start_of(container) => {
                    let code = now.exit_code.unwrap_or(-1);
                    return Some((Cause::Ended(now.name.clone(), code), Some(now)));
                }
                Verdict::There | Verdict::NotYet => {}
            },
            Err(error) if error.is_engine_away() => {}
            Err(error) if error.is_not_found() => return Some((Cause::Absent(container.name.clone()), None)),
            Err(error) => return Some((Cause::Engine(error), None)),
        }
    }
    None
}

/// Lines of output kept for an explanation, and their longest length.
const LINES: (u64, usize) = (5, 300);
/// Time that fetching them may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Adds what the container said last: its health check if that failed, else its log.
pub(super) async fn explain(
    engine: &dyn Engine,
    container: Option<&Container>,
    mut failure: Failure,
) -> Failure {
    let Some(container) = container else { return failure };
    let health = container.detail.as_ref().and_then(|detail| detail.health_output.as_deref());
    let cut = |line: &str| line.chars().take(LINES.1).collect::<String>();
    if matches!(failure.cause, Cause::Unhealthy(_))
        && let Some(output) = health.filter(|output| !output.trim().is_empty())
    {
        failure.output = output.lines().rev().take(LINES.0 as usize).map(cut).collect();
        failure.output.reverse();
        return failure;
    }
    let query = LogQuery { tail: Some(LINES.0), ..LogQuery::default() };
    let read = async {
        if let Ok(mut lines) = engine.logs(&container.id, &query).await {
            while let Some(Ok(line)) = lines.next().await {
                failure.output.push(cut(&line.text));
            }
        }
    };
    // An engine that does not give its logs must not hold up the news.
    let _ = tokio::time::timeout(PATIENCE, read).await;
    failure
}
