//! What holds for every plan by itself: nobody else's things are in it, and it keeps the order that dependencies ask for.

use std::collections::BTreeSet;

use kedge_compose::model::Condition;
use proptest::prelude::*;

use super::stacks::{build, is_possible, stacks};
use crate::engine::types::State;
use crate::plan::tests::builders::{Observing, Stack, of_another, stranger};
use crate::plan::{Action, Desired, Memory, Observed, Plan, Policy, Step, StepId, Target, plan};

/// Whether a step waits for one of the others, directly or through more.
fn needs_any(plan: &Plan, step: &Step, others: &BTreeSet<StepId>) -> bool {
    let mut open: Vec<StepId> = step.needs.iter().copied().collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if others.contains(&id) {
            return true;
        }
        if seen.insert(id) {
            open.extend(&plan.steps[id].needs);
        }
    }
    false
}

fn concerned(action: &Action) -> Vec<&Target> {
    match action {
        Action::Wait { containers, .. } => containers.iter().collect(),
        Action::Drain { container, successor, .. } => vec![container, successor],
        action => action.about().into_iter().collect(),
    }
}

/// Steps of a service of this kind.
fn steps<'a>(plan: &'a Plan, service: &'a str, is: fn(&Action) -> bool) -> impl Iterator<Item = &'a Step> {
    plan.steps.iter().filter(move |step| step.service.as_deref() == Some(service) && is(&step.action))
}

/// A start waits for everything that its service depends on and that is not there yet.
fn keeps_order(plan: &Plan, desired: &Desired, observed: &Observed) -> Result<(), TestCaseError> {
    for (name, service) in &desired.services {
        for start in steps(plan, name, |action| matches!(action, Action::Start { .. })) {
            for (on, how) in &service.depends_on {
                let starts: BTreeSet<StepId> =
                    steps(plan, on, |action| matches!(action, Action::Start { .. }))
                        .map(|step| step.id)
                        .collect();
                let waits: BTreeSet<StepId> = steps(plan, on, |action| matches!(action, Action::Wait { .. }))
                    .map(|step| step.id)
                    .collect();
                let serves = observed
                    .containers
                    .iter()
                    .any(|container| container.service() == Some(on) && container.state == State::Running);
                let kept = match how.condition {
                    _ if desired.services[on].containers.is_empty() => true,
                    // A restart of what has stayed is no reason to wait.
                    _ if starts.is_empty() => true,
                    Condition::ServiceStarted => needs_any(plan, start, &starts),
                    Condition::ServiceHealthy | Condition::ServiceCompletedSuccessfully => {
                        needs_any(plan, start, &waits)
                    }
                };
                prop_assert!(
                    kept,
                    "{start} does not wait for {on} ({serves}):\n{}",
                    plan.describe().join("\n")
                );
            }
        }
    }
    Ok(())
}

fn check(before: &Stack, after: &Stack, policy: Policy, pick: &[(usize, u8)]) -> Result<(), TestCaseError> {
    let mut observed = before.running().keeping_addresses();
    let mut foreign = stranger("p-other-1");
    foreign.labels = of_another();
    observed.containers.push(foreign);
    for (which, deed) in pick {
        let Some(container) = observed.containers.get_mut(*which) else { continue };
        match deed {
            0 => (container.state, container.exit_code) = (State::Exited, Some(137)),
            1 => container.state = State::Paused,
            2 => container.state = State::Dead,
            _ => container.state = State::Created,
        }
    }
    let desired = after.desired();
    let plan = plan(&desired, &observed, &Memory::default(), policy);
    let ours = |id: &str| {
        observed.containers.iter().any(|container| container.id == id && container.deployment() == Some("p"))
    };
    for (position, step) in plan.steps.iter().enumerate() {
        prop_assert_eq!(step.id, position);
        prop_assert!(
            step.needs.union(&step.after).all(|need| *need < step.id),
            "what it needs stands before it"
        );
        for target in concerned(&step.action) {
            prop_assert!(target.id.as_deref().is_none_or(ours), "{} is not ours", target.name);
        }
    }
    keeps_order(&plan, &desired, &observed)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_keeps_order_and_touches_only_what_is_ours(
        before in stacks(),
        after in stacks(),
        keep_superseded in any::<bool>(),
        going_back in any::<bool>(),
        deeds in proptest::collection::vec((0..8_usize, 0..4_u8), 0..3),
    ) {
        let (before, after) = (build(&before), build(&after));
        prop_assume!(is_possible(&before) && is_possible(&after));
        check(&before, &after, Policy { keep_superseded, going_back }, &deeds)?;
    }
}
