//! Random stacks: networks, volumes, ports, dependencies, jobs, replicas and how each service is to be updated.

use std::collections::BTreeSet;

use kedge_compose::model::{Restart, Service, UpdateConfig};
use proptest::prelude::*;

use crate::plan::tests::builders::{Stack, check};

/// A service of a random stack.
#[derive(Debug, Clone)]
pub(super) struct Random {
    /// On earlier services: index and condition.
    on: Vec<(usize, u8)>,
    is_job: bool,
    replicas: u32,
    newer: bool,
    volume: bool,
    back: bool,
    port: bool,
    always: bool,
    checked: bool,
    /// `deploy.update_config`: order, parallelism and what becomes of a failure.
    order: Option<bool>,
    parallelism: Option<u64>,
    /// `failure_action`, among what can be asked for.
    on_failure: Option<&'static str>,
}

fn service() -> impl Strategy<Value = Random> {
    let on = proptest::collection::vec((0..6_usize, 0..3_u8), 0..3);
    let rare = || proptest::bool::weighted(0.25);
    let flags = (any::<bool>(), rare(), any::<bool>(), rare(), any::<bool>(), any::<bool>());
    let actions = proptest::sample::select(vec!["rollback", "pause", "continue"]);
    let update = (
        proptest::option::weighted(0.3, any::<bool>()),
        proptest::option::weighted(0.3, 0..4_u64),
        proptest::option::weighted(0.5, actions),
    );
    (on, 0..5_u8, 0..4_u32, flags, update).prop_map(|(on, job, replicas, flags, update)| {
        let (order, parallelism, on_failure) = update;
        let (newer, volume, back, port, always, checked) = flags;
        let (is_job, port) = (job == 0, port && replicas == 1);
        Random {
            on,
            is_job,
            replicas,
            newer,
            volume,
            back,
            port,
            always,
            checked,
            order,
            parallelism,
            on_failure,
        }
    })
}

/// A stack whose n-th service is named after n, so that two stacks share services.
pub(super) fn build(services: &[Option<Random>]) -> Stack {
    let mut stack = Stack::of(&[]);
    for (index, service) in services.iter().enumerate() {
        let Some(service) = service else { continue };
        let mut text = format!("s{index}");
        for (on, condition) in service.on.iter().filter(|(on, _)| *on < index) {
            let Some(Some(other)) = services.get(*on) else { continue };
            let how = match (other.is_job, condition) {
                (true, _) => "done",
                (false, 0) => "started",
                (false, 1) => "healthy",
                (false, _) => "restart",
            };
            text.push_str(&format!(">s{on}:{how}"));
        }
        let name = format!("s{index}");
        stack = stack.with(&text).image(&name, if service.newer { "app:2" } else { "app:1" });
        stack = stack.replicas(&name, if service.is_job { 1 } else { service.replicas });
        if service.is_job {
            stack = stack.edit(&name, |job| job.command = Some(vec!["job".into()]));
        }
        if service.volume {
            stack = stack.volume(&name, "data");
        }
        if service.back {
            stack = stack.network(&name, "back");
        }
        if service.port && !service.is_job {
            stack = stack.port(&name, &format!("{}", 8000 + (index * 7 + usize::from(service.newer)) % 6));
        }
        if service.always && !service.is_job {
            stack = stack.restart(&name, Restart::Always);
        }
        if service.checked && !service.is_job {
            stack = stack.edit(&name, |service| service.healthcheck = Some(check()));
        }
        let order = service.order.map(|first| if first { "start-first" } else { "stop-first" }.to_owned());
        let failure_action = service.on_failure.map(str::to_owned);
        let parallelism = service.parallelism;
        let config = UpdateConfig { order, parallelism, failure_action, ..UpdateConfig::default() };
        stack = stack.edit(&name, |service| service.update_config = Some(config));
    }
    stack
}

pub(super) fn stacks() -> impl Strategy<Value = Vec<Option<Random>>> {
    proptest::collection::vec(proptest::option::weighted(0.8, service()), 1..6)
}

/// Ports of different services must not collide, or the engine itself could not run the stack.
pub(super) fn is_possible(stack: &Stack) -> bool {
    let mut taken = BTreeSet::new();
    stack
        .project
        .services
        .values()
        .flat_map(|service| &service.ports)
        .all(|port| taken.insert(port.published.clone()))
}

/// A job, as [`build`] marks them.
pub(super) fn is_job(service: &Service) -> bool {
    service.command.is_some()
}
