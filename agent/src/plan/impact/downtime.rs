//! Whether anybody would notice: read off the plan's graph, so that it holds however the planner orders an update.

use std::collections::BTreeSet;

use kedge_proto::local::v1::Downtime;

use super::View;
use crate::engine::types::State;
use crate::plan::{Action, Plan, Step, StepId};

/// Whether a service is down while the plan is carried out, and why.
pub(super) fn of(view: &View<'_>, service: &str) -> Downtime {
    let no = |why: &str| Downtime { expected: false, why: why.to_owned() };
    let yes = |why: String| Downtime { expected: true, why };
    let running: BTreeSet<&str> = view
        .ours(service)
        .filter(|container| matches!(container.state, State::Running | State::Restarting))
        .map(|container| container.id.as_str())
        .collect();
    if running.is_empty() {
        return no("nothing of it runs now");
    }
    let steps: Vec<&Step> = view.steps_of(service).collect();
    let ends: Vec<&Step> = steps.iter().copied().filter(|step| ends_one_of(step, &running)).collect();
    let ended: BTreeSet<&str> = ends.iter().filter_map(|step| super::changed(step)).collect();
    let cut = steps.iter().find_map(|step| match &step.action {
        Action::Disconnect { network, container } if running.contains(container.id.as_deref()?) => {
            Some(network)
        }
        _ => None,
    });
    let made_anew = |network: &&String| {
        let mut created = view.plan.steps.iter();
        created.any(|step| matches!(&step.action, Action::CreateNetwork { name, .. } if name == *network))
    };
    if ended.len() < running.len() {
        return match cut {
            Some(network) => yes(format!("its connections on the network {network} are cut for a moment")),
            None if ended.is_empty() => no("it runs on"),
            None => no("others of its containers run on"),
        };
    }
    let starts: BTreeSet<StepId> =
        steps.iter().filter(|step| matches!(step.action, Action::Start { .. })).map(|step| step.id).collect();
    if starts.is_empty() {
        return yes("it is stopped and not started again".to_owned());
    }
    if let Some(network) = cut.filter(made_anew) {
        return yes(format!("its network {network} is made anew, and nobody reaches it meanwhile"));
    }
    if ends.iter().any(|end| follows_any(view.plan, end, &starts)) {
        return no("a new container runs before the last old one is stopped");
    }
    let grace = view
        .desired
        .containers
        .values()
        .find(|wanted| wanted.service == service)
        .and_then(|wanted| wanted.spec.stop_grace)
        .map_or(10, |grace| grace.as_secs());
    let checked = view
        .desired
        .containers
        .values()
        .any(|wanted| wanted.service == service && wanted.spec.is_checked(&wanted.image));
    let until = if checked { "is healthy" } else { "runs" };
    yes(format!(
        "the old container is stopped first, in up to {grace} s; it is back once the new one {until}"
    ))
}

/// Whether the step ends a container that runs.
fn ends_one_of(step: &Step, running: &BTreeSet<&str>) -> bool {
    matches!(step.action, Action::Stop { .. } | Action::Remove { .. })
        && super::changed(step).is_some_and(|id| running.contains(id))
}

/// Whether a step waits for one of the others, directly or through more, be it for its success or for its end.
fn follows_any(plan: &Plan, step: &Step, others: &BTreeSet<StepId>) -> bool {
    let before = |step: &Step| step.needs.union(&step.after).copied().collect::<Vec<StepId>>();
    let mut open = before(step);
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if others.contains(&id) {
            return true;
        }
        if seen.insert(id) {
            open.extend(plan.steps.get(id).into_iter().flat_map(before));
        }
    }
    false
}
