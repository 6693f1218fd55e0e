//! What holds for all stacks: whatever ran before, wherever it was cut off and whatever was done to it by hand, planning
//! and applying again ends in the same state, touches nothing of anybody else's, and removes no volume.

mod handover;
mod order;
mod stacks;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::tests::Rig;
use super::*;
use crate::engine::fake::Behaviour;
use crate::engine::observe::observe;
use crate::engine::types::State;
use crate::plan::tests::builders::{Stack, of_another, stranger};
use crate::plan::{Desired, Memory, Policy, finished, plan};
use stacks::{build, is_job, is_possible, stacks};

/// Something done to a container by hand.
#[derive(Debug, Clone)]
enum Deed {
    Kill,
    Remove,
    Pause,
    Rename,
    Disconnect,
}

fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
    let deed = prop_oneof![
        Just(Deed::Kill),
        Just(Deed::Remove),
        Just(Deed::Pause),
        Just(Deed::Rename),
        Just(Deed::Disconnect)
    ];
    proptest::collection::vec((0..8_usize, deed), 0..4)
}

fn tamper(rig: &Rig, deeds: &[(usize, Deed)]) {
    for (which, deed) in deeds {
        let containers: Vec<_> =
            rig.fake.containers().into_iter().filter(|c| c.deployment() == Some("p")).collect();
        let Some(container) = containers.get(*which) else { continue };
        let name = container.name.as_str();
        match deed {
            Deed::Kill => rig.fake.exit(name, 137),
            Deed::Remove => rig.fake.snatch(name),
            Deed::Pause => rig.fake.tamper(name, |c| {
                if c.state == State::Running {
                    c.state = State::Paused;
                }
            }),
            Deed::Rename => rig.fake.tamper(name, |c| c.name = format!("by-hand-{}", c.id)),
            Deed::Disconnect => rig.fake.tamper(name, |c| {
                if let Some(detail) = &mut c.detail {
                    detail.networks.clear();
                }
            }),
        }
    }
}

/// Applies at most so many steps, then cancels.
async fn apply_cut_off(rig: &Rig, plan: &Plan, steps: usize) {
    let cancel = CancellationToken::new();
    let mut done = 0;
    let mut count = |progress: Progress<'_>| {
        if matches!(progress, Progress::Done(..)) {
            done += 1;
            if done >= steps {
                cancel.cancel();
            }
        }
    };
    apply(&rig.engine, &rig.hub, plan, Options::default(), &cancel, &mut count).await;
}

/// Observes, plans and applies until nothing is to be done; says how often it applied.
async fn converge(
    rig: &Rig,
    desired: &Desired,
    memory: &mut Memory,
    policy: Policy,
) -> Result<usize, TestCaseError> {
    for pass in 0..6 {
        let observed = observe(rig.engine.as_ref(), &desired.scope()).await.unwrap();
        memory.done.extend(finished(desired, &observed));
        let plan = plan(desired, &observed, memory, policy);
        for step in &plan.steps {
            prop_assert!(step.needs.iter().all(|need| *need < step.id));
        }
        if plan.is_empty() {
            return Ok(pass);
        }
        rig.apply(&plan).await;
        // Jobs that nobody waits for end a moment later.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let observed = observe(rig.engine.as_ref(), &desired.scope()).await.unwrap();
    let left = plan(desired, &observed, memory, policy).describe();
    Err(TestCaseError::fail(format!("never settles: {left:?}\n{:?}", rig.fake.states())))
}

/// What runs, told by name, image and state, for comparing two ways to get there.
fn summary(rig: &Rig) -> BTreeMap<String, (String, State)> {
    let ours = rig.fake.containers().into_iter().filter(|container| container.deployment() == Some("p"));
    ours.map(|container| (container.name, (container.image_id, container.state))).collect()
}

/// Jobs end, everything else runs.
fn behave(rig: &Rig, stack: &Stack) {
    for (name, service) in &stack.project.services {
        let ends = Behaviour::Exit(0, Duration::ZERO);
        rig.fake.behave(name, if is_job(service) { ends } else { Behaviour::Run });
    }
}

async fn check(
    before: Stack,
    after: Stack,
    cut: usize,
    keep: bool,
    deeds: Vec<(usize, Deed)>,
) -> Result<(), TestCaseError> {
    let rig = Rig::new().await;
    behave(&rig, &before);
    let mut foreign = stranger("p-other-1");
    foreign.labels = of_another();
    rig.fake.put_container(foreign.clone());
    let mut memory = Memory::default();

    converge(&rig, &before.desired(), &mut memory, Policy::default()).await?;
    let volumes = rig.fake.volumes();
    behave(&rig, &after);
    tamper(&rig, &deeds);
    let observed = observe(rig.engine.as_ref(), &after.desired().scope()).await.unwrap();
    let policy = Policy { keep_superseded: keep, ..Policy::default() };
    apply_cut_off(&rig, &plan(&after.desired(), &observed, &memory, policy), cut).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    converge(&rig, &after.desired(), &mut memory, policy).await?;
    converge(&rig, &after.desired(), &mut memory, Policy::default()).await?;

    prop_assert_eq!(rig.fake.container("p-other-1"), Some(foreign), "a stranger was touched");
    for volume in volumes {
        prop_assert!(rig.fake.volumes().contains(&volume), "volume {} is gone", volume.name);
    }
    prop_assert!(!rig.fake.calls().iter().any(|call| call.starts_with("remove volume")));
    let found = summary(&rig);
    for (name, wanted) in &after.desired().containers {
        let is_job = is_job(&after.project.services[&wanted.service]);
        let Some((image, state)) = found.get(name) else {
            prop_assert!(is_job, "{name} is missing");
            continue;
        };
        prop_assert_eq!(image, &wanted.spec.image);
        prop_assert_eq!(*state, if is_job { State::Exited } else { State::Running }, "{}", name);
    }
    for name in found.keys() {
        prop_assert!(after.desired().containers.contains_key(name), "{name} should be gone");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// From any stack to any other, cut off after any number of steps, with things done by hand in between.
    #[test]
    fn every_way_ends_in_what_is_wanted(
        before in stacks(),
        after in stacks(),
        cut in 0..20_usize,
        keep in any::<bool>(),
        deeds in deeds(),
    ) {
        let (before, after) = (build(&before), build(&after));
        prop_assume!(is_possible(&before) && is_possible(&after));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(before, after, cut, keep, deeds))?;
    }
}
