//! Drift: what is there differs from what is active though nobody asked the agent. Who did it is read from the engine's events.
//!
//! [`Witness`] is pure: events in, deeds out. An event of `kill` comes before the end of a container that somebody stopped;
//! one that ends without it ended by itself, which is a crash and no drift ([`super::crashes`]). What we
//! did ourselves is told to it beforehand. Where events were missed, the planner's own reason is all there is to tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kedge_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::engine::spec::{LABEL_NUMBER, LABEL_SERVICE};
use crate::engine::types::{Action as Deed, EngineEvent, Subject};
use crate::plan::{Action, KEPT, Plan, Step};
use crate::store::Record;

/// Signals that ask a process for something else than its end: hang up, the two for users, window change.
const HARMLESS: [&str; 8] = ["1", "10", "12", "28", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"];
/// Sentences that are kept of one drift.
const MOST: usize = 8;

/// What was last found changed, for `kedge status` also after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftRecord {
    /// Deployment.
    pub deployment: String,
    /// RFC 3339.
    pub at: String,
    /// What was found and done, a sentence each.
    pub what: Vec<String>,
    /// `put right`, `failed`, `seen`.
    pub outcome: String,
}

impl Record for DriftRecord {
    const TABLE: &'static str = "drift";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        self.deployment.clone()
    }
}

impl DriftRecord {
    /// As the protocols carry it.
    pub fn to_proto(&self) -> v1::Drift {
        v1::Drift { at: self.at.clone(), what: self.what.clone(), outcome: self.outcome.clone() }
    }
}

/// A container that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) code: i64,
}

/// Service and number.
type Place = (String, String);

/// Who did what to which container, as far as events tell.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Stopped or killed by somebody, by ID, with its place and words; until it is started again.
    stopped: BTreeMap<String, (Place, String)>,
    /// Ended by itself, by ID, with the exit code; until it is started again.
    ended: BTreeMap<String, i64>,
    /// Removed by somebody: service and number.
    removed: BTreeSet<Place>,
    /// Containers that we end ourselves; until they are started again.
    asked: BTreeSet<String>,
    ends: Vec<End>,
    restarted: Vec<String>,
}

/// What a plan puts right, told apart by who is to blame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Somebody changed something.
    pub(super) drift: Vec<String>,
    /// Ended by itself and is started again.
    pub(super) ended: Vec<String>,
}

impl Witness {
    /// Takes in an event.
    pub(super) fn hear(&mut self, event: &EngineEvent) {
        if event.subject != Subject::Container {
            return;
        }
        let attribute = |name: &str| event.attributes.get(name).cloned().unwrap_or_default();
        let id = event.id.clone();
        let place = (attribute(LABEL_SERVICE), attribute(LABEL_NUMBER));
        match event.action {
            Deed::Kill if self.asked.contains(&id) => {}
            Deed::Kill => {
                let signal = attribute("signal");
                if !HARMLESS.contains(&signal.as_str()) {
                    self.stopped.insert(id, (place, words(&signal)));
                }
            }
            Deed::Die(_) if self.asked.contains(&id) || self.stopped.contains_key(&id) => {}
            Deed::Die(code) => {
                self.ended.insert(id.clone(), code);
                self.ends.push(End { id, service: attribute(LABEL_SERVICE), code });
            }
            Deed::Start => {
                self.stopped.remove(&id);
                self.ended.remove(&id);
                self.asked.remove(&id);
                self.removed.remove(&place);
            }
            // We have no such verb: somebody else did it.
            Deed::Restart => self.restarted.push(attribute("name")),
            Deed::Destroy => {
                self.stopped.remove(&id);
                self.ended.remove(&id);
                if !self.asked.remove(&id) {
                    self.removed.insert(place);
                }
            }
            _ => {}
        }
    }

    /// We are about to do this ourselves.
    pub(super) fn expect(&mut self, plan: &Plan) {
        for step in &plan.steps {
            if let Action::Stop { container } | Action::Remove { container } = &step.action {
                self.asked.extend(container.id.clone());
            }
        }
    }

    /// Containers that ended by themselves since the last call.
    pub(super) fn take_ends(&mut self) -> Vec<End> {
        std::mem::take(&mut self.ends)
    }

    /// Names of containers that somebody restarted since the last call.
    pub(super) fn take_restarted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.restarted)
    }

    /// What a plan puts right, a sentence for each of its steps.
    pub(super) fn findings(&self, plan: &Plan) -> Findings {
        let mut findings = Findings::default();
        let aftermath = plan.aftermath();
        for step in &plan.steps {
            if aftermath.contains(&step.id) || step.action.is_wait() || ends_a_kept_one(step) {
                continue;
            }
            if let Action::Start { container } = &step.action
                && let Some(code) = container.id.as_ref().and_then(|id| self.ended.get(id))
            {
                findings.ended.push(format!("{}: it ended with exit code {code}", step.action));
            } else if findings.drift.len() < MOST {
                findings.drift.push(format!("{}: {}", step.action, self.why(step)));
            }
        }
        findings
    }

    /// The planner's reason, or who is to blame for it.
    fn why(&self, step: &Step) -> String {
        let blamed = match &step.action {
            Action::Start { container } => {
                let stopped = container.id.as_ref().and_then(|id| self.stopped.get(id));
                stopped.map(|(_, words)| words.clone())
            }
            Action::CreateContainer { spec, .. } => {
                let label = |name: &str| spec.labels.get(name).cloned().unwrap_or_default();
                let place = (label(LABEL_SERVICE), label(LABEL_NUMBER));
                // A removal by force begins with a kill, and ends a little later.
                let removed =
                    self.removed.contains(&place) || self.stopped.values().any(|(of, _)| *of == place);
                removed.then(|| "somebody removed it".to_owned())
            }
            Action::Unpause { .. } => Some("somebody paused it".to_owned()),
            _ => None,
        };
        blamed.unwrap_or_else(|| step.reason.clone())
    }
}

/// What was replaced goes sooner or later: nobody changed anything.
fn ends_a_kept_one(step: &Step) -> bool {
    match &step.action {
        Action::Stop { container } | Action::Remove { container } => container.name.contains(KEPT),
        _ => false,
    }
}

fn words(signal: &str) -> String {
    if signal.is_empty() {
        "somebody stopped it".to_owned()
    } else {
        format!("somebody stopped it with signal {signal}")
    }
}

/// Whoever undoes what we put right as often as we do would keep both busy for ever: after some times in a short while
/// the next one waits.
#[derive(Debug, Default)]
pub(super) struct Fights {
    times: VecDeque<Instant>,
}

impl Fights {
    const WHILE: Duration = Duration::from_secs(60);
    const TIMES: usize = 10;

    /// Something was put right.
    pub(super) fn another(&mut self, now: Instant) {
        self.times.push_back(now);
        while self.times.len() > Self::TIMES {
            self.times.pop_front();
        }
    }

    /// When the next may be put right, where that is not now.
    pub(super) fn wait_until(&self, now: Instant) -> Option<Instant> {
        let first = self.times.front().filter(|_| self.times.len() == Self::TIMES)?;
        let due = *first + Self::WHILE;
        (due > now).then_some(due)
    }
}
