//! What became of a plan, step by step.

use std::fmt;
use std::time::Duration;

use kedge_bundle::codes::Code;

use crate::engine::{self, codes};
use crate::plan::{Step, StepId};

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// Done, now or before.
    Done,
    /// It failed.
    Failed(Failure),
    /// Not begun, because this step failed.
    Skipped(StepId),
    /// Left for later, together with what needs it: part of the plan's aftermath.
    Left,
}

/// What happens while a plan is applied.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The step's needs are met; it runs, or waits for its turn.
    Began(&'a Step),
    /// Done, in this time.
    Done(&'a Step, Duration),
    /// It failed.
    Failed(&'a Step, &'a Failure),
    /// Not begun, because the step of this ID failed.
    Skipped(&'a Step, StepId),
}

/// Why a step or a gate failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What was being done, in words.
    pub what: String,
    /// For which service, where it was for one.
    pub service: Option<String>,
    /// Why it failed.
    pub cause: Cause,
    /// Last lines of the container's health check or log, bounded.
    pub output: Vec<String>,
}

/// Causes of failure.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// The engine said no, or nothing.
    Engine(engine::Error),
    /// The health check says no.
    Unhealthy(String),
    /// A process ended: container and exit code.
    Ended(String, i64),
    /// A lifecycle hook failed: which, of which container, with which exit code.
    Hook(&'static str, String, i64),
    /// A container is not there any more, or was never started.
    Absent(String),
    /// Not in time: what was still awaited.
    Timeout(String),
    /// Cancelled.
    Cancelled,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, service: Option<&str>, cause: Cause) -> Self {
        Self { what: what.into(), service: service.map(str::to_owned), cause, output: Vec::new() }
    }

    pub(super) fn of_step(step: &Step, cause: Cause) -> Self {
        Self::new(step.action.to_string(), step.service.as_deref(), cause)
    }

    pub(super) fn cancelled(step: &Step) -> Self {
        Self::of_step(step, Cause::Cancelled)
    }

    /// The same without what the container said, which may hold secrets: for logs.
    pub(super) fn without_output(&self) -> Self {
        Self { output: Vec::new(), ..self.clone() }
    }

    /// Entry of the catalogue.
    pub fn code(&self) -> &'static Code {
        match &self.cause {
            Cause::Engine(error) => error.code(),
            Cause::Unhealthy(_) => &codes::UNHEALTHY,
            Cause::Hook(..) => &codes::HOOK_FAILED,
            Cause::Ended(..) | Cause::Absent(_) => &codes::ENDED,
            Cause::Timeout(_) | Cause::Cancelled => &codes::NOT_IN_TIME,
        }
    }

    /// Whether the engine is away, so that this says nothing about the release.
    pub fn is_engine_away(&self) -> bool {
        matches!(&self.cause, Cause::Engine(error) if error.is_engine_away())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match &self.cause {
            Cause::Engine(error) => write!(f, "{}", error.cause)?,
            Cause::Unhealthy(container) => write!(f, "{container} is unhealthy")?,
            Cause::Ended(container, code) => write!(f, "{container} ended with exit code {code}")?,
            Cause::Hook(hook, container, code) => {
                write!(f, "the {hook} hook of {container} ended with exit code {code}")?
            }
            Cause::Absent(container) => write!(f, "{container} is not there or was never started")?,
            Cause::Timeout(container) => write!(f, "{container} did not get there in time")?,
            Cause::Cancelled => write!(f, "cancelled")?,
        }
        if !self.output.is_empty() {
            write!(f, "; it said last: {}", self.output.join(" | "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// What became of every step.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    steps: Vec<Option<Ended>>,
}

impl Outcome {
    pub(super) fn new(steps: usize) -> Self {
        Self { steps: vec![None; steps] }
    }

    pub(super) fn set(&mut self, id: StepId, ended: Ended) {
        if let Some(slot) = self.steps.get_mut(id) {
            *slot = Some(ended);
        }
    }

    pub(super) fn is_open(&self, id: StepId) -> bool {
        self.steps.get(id).is_some_and(Option::is_none)
    }

    /// How a step ended; `None` only for a step that the plan does not have.
    pub fn step(&self, id: StepId) -> Option<&Ended> {
        self.steps.get(id)?.as_ref()
    }

    /// Every step is done, or was left for later.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|ended| matches!(ended, Some(Ended::Done | Ended::Left)))
    }

    /// What failed, in the order of the plan.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.steps.iter().filter_map(|ended| match ended {
            Some(Ended::Failed(failure)) => Some(failure),
            _ => None,
        })
    }

    /// Whether nothing went wrong but that somebody cancelled it.
    pub fn was_cancelled(&self) -> bool {
        let mut failures = self.failures().peekable();
        failures.peek().is_some() && failures.all(|failure| failure.cause == Cause::Cancelled)
    }

    /// Whether the engine went away underneath.
    pub fn engine_went_away(&self) -> bool {
        self.failures().any(Failure::is_engine_away)
    }
}
