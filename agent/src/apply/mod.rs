//! Applying: runs a plan's steps against an engine, each as soon as what it needs is done, a bounded number at a time.
//!
//! A step that fails takes down the steps that need it and no others; the outcome says what became of each. Nothing is
//! retried here: whoever called observes and plans again. All steps are idempotent, so a plan
//! that was cut off anywhere, by an error, a cancellation or a crash, is continued by the next one.
//!
//! [`wait_converged`] is the gate after it: it tells whether the services got where they should, and if not, which did not
//! and what it said last.

mod conditions;
mod gate;
mod hooks;
mod outcome;
#[cfg(test)]
mod properties;
mod steps;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, EventHub};
use crate::plan::{Plan, Step, StepId};

pub use gate::{Gate, wait_converged};
pub use outcome::{Cause, Ended, Failure, Outcome, Progress};

/// Bounds of one application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Requests to the engine under way at the same moment. Waiting does not count.
    pub parallel: usize,
    /// Longest wait for one condition.
    pub condition_timeout: Duration,
    /// Come back when nothing but the plan's [aftermath](Plan::aftermath) is left to do; what of it has not been begun is left to
    /// whoever plans next.
    pub leave_aftermath: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: 8, condition_timeout: Duration::from_secs(600), leave_aftermath: false }
    }
}

/// Runs the plan. On cancellation no step is begun and waits end at once; requests under way are seen through. The same happens to
/// what is [left for later](Options::leave_aftermath).
///
/// Of the steps that could run, those with the longest way still behind them go first: a container that others wait for is
/// started before one is made that only waits.
pub async fn apply(
    engine: &Arc<dyn Engine>,
    hub: &EventHub,
    plan: &Plan,
    options: Options,
    cancel: &CancellationToken,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Outcome {
    let aftermath = if options.leave_aftermath { plan.aftermath() } else { BTreeSet::new() };
    let cancel = &cancel.child_token();
    let steps = &steps::Steps::new(engine, hub, options, cancel);
    let run = |step: &Step| {
        let step = step.clone();
        async move {
            let began = Instant::now();
            let result = if step.action.is_wait() {
                tokio::select! {
                    result = steps.run(&step) => result,
                    () = cancel.cancelled() => Err(Failure::cancelled(&step)),
                }
            } else if cancel.is_cancelled() {
                Err(Failure::cancelled(&step))
            } else {
                steps.run(&step).await
            };
            (step.id, result, began.elapsed())
        }
    };
    let mut outcome = Outcome::new(plan.steps.len());
    let mut missing: Vec<BTreeSet<StepId>> =
        plan.steps.iter().map(|step| step.needs.union(&step.after).copied().collect()).collect();
    let heights = heights(plan);
    let rank = |step: &Step| (Reverse(heights.get(step.id).copied().unwrap_or_default()), step.id);
    let mut ready: BTreeSet<_> =
        plan.steps.iter().filter(|step| step.needs.is_empty() && step.after.is_empty()).map(rank).collect();
    let mut running = FuturesUnordered::new();
    let mut requests = 0;
    loop {
        let is_open = |step: &Step| outcome.is_open(step.id) && !aftermath.contains(&step.id);
        if !aftermath.is_empty() && !plan.steps.iter().any(is_open) {
            cancel.cancel();
            ready.clear();
        }
        // Waiting costs the engine nothing and is not counted.
        let next = ready
            .iter()
            .find(|(_, id)| requests < options.parallel.max(1) || plan.steps.get(*id).is_some_and(waits));
        if let Some(next) = next.copied() {
            ready.remove(&next);
            if let Some(step) = plan.steps.get(next.1) {
                requests += usize::from(!waits(step));
                progress(Progress::Began(step));
                running.push(run(step));
            }
            continue;
        }
        let Some((id, result, took)) = running.next().await else { break };
        let Some(step) = plan.steps.get(id) else { continue };
        requests -= usize::from(!waits(step));
        let over = match result {
            Ok(()) => {
                tracing::debug!(step = id, took_ms = took.as_millis(), "{step}");
                progress(Progress::Done(step, took));
                outcome.set(id, Ended::Done);
                BTreeSet::from([id])
            }
            Err(failure) if failure.cause == Cause::Cancelled && aftermath.contains(&id) => BTreeSet::new(),
            Err(failure) => {
                tracing::warn!(step = id, "{}", failure.without_output());
                progress(Progress::Failed(step, &failure));
                outcome.set(id, Ended::Failed(failure));
                skip_dependents(plan, id, &mut outcome, progress)
            }
        };
        for next in plan.steps.iter().filter(|step| outcome.is_open(step.id)) {
            let Some(missing) = missing.get_mut(next.id) else { continue };
            let before = missing.len();
            missing.retain(|id| !over.contains(id));
            if missing.is_empty() && before > 0 {
                ready.insert(rank(next));
            }
        }
    }
    for id in aftermath {
        if outcome.is_open(id) {
            outcome.set(id, Ended::Left);
        }
    }
    outcome
}

fn waits(step: &Step) -> bool {
    step.action.is_wait()
}

/// Length of the longest chain of steps that begins with each step. Needs stand before what needs them.
fn heights(plan: &Plan) -> Vec<usize> {
    let mut heights = vec![1_usize; plan.steps.len()];
    for step in plan.steps.iter().rev() {
        let own = heights.get(step.id).copied().unwrap_or_default();
        for need in step.needs.iter().chain(&step.after) {
            if let Some(height) = heights.get_mut(*need) {
                *height = own.saturating_add(1).max(*height);
            }
        }
    }
    heights
}

/// Marks everything that needs the failed step, and gives all that is over by that. Needs stand before what needs them, so one
/// pass finds all.
fn skip_dependents(
    plan: &Plan,
    failed: StepId,
    outcome: &mut Outcome,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> BTreeSet<StepId> {
    let mut lost = BTreeSet::from([failed]);
    for step in &plan.steps {
        if !step.needs.is_disjoint(&lost) {
            lost.insert(step.id);
            if outcome.is_open(step.id) {
                outcome.set(step.id, Ended::Skipped(failed));
                progress(Progress::Skipped(step, failed));
            }
        }
    }
    lost
}
