//! What clients of a healthy stack see of an update: with start-first there are never fewer that serve than before, and
//! stop-first takes no more of them at a time than `parallelism` says; wherever it is cut off.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::stacks::{build, is_possible, stacks};
use super::*;
use crate::plan::{Action, Desired};

/// Containers of each service that run and are known by its name.
fn serving(rig: &Rig) -> BTreeMap<String, usize> {
    let mut serving = BTreeMap::new();
    for container in rig.fake.containers().iter().filter(|container| container.deployment() == Some("p")) {
        let Some(service) = container.service() else { continue };
        let known = container.detail.as_ref().is_some_and(|detail| {
            detail.networks.values().any(|endpoint| endpoint.aliases.contains(service))
        });
        if known && container.state == State::Running {
            *serving.entry(service.to_owned()).or_default() += 1;
        }
    }
    serving
}

/// How many of each service must serve at every moment while the plan is carried out; services whose containers are replaced.
fn least(plan: &Plan, desired: &Desired, before: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let mut least = BTreeMap::new();
    for (name, service) in &desired.services {
        let steps = || plan.steps.iter().filter(|step| step.service.as_deref() == Some(name));
        let is_replaced = steps().any(|step| matches!(step.action, Action::CreateContainer { .. }));
        // Whoever is restarted with a dependency is away for a moment, all of it.
        let is_restarted = service.depends_on.values().any(|how| how.restart);
        let is_server = service.is_server && !service.is_job;
        if !is_replaced || is_restarted || !is_server {
            continue;
        }
        let whole = before.get(name).copied().unwrap_or_default().min(service.containers.len());
        let is_start_first = steps().any(|step| matches!(step.action, Action::Rejoin { .. }));
        let away = if is_start_first { 0 } else { service.update.parallelism };
        least.insert(name.clone(), whole.saturating_sub(away));
    }
    least
}

/// Applies at most so many steps and looks after each; says whether it was cut off.
async fn apply_watched(
    rig: &Rig,
    plan: &Plan,
    steps: usize,
    least: &BTreeMap<String, usize>,
) -> Result<(), TestCaseError> {
    let cancel = CancellationToken::new();
    let (mut done, mut missing) = (0, None);
    let mut look = |progress: Progress<'_>| {
        if let Progress::Done(step, _) = progress {
            done += 1;
            let now = serving(rig);
            let short =
                least.iter().find(|(name, least)| now.get(*name).copied().unwrap_or_default() < **least);
            if let (Some((name, least)), None) = (short, &missing) {
                missing = Some(format!("after `{step}` fewer than {least} of {name} serve: {now:?}"));
            }
            if done >= steps {
                cancel.cancel();
            }
        }
    };
    apply(&rig.engine, &rig.hub, plan, Options::default(), &cancel, &mut look).await;
    missing.map_or(Ok(()), |missing| {
        Err(TestCaseError::fail(format!("{missing}\nin {}", plan.describe().join("\n"))))
    })
}

async fn check(before: Stack, after: Stack, cut: usize, keep: bool) -> Result<(), TestCaseError> {
    let rig = Rig::new().await;
    behave(&rig, &before);
    let mut memory = Memory::default();
    converge(&rig, &before.desired(), &mut memory, Policy::default()).await?;
    behave(&rig, &after);
    let (desired, policy) = (after.desired(), Policy { keep_superseded: keep, ..Policy::default() });
    let first = serving(&rig);
    let mut required: Option<BTreeMap<String, usize>> = None;
    for steps in [cut, cut, usize::MAX, usize::MAX] {
        let observed = observe(rig.engine.as_ref(), &desired.scope()).await.unwrap();
        memory.done.extend(finished(&desired, &observed));
        let plan = plan(&desired, &observed, &memory, policy);
        let required = required.get_or_insert_with(|| least(&plan, &desired, &first));
        apply_watched(&rig, &plan, steps.max(1), required).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    converge(&rig, &desired, &mut memory, Policy::default()).await?;
    let last = serving(&rig);
    for (name, service) in desired.services.iter().filter(|(_, service)| service.is_server && !service.is_job)
    {
        prop_assert_eq!(last.get(name).copied().unwrap_or_default(), service.containers.len(), "{}", name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clients_of_a_healthy_stack_find_who_serves_them(
        before in stacks(),
        after in stacks(),
        cut in 0..30_usize,
        keep in any::<bool>(),
    ) {
        let (before, after) = (build(&before), build(&after));
        prop_assume!(is_possible(&before) && is_possible(&after));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(before, after, cut, keep))?;
    }
}
