//! Cases of planning, each as: this is wanted, that is there, these steps follow.
//!
//! A plan is written as chains, `create a < start a; start b`: every step of the plan is named once or more, no other
//! step is there, and `x < y` says that y needs x, directly or through others.

pub(crate) mod builders;
mod differences;
mod handover;
mod impact;
mod lifecycle;
mod names;
mod updates;

use std::collections::{BTreeMap, BTreeSet};

use super::{Memory, Observed, Plan, Policy, Step, plan};
use builders::Stack;

/// Plans and compares with the chains.
#[track_caller]
fn assert_plan(stack: &Stack, observed: &Observed, expected: &str) -> Plan {
    assert_plan_with(stack, observed, &Memory::default(), Policy::default(), expected)
}

#[track_caller]
fn assert_plan_with(
    stack: &Stack,
    observed: &Observed,
    memory: &Memory,
    policy: Policy,
    expected: &str,
) -> Plan {
    let plan = plan(&stack.desired(), observed, memory, policy);
    let lines: BTreeMap<String, &Step> =
        plan.steps.iter().map(|step| (step.action.to_string(), step)).collect();
    assert_eq!(lines.len(), plan.steps.len(), "steps must differ:\n{}", plan.describe().join("\n"));
    let chains: Vec<Vec<&str>> = expected
        .split(';')
        .map(|chain| chain.split('<').map(str::trim).filter(|step| !step.is_empty()).collect())
        .collect();
    let named: BTreeSet<&str> = chains.iter().flatten().copied().collect();
    let planned: BTreeSet<&str> = lines.keys().map(String::as_str).collect();
    assert_eq!(planned, named, "planned (left) against expected (right):\n{}", plan.describe().join("\n"));
    for pair in chains.iter().flat_map(|chain| chain.windows(2)) {
        let (before, after) = (lines[pair[0]], lines[pair[1]]);
        assert!(needs(&plan, after.id, before.id), "`{}` should need `{}`", pair[1], pair[0]);
    }
    for step in &plan.steps {
        assert!(
            step.needs.union(&step.after).all(|need| *need < step.id),
            "what a step needs stands before it"
        );
        assert!(!step.reason.is_empty());
    }
    plan
}

/// Whether a step needs another one, directly or through others.
fn needs(plan: &Plan, step: usize, other: usize) -> bool {
    let step = &plan.steps[step];
    step.needs.union(&step.after).any(|need| *need == other || needs(plan, *need, other))
}

/// The steps of a plan do not order these two at all.
#[track_caller]
fn assert_unrelated(plan: &Plan, one: &str, other: &str) {
    let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
    assert!(
        !needs(plan, id(one), id(other)) && !needs(plan, id(other), id(one)),
        "`{one}` and `{other}` are ordered"
    );
}
