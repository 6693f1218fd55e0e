//! A plan as a person wants to read it: per service what would be done, which field changes from what to what, and
//! whether anybody would notice. Pure.
//!
//! Everything is read off the plan's own graph and the same comparison that made it, so that what is shown is what would be
//! done: `kedge diff`, the dry runs and adoption all show this one. Values that may be secret are not shown.

mod downtime;
mod fields;

use std::collections::{BTreeMap, BTreeSet};

use kedge_proto::local::v1::{Diff, FieldDiff, ObjectDiff, ServiceDiff};
use prost::Message;
use sha2::{Digest, Sha256};

use super::desired::is_owned;
use super::differ::{Surroundings, compare};
use super::{Action, Desired, KEPT, Observed, Plan, Step};
use crate::engine::types::Container;
use crate::redact::Redactor;

/// What the plan would do, without the releases that it leads from and to.
pub fn impact(desired: &Desired, observed: &Observed, plan: &Plan, redactor: &Redactor) -> Diff {
    let view = View { desired, observed, plan, redactor };
    let touched: BTreeSet<&str> = plan
        .steps
        .iter()
        .filter(|step| !step.action.is_wait())
        .filter_map(|step| step.service.as_deref())
        .collect();
    let blocked: BTreeSet<&str> = plan.blocked.iter().map(|blocked| blocked.name.as_str()).collect();
    let untouched = |name: &&String| !touched.contains(name.as_str()) && !blocked.contains(name.as_str());
    Diff {
        deployment: desired.deployment.clone(),
        project: desired.project.clone(),
        changes: !plan.is_empty() || !plan.is_whole(),
        services: touched.iter().map(|name| view.service(name)).collect(),
        objects: objects(plan),
        unchanged: desired.services.keys().filter(untouched).cloned().collect(),
        blocked: plan.blocked.iter().map(ToString::to_string).collect(),
        notes: plan.notes.clone(),
        ..Diff::default()
    }
}

/// Digest of what a diff says: whoever has agreed to it can say to what.
pub fn digest(diff: &Diff) -> String {
    let said = Diff { digest: String::new(), ..diff.clone() };
    hex::encode(Sha256::digest(said.encode_to_vec()))
}

/// The diff as sentences, one for each thing that would be done.
pub fn sentences(diff: &Diff) -> Vec<String> {
    let services = diff.services.iter().map(|service| {
        let fields = service.fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>().join(", ");
        let why = if fields.is_empty() { service.reasons.join("; ") } else { fields };
        format!("{} {}: {why}", service.action, service.service)
    });
    let objects = diff.objects.iter().map(|o| format!("{} {} {}: {}", o.action, o.kind, o.name, o.reason));
    let more = diff.blocked.iter().chain(&diff.left_behind).chain(&diff.notes).cloned();
    services.chain(objects).chain(more).collect()
}

/// What everything here looks at.
struct View<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    plan: &'a Plan,
    redactor: &'a Redactor,
}

impl<'a> View<'a> {
    fn service(&self, name: &str) -> ServiceDiff {
        let steps: Vec<&Step> = self.steps_of(name).collect();
        let touched = self.touched(&steps);
        let action = action(&steps, &touched, self.desired.services.contains_key(name));
        let mut reasons: Vec<String> = Vec::new();
        for step in steps.iter().filter(|step| says_why(step, action)) {
            if !reasons.contains(&step.reason) {
                reasons.push(step.reason.clone());
            }
        }
        ServiceDiff {
            service: name.to_owned(),
            action: action.to_owned(),
            reasons,
            fields: self.fields(name, &touched),
            downtime: Some(downtime::of(self, name)),
            containers: touched.iter().map(|container| container.name.clone()).collect(),
        }
    }

    /// Steps of a service that do something.
    fn steps_of(&self, service: &str) -> impl Iterator<Item = &'a Step> + use<'a> {
        let service = service.to_owned();
        self.plan
            .steps
            .iter()
            .filter(move |step| !step.action.is_wait() && step.service.as_deref() == Some(&service))
    }

    /// Containers that are there and that one of the steps is about.
    fn touched(&self, steps: &[&Step]) -> Vec<&'a Container> {
        let ids: BTreeSet<&str> = steps.iter().filter_map(|step| changed(step)).collect();
        self.observed.containers.iter().filter(|container| ids.contains(container.id.as_str())).collect()
    }

    /// Containers of a service that are ours.
    fn ours(&self, service: &str) -> impl Iterator<Item = &'a Container> + use<'a> {
        let (deployment, service) = (self.desired.deployment.clone(), service.to_owned());
        self.observed
            .containers
            .iter()
            .filter(move |c| is_owned(&c.labels, &deployment) && c.service() == Some(&service))
    }

    /// What differs in the touched containers from what is wanted in their places.
    fn fields(&self, service: &str, touched: &[&Container]) -> Vec<FieldDiff> {
        let around = self.around();
        let mut found: Vec<FieldDiff> = Vec::new();
        for seen in touched.iter().filter(|container| !container.name.contains(KEPT)) {
            let place = |w: &&super::desired::Wanted| w.service == service && Some(w.number) == seen.number();
            let Some(wanted) = self.desired.containers.values().find(place) else { continue };
            let differences = compare(wanted, seen, &around);
            let words = differences.recreate.iter().chain(&differences.updated);
            for field in words.map(|word| fields::shown(word, wanted, seen, self.redactor)) {
                if !found.contains(&field) {
                    found.push(field);
                }
            }
        }
        found
    }

    fn around(&self) -> Surroundings {
        let networks = self.observed.networks.iter().filter(|network| {
            self.desired.networks.contains_key(&network.name)
                || is_owned(&network.labels, &self.desired.deployment)
        });
        Surroundings {
            containers: self.observed.containers.iter().map(|c| (c.name.clone(), c.id.clone())).collect(),
            networks: networks.map(|network| (network.name.clone(), network.id.clone())).collect(),
        }
    }
}

/// ID of the observed container that a step is about.
fn changed(step: &Step) -> Option<&str> {
    step.action.about()?.id.as_deref()
}

/// What is done to a service, in one word: the strongest of its steps.
fn action(steps: &[&Step], touched: &[&Container], wanted: bool) -> &'static str {
    let any = |is: fn(&Action) -> bool| steps.iter().any(|step| is(&step.action));
    let creates = any(|a| matches!(a, Action::CreateContainer { .. }));
    let starts = any(|a| matches!(a, Action::Start { .. }));
    let stops = any(|a| matches!(a, Action::Stop { .. }));
    let removes = any(|a| matches!(a, Action::Remove { .. }));
    match () {
        () if !wanted => "remove",
        () if creates && touched.is_empty() => "create",
        () if creates => "recreate",
        () if stops && starts => "restart",
        () if starts => "start",
        () if any(|a| matches!(a, Action::Unpause { .. })) => "unpause",
        () if stops || removes => "remove",
        () if any(|a| matches!(a, Action::Update { .. })) => "update",
        () if any(|a| {
            matches!(a, Action::Connect { .. } | Action::Rejoin { .. } | Action::Disconnect { .. })
        }) =>
        {
            "reconnect"
        }
        () => "rename",
    }
}

/// Steps whose reasons explain the action; those of the others only say how it is done.
fn says_why(step: &Step, action: &str) -> bool {
    match action {
        "create" | "recreate" => matches!(step.action, Action::CreateContainer { .. }),
        _ => true,
    }
}

/// Networks and volumes that are made or removed.
fn objects(plan: &Plan) -> Vec<ObjectDiff> {
    let mut objects: BTreeMap<(&str, &str), ObjectDiff> = BTreeMap::new();
    for step in &plan.steps {
        let (kind, name, action) = match &step.action {
            Action::CreateNetwork { name, .. } => ("network", name, "create"),
            Action::RemoveNetwork { name, .. } => ("network", name, "remove"),
            Action::CreateVolume { name, .. } => ("volume", name, "create"),
            _ => continue,
        };
        let new = ObjectDiff {
            kind: kind.to_owned(),
            name: name.clone(),
            action: action.to_owned(),
            reason: step.reason.clone(),
        };
        // One that is removed and made goes by one line.
        objects.entry((kind, name)).and_modify(|old| old.action = "recreate".to_owned()).or_insert(new);
    }
    objects.into_values().collect()
}
