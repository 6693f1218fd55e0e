//! Drift: what is there differs from what is active though nobody asked the agent. Who did it is read from the engine's events.
//!
//! [`Witness`] is pure: events in, deeds out. An event of `kill` comes before the end of a container that somebody stopped;
//! one that ends without it ended by itself, which is a crash and no drift ([`super::crashes`]). What we
//! did ourselves is told to it beforehand. Where events were missed, the planner's own reason is all there is to tell.
//!
//! An engine that is stopped ends its containers with the same event that a person's `docker stop` makes, and so does one
//! that was killed, when it starts again. So what was stopped shortly before the engine went away or before it was back, the
//! engine has ended, and that is no drift either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kedge_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::engine::Signal;
use crate::engine::spec::{LABEL_NUMBER, LABEL_SERVICE};
use crate::engine::types::{Action as Deed, EngineEvent, Subject};
use crate::plan::{Action, KEPT, Plan, Step};
use crate::store::Record;

/// Signals that ask a process for something else than its end: hang up, the two for users, window change.
const HARMLESS: [&str; 8] = ["1", "10", "12", "28", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"];
/// How long an engine may take to end its containers before it ends itself, in nanoseconds: containers are given some time to
/// stop, and whatever runs the engine gives it not much more than a minute.
const GOING_DOWN: i64 = 120 * 1_000_000_000;
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

/// Somebody's stop or kill of a container.
#[derive(Debug)]
struct Stop {
    place: Place,
    words: String,
    /// Nanoseconds since 1970.
    at: i64,
}

/// Who did what to which container, as far as events tell.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Stopped or killed by somebody, by ID; until it is started again.
    stopped: BTreeMap<String, Stop>,
    /// Ended by itself, by ID, with the exit code; until it is started again.
    ended: BTreeMap<String, i64>,
    /// Removed by somebody: service and number.
    removed: BTreeSet<Place>,
    /// Containers that we end ourselves; until they are started again.
    asked: BTreeSet<String>,
    ends: Vec<End>,
    restarted: Vec<String>,
    /// The engine went away, and what it ended has not all been started again since.
    outage: bool,
    /// When the engine was last back, nanoseconds since 1970. Before then nobody could ask it for anything.
    back: Option<i64>,
}

/// What a plan puts right, told apart by who is to blame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Somebody changed something.
    pub(super) drift: Vec<String>,
    /// Ended by itself, or as the engine went down, and is started again.
    pub(super) ended: Vec<String>,
}

impl Witness {
    /// Takes in a signal.
    pub(super) fn hear(&mut self, signal: &Signal) {
        match signal {
            Signal::Event(event) => self.hear_of(event),
            Signal::Lost { at } => {
                // What was stopped long before, while nothing was to be put right, was not stopped by the engine.
                self.stopped.retain(|_, stop| stop.at < at.saturating_sub(GOING_DOWN));
                self.outage = true;
            }
            Signal::Back { at } => self.back = Some(*at),
        }
    }

    fn hear_of(&mut self, event: &EngineEvent) {
        if event.subject != Subject::Container {
            return;
        }
        let attribute = |name: &str| event.attributes.get(name).cloned().unwrap_or_default();
        let id = event.id.clone();
        let place = (attribute(LABEL_SERVICE), attribute(LABEL_NUMBER));
        match event.action {
            Deed::Kill | Deed::Die(_) if self.back.is_some_and(|back| event.at <= back) => {}
            Deed::Kill if self.asked.contains(&id) => {}
            Deed::Kill => {
                let signal = attribute("signal");
                if !HARMLESS.contains(&signal.as_str()) {
                    self.stopped.insert(id, Stop { place, words: words(&signal), at: event.at });
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

    /// All is as it should be: what ends from now on the engine's absence is not to blame for.
    pub(super) fn all_is_well(&mut self) {
        self.outage = false;
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
            if let Some(nobodys) = self.nobodys(&step.action) {
                findings.ended.push(format!("{}: {nobodys}", step.action));
            } else if findings.drift.len() < MOST {
                findings.drift.push(format!("{}: {}", step.action, self.why(step)));
            }
        }
        findings
    }

    /// Why a container that is started had ended, where nobody is to blame.
    fn nobodys(&self, action: &Action) -> Option<String> {
        let Action::Start { container } = action else { return None };
        let id = container.id.as_deref().unwrap_or_default();
        match self.ended.get(id) {
            Some(code) => Some(format!("it ended with exit code {code}")),
            None if self.outage && !self.stopped.contains_key(id) => {
                Some("it ended as the container engine went down".to_owned())
            }
            None => None,
        }
    }

    /// The planner's reason, or who is to blame for it.
    fn why(&self, step: &Step) -> String {
        let blamed = match &step.action {
            Action::Start { container } => {
                let stopped = container.id.as_ref().and_then(|id| self.stopped.get(id));
                stopped.map(|stop| stop.words.clone())
            }
            Action::CreateContainer { spec, .. } => {
                let label = |name: &str| spec.labels.get(name).cloned().unwrap_or_default();
                let place = (label(LABEL_SERVICE), label(LABEL_NUMBER));
                // A removal by force begins with a kill, and ends a little later.
                let removed =
                    self.removed.contains(&place) || self.stopped.values().any(|stop| stop.place == place);
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
