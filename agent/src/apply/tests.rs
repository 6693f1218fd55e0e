//! Applying against the fake engine, on a clock that only goes on when everybody waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_compose::model::UpdateConfig;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::engine::fake::{Behaviour, Fake};
use crate::engine::observe::{Wake, Watcher, observe};
use crate::engine::types::{Container, Health, ImageConfig, State};
use crate::engine::{Error, Kind, codes};
use crate::plan::tests::builders::Stack;
use crate::plan::{Desired, Memory, Observed, Policy, plan};

/// A fake engine with a hub that listens.
pub(super) struct Rig {
    pub(super) fake: Fake,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) hub: EventHub,
}

impl Rig {
    pub(super) async fn new() -> Self {
        let fake = Fake::new();
        for image in ["app:1", "app:2", "tool:1"] {
            fake.add_image(&format!("sha256:{image}"), ImageConfig::default());
        }
        let engine: Arc<dyn Engine> = Arc::new(fake.clone());
        let hub = EventHub::spawn(engine.clone());
        hub.up().wait_for(|up| *up).await.unwrap();
        Self { fake, engine, hub }
    }

    pub(super) async fn plan(&self, desired: &Desired, memory: &Memory) -> Plan {
        let observed = observe(self.engine.as_ref(), &desired.scope()).await.unwrap();
        plan(desired, &observed, memory, Policy::default())
    }

    pub(super) async fn apply(&self, plan: &Plan) -> Outcome {
        self.apply_with(plan, Options::default(), &CancellationToken::new()).await
    }

    pub(super) async fn apply_with(
        &self,
        plan: &Plan,
        options: Options,
        cancel: &CancellationToken,
    ) -> Outcome {
        apply(&self.engine, &self.hub, plan, options, cancel, &mut |_| {}).await
    }

    async fn up(&self, stack: &Stack) -> Outcome {
        let plan = self.plan(&stack.desired(), &Memory::default()).await;
        self.apply(&plan).await
    }

    async fn gate(&self, stack: &Stack, gate: Gate) -> Result<(), Vec<Failure>> {
        wait_converged(&self.engine, &self.hub, &stack.desired(), &Memory::default(), gate).await
    }
}

fn first_failure(outcome: &Outcome) -> &Failure {
    outcome.failures().next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stack_comes_up_and_needs_nothing_more() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["db", "job>db:healthy", "web>job:done"]).volume("db", "data").port("web", "80");
    rig.fake.behave("db", Behaviour::HealthyAfter(Duration::from_secs(3)));
    rig.fake.behave("job", Behaviour::Exit(0, Duration::from_secs(2)));
    let outcome = rig.up(&stack).await;
    assert!(outcome.is_done(), "{:?}", outcome.failures().collect::<Vec<_>>());
    rig.gate(&stack, Gate::default()).await.unwrap();
    assert!(rig.plan(&stack.desired(), &Memory::default()).await.is_empty());
    let started: Vec<String> =
        rig.fake.changes().into_iter().filter(|call| call.starts_with("start")).collect();
    assert_eq!(started, ["start p-db-1", "start p-job-1", "start p-web-1"]);
}

#[tokio::test(start_paused = true)]
async fn four_layers_take_the_time_of_their_health_checks_and_little_more() {
    let rig = Rig::new().await;
    let mut names: Vec<String> = Vec::new();
    for layer in 0..4 {
        for service in 0..5 {
            let on = if layer == 0 { String::new() } else { format!(">s{}{service}:healthy", layer - 1) };
            names.push(format!("s{layer}{service}{on}"));
            rig.fake.behave(&format!("s{layer}{service}"), Behaviour::HealthyAfter(Duration::from_secs(1)));
        }
    }
    let mut stack = Stack::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for service in 0..5 {
        stack = stack
            .edit(&format!("s3{service}"), |s| s.healthcheck = Some(crate::plan::tests::builders::check()));
    }
    rig.fake.set_latency(Duration::from_millis(10));
    let began = Instant::now();
    assert!(rig.up(&stack).await.is_done());
    // All have a health check, so nothing has to settle.
    let gate = Gate { settle: Duration::from_secs(3600), timeout: Duration::from_secs(7200) };
    rig.gate(&stack, gate).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_millis(4300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_are_bounded_and_side_by_side() {
    let rig = Rig::new().await;
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let stack = Stack::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    rig.fake.set_latency(Duration::from_millis(10));
    let plan = rig.plan(&stack.desired(), &Memory::default()).await;
    let options = Options { parallel: 4, ..Options::default() };
    assert!(rig.apply_with(&plan, options, &CancellationToken::new()).await.is_done());
    assert!((2..=4).contains(&rig.fake.widest_start()), "{}", rig.fake.widest_start());
}

#[tokio::test(start_paused = true)]
async fn who_is_waited_for_goes_before_who_only_waits() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["z", "a>z:healthy", "b>z:healthy", "c>z:healthy"]);
    rig.fake.set_latency(Duration::from_millis(10));
    let plan = rig.plan(&stack.desired(), &Memory::default()).await;
    let options = Options { parallel: 1, ..Options::default() };
    assert!(rig.apply_with(&plan, options, &CancellationToken::new()).await.is_done());
    let changes = rig.fake.changes();
    assert_eq!(changes[..3], ["create network p_default", "create p-z-1", "start p-z-1"], "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_what_needs_it_and_nothing_else() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["a", "b>a", "c"]);
    rig.fake.fail("start", "p-a-1", Kind::PortTaken, 1);
    let outcome = rig.up(&stack).await;
    let failures: Vec<&Failure> = outcome.failures().collect();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].code(), &codes::PORT_TAKEN);
    assert_eq!(failures[0].service.as_deref(), Some("a"));
    let states: BTreeMap<String, State> = rig.fake.states().into_iter().collect();
    assert_eq!(states["p-c-1"], State::Running);
    assert_eq!(states["p-b-1"], State::Created, "made, since making needs nobody");
    assert!(rig.up(&stack).await.is_done(), "the next pass goes on where this one ended");
}

#[tokio::test(start_paused = true)]
async fn what_was_done_without_being_heard_counts_as_done() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["web"]).volume("web", "data");
    let stale = rig.plan(&stack.desired(), &Memory::default()).await;
    assert!(rig.apply(&stale).await.is_done());
    assert!(rig.apply(&stale).await.is_done(), "the same plan once more");
    assert_eq!(rig.fake.containers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_somebody_took_meanwhile_is_not_ours() {
    let rig = Rig::new().await;
    let plan = rig.plan(&Stack::of(&["web"]).desired(), &Memory::default()).await;
    rig.fake.put_container(crate::plan::tests::builders::stranger("p-web-1"));
    let outcome = rig.apply(&plan).await;
    assert_eq!(first_failure(&outcome).code(), &codes::NAME_TAKEN);
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_dependency_ends_the_wait_and_is_named() {
    let rig = Rig::new().await;
    rig.fake.behave("db", Behaviour::UnhealthyAfter(Duration::from_secs(7)));
    let began = Instant::now();
    let outcome = rig.up(&Stack::of(&["db", "web>db:healthy"])).await;
    let failure = first_failure(&outcome);
    assert_eq!(failure.code(), &codes::UNHEALTHY);
    assert!(failure.to_string().contains("p-db-1 is unhealthy"), "{failure}");
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_ends_the_wait_with_its_code_and_last_words() {
    let rig = Rig::new().await;
    rig.fake.behave("job", Behaviour::Exit(3, Duration::from_secs(1)));
    let outcome = rig.up(&Stack::of(&["job", "web>job:done"])).await;
    let failure = first_failure(&outcome);
    assert_eq!(failure.cause, Cause::Ended("p-job-1".into(), 3));
    assert!(failure.to_string().contains("it said last: log of"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end() {
    let rig = Rig::new().await;
    rig.fake.behave("db", Behaviour::NeverHealthy);
    let plan = rig.plan(&Stack::of(&["db", "web>db:healthy"]).desired(), &Memory::default()).await;
    let options = Options { condition_timeout: Duration::from_secs(30), ..Options::default() };
    let outcome = rig.apply_with(&plan, options, &CancellationToken::new()).await;
    assert_eq!(first_failure(&outcome).cause, Cause::Timeout("p-db-1".into()));
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_waits_at_once_and_begins_nothing_more() {
    let rig = Rig::new().await;
    rig.fake.behave("db", Behaviour::NeverHealthy);
    let plan = rig.plan(&Stack::of(&["db", "web>db:healthy"]).desired(), &Memory::default()).await;
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        trigger.cancel();
    });
    let began = Instant::now();
    let outcome = rig.apply_with(&plan, Options::default(), &cancel).await;
    assert_eq!(first_failure(&outcome).cause, Cause::Cancelled);
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert!(!rig.fake.changes().contains(&"start p-web-1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlives_an_engine_that_goes_away_and_comes_back() {
    let rig = Rig::new().await;
    rig.fake.behave("db", Behaviour::NeverHealthy);
    let stack = Stack::of(&["db", "web>db:healthy"]).restart("db", kedge_compose::model::Restart::Always);
    let fake = rig.fake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.stop_engine();
        tokio::time::sleep(Duration::from_secs(20)).await;
        fake.behave("db", Behaviour::HealthyAfter(Duration::from_secs(1)));
        fake.start_engine();
    });
    assert!(rig.up(&stack).await.is_done());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_told_apart_from_a_release_that_fails() {
    let rig = Rig::new().await;
    let plan = rig.plan(&Stack::of(&["web"]).desired(), &Memory::default()).await;
    rig.fake.stop_engine();
    let outcome = rig.apply(&plan).await;
    assert!(outcome.engine_went_away());
    let scope = Stack::of(&["web"]).desired().scope();
    assert!(observe(rig.engine.as_ref(), &scope).await.is_err_and(|error: Error| error.is_engine_away()));
}

#[tokio::test(start_paused = true)]
async fn progress_tells_of_every_step() {
    let rig = Rig::new().await;
    rig.fake.fail("create", "p-a-1", Kind::NoImage, 1);
    let plan = rig.plan(&Stack::of(&["a", "b"]).desired(), &Memory::default()).await;
    let mut told: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut tell = |progress: Progress<'_>| {
        let what = match progress {
            Progress::Began(_) => "began",
            Progress::Done(..) => "done",
            Progress::Failed(..) => "failed",
            Progress::Skipped(..) => "skipped",
        };
        *told.entry(what).or_default() += 1;
    };
    apply(&rig.engine, &rig.hub, &plan, Options::default(), &CancellationToken::new(), &mut tell).await;
    assert_eq!(told, BTreeMap::from([("began", 4), ("done", 3), ("failed", 1), ("skipped", 1)]));
}

#[tokio::test(start_paused = true)]
async fn the_gate_names_who_is_unhealthy() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["db", "web"])
        .edit("web", |web| web.healthcheck = Some(crate::plan::tests::builders::check()));
    rig.fake.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(9)));
    assert!(rig.up(&stack).await.is_done());
    let failures = rig.gate(&stack, Gate::default()).await.unwrap_err();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].service.as_deref(), Some("web"));
    assert_eq!(failures[0].code(), &codes::UNHEALTHY);
}

#[tokio::test(start_paused = true)]
async fn the_gate_notices_what_ends_soon_after_it_started() {
    for restart in [kedge_compose::model::Restart::No, kedge_compose::model::Restart::Always] {
        let rig = Rig::new().await;
        let stack = Stack::of(&["web"]).port("web", "80").restart("web", restart);
        rig.fake.behave("web", Behaviour::Exit(1, Duration::from_millis(800)));
        assert!(rig.up(&stack).await.is_done());
        let failures = rig.gate(&stack, Gate::default()).await.unwrap_err();
        assert_eq!(failures[0].code(), &codes::ENDED, "{}", failures[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_gate_notices_what_was_healthy_and_fell_while_another_was_awaited() {
    let rig = Rig::new().await;
    let check = crate::plan::tests::builders::check();
    let stack = Stack::of(&["quick", "slow"])
        .edit("quick", |quick| quick.healthcheck = Some(check.clone()))
        .edit("slow", |slow| slow.healthcheck = Some(check.clone()));
    rig.fake.behave("quick", Behaviour::HealthyAfter(Duration::from_secs(1)));
    rig.fake.behave("slow", Behaviour::HealthyAfter(Duration::from_secs(30)));
    assert!(rig.up(&stack).await.is_done());
    let fake = rig.fake.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        fake.exit("p-quick-1", 137);
    });
    let failures = rig.gate(&stack, Gate::default()).await.unwrap_err();
    assert_eq!(failures[0].service.as_deref(), Some("quick"), "{}", failures[0]);
}

#[tokio::test(start_paused = true)]
async fn the_gate_passes_what_ended_well_and_was_meant_to() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["job", "web>job:done", "seed"]);
    rig.fake.behave("job", Behaviour::Exit(0, Duration::from_secs(1)));
    rig.fake.behave("seed", Behaviour::Exit(0, Duration::from_secs(1)));
    assert!(rig.up(&stack).await.is_done());
    rig.gate(&stack, Gate::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_gate_has_an_end() {
    let rig = Rig::new().await;
    let stack =
        Stack::of(&["web"]).edit("web", |web| web.healthcheck = Some(crate::plan::tests::builders::check()));
    rig.fake.behave("web", Behaviour::NeverHealthy);
    assert!(rig.up(&stack).await.is_done());
    let gate = Gate { timeout: Duration::from_secs(60), ..Gate::default() };
    assert_eq!(rig.gate(&stack, gate).await.unwrap_err()[0].code(), &codes::NOT_IN_TIME);
}

#[tokio::test(start_paused = true)]
async fn with_nothing_happening_a_watcher_asks_the_engine_nothing() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["db", "web"]);
    rig.up(&stack).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut watcher = Watcher::new(rig.engine.clone(), &rig.hub, stack.desired().scope());
    let first: Observed = watcher.observe().await.unwrap().clone();
    rig.fake.forget_calls();
    assert_eq!(watcher.observe().await.unwrap(), &first);
    assert!(rig.fake.calls().is_empty(), "{:?}", rig.fake.calls());
    rig.fake.exit("p-web-1", 1);
    assert!(matches!(watcher.changed().await, Wake::Event(_)));
    let web =
        watcher.observe().await.unwrap().containers.iter().find(|c| c.name == "p-web-1").unwrap().clone();
    assert_eq!(web.state, State::Exited);
    assert_eq!(rig.fake.calls(), ["inspect p-web-1"], "only what the event was about");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_what_goes_and_ignores_what_is_not_in_scope() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["web"]);
    rig.up(&stack).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut watcher = Watcher::new(rig.engine.clone(), &rig.hub, stack.desired().scope());
    assert_eq!(watcher.observe().await.unwrap().containers.len(), 1);
    let other = crate::engine::ContainerSpec { image: "sha256:app:1".into(), ..Default::default() };
    rig.engine.create_container("stranger", &other).await.unwrap();
    rig.fake.snatch("p-web-1");
    assert!(
        matches!(watcher.changed().await, Wake::Event(event) if event.action == crate::engine::Action::Destroy)
    );
    assert!(watcher.observe().await.unwrap().containers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_tells_that_the_engine_went_and_came_back() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["web"]).restart("web", kedge_compose::model::Restart::Always);
    rig.up(&stack).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut watcher = Watcher::new(rig.engine.clone(), &rig.hub, stack.desired().scope());
    watcher.observe().await.unwrap();
    rig.fake.stop_engine();
    // What it ends is told before it is gone.
    while watcher.changed().await != Wake::Lost {}
    assert!(watcher.observe().await.unwrap_err().is_engine_away());
    rig.fake.start_engine();
    while watcher.changed().await != Wake::Back {}
    assert_eq!(watcher.observe().await.unwrap().containers[0].health, Health::None);
    assert_eq!(rig.fake.states(), [("p-web-1".to_owned(), State::Running)]);
}

/// The addresses of a container, by network.
fn addresses(rig: &Rig, name: &str) -> BTreeMap<String, Option<String>> {
    let networks = rig.fake.container(name).unwrap().detail.unwrap().networks;
    networks.into_iter().map(|(network, endpoint)| (network, endpoint.ip)).collect()
}

fn checked(names: &[&str]) -> Stack {
    let check = |stack: Stack, name: &&str| {
        stack.edit(name, |s| s.healthcheck = Some(crate::plan::tests::builders::check()))
    };
    names.iter().fold(Stack::of(names), check)
}

#[tokio::test(start_paused = true)]
async fn whoever_loses_its_names_keeps_its_address_and_with_it_its_connections() {
    let rig = Rig::new().await;
    let stack = checked(&["web"]);
    assert!(rig.up(&stack).await.is_done());
    let before = addresses(&rig, "p-web-1");
    let observed = observe(rig.engine.as_ref(), &stack.desired().scope()).await.unwrap();
    let keep = Policy { keep_superseded: true, ..Policy::default() };
    let newer = stack.image("web", "app:2").desired();
    assert!(rig.apply(&plan(&newer, &observed, &Memory::default(), keep)).await.is_done());
    let kept = rig.fake.containers().into_iter().find(|c| c.name.contains(crate::plan::KEPT)).unwrap();
    assert_eq!(addresses(&rig, &kept.name), before);
    assert!(kept.detail.unwrap().networks["p_default"].aliases.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_cannot_be_kept_is_no_reason_to_stay_without() {
    let rig = Rig::new().await;
    let stack = checked(&["web"]);
    assert!(rig.up(&stack).await.is_done());
    let plan = rig.plan(&stack.image("web", "app:2").desired(), &Memory::default()).await;
    rig.fake.fail("connect", "p-web-1.next", Kind::Conflict, 1);
    let outcome = rig.apply(&plan).await;
    assert!(outcome.is_done(), "{:?}", outcome.failures().collect::<Vec<_>>());
    let web = rig.fake.container("p-web-1").unwrap();
    assert!(web.detail.unwrap().networks["p_default"].aliases.contains("web"));
}

#[tokio::test(start_paused = true)]
async fn a_slow_sibling_does_not_delay_the_update_of_another_service() {
    let rig = Rig::new().await;
    let stack = checked(&["slow", "fast"]);
    assert!(rig.up(&stack).await.is_done());
    rig.fake.behave("slow", Behaviour::HealthyAfter(Duration::from_secs(100)));
    let newer = stack.image("slow", "app:2").image("fast", "app:2");
    let plan = rig.plan(&newer.desired(), &Memory::default()).await;
    let (began, mut fast) = (Instant::now(), None);
    let mut look = |progress: Progress<'_>| {
        if let Progress::Done(step, _) = progress
            && step.action.to_string() == "remove p-fast-1"
        {
            fast = Some(began.elapsed());
        }
    };
    let cancel = CancellationToken::new();
    let outcome = apply(&rig.engine, &rig.hub, &plan, Options::default(), &cancel, &mut look).await;
    assert!(outcome.is_done() && began.elapsed() > Duration::from_secs(100));
    assert!(fast.unwrap() < Duration::from_secs(5), "{fast:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_and_is_borne_lets_no_more_of_them_go_at_once() {
    for parallelism in [1, 2] {
        let rig = Rig::new().await;
        let config = UpdateConfig {
            order: Some("stop-first".into()),
            failure_action: Some("continue".into()),
            parallelism: Some(parallelism),
            ..UpdateConfig::default()
        };
        let stack = checked(&["web"]).replicas("web", 6).edit("web", |web| web.update_config = Some(config));
        assert!(rig.up(&stack).await.is_done());
        rig.fake.behave("web", Behaviour::HealthyAfter(Duration::from_secs(5)));
        rig.fake.fail("start", "p-web-1", Kind::PortTaken, 1);
        let plan = rig.plan(&stack.image("web", "app:2").desired(), &Memory::default()).await;
        let mut least = usize::MAX;
        let mut look = |_: Progress<'_>| {
            let well = |c: &Container| c.state == State::Running && c.health == Health::Healthy;
            least = rig.fake.containers().iter().filter(|c| well(c)).count().min(least);
        };
        let cancel = CancellationToken::new();
        let outcome = apply(&rig.engine, &rig.hub, &plan, Options::default(), &cancel, &mut look).await;
        assert_eq!(outcome.failures().count(), 1);
        assert_eq!(least, 6 - 1 - usize::try_from(parallelism).unwrap(), "one failed, its batch is away");
        let anew = rig.fake.containers().into_iter().filter(|c| c.image_id.ends_with("app:2"));
        assert_eq!(anew.filter(|c| c.state == State::Running).count(), 5, "all had their turn");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_handed_over_ends_later_where_nobody_is_to_wait_for_it() {
    let rig = Rig::new().await;
    let old =
        Stack::of(&["web"]).edit("web", |web| web.healthcheck = Some(crate::plan::tests::builders::check()));
    rig.fake.behave("web", Behaviour::HealthyAfter(Duration::from_secs(1)));
    assert!(rig.up(&old).await.is_done());
    let newer = old.clone().image("web", "app:2");
    let plan = rig.plan(&newer.desired(), &Memory::default()).await;
    assert!(!plan.aftermath().is_empty(), "{}", plan.describe().join("\n"));
    let began = Instant::now();
    let options = Options { leave_aftermath: true, ..Options::default() };
    let outcome = rig.apply_with(&plan, options, &CancellationToken::new()).await;
    assert!(outcome.is_done(), "{:?}", outcome.failures().collect::<Vec<_>>());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let running = || rig.fake.containers().iter().filter(|one| one.state == State::Running).count();
    assert_eq!(running(), 2, "the old one ends what it has begun");
    let rest = rig.plan(&newer.desired(), &Memory::default()).await;
    assert!(rest.is_settled() && !rest.is_empty(), "{}", rest.describe().join("\n"));
    let began = Instant::now();
    assert!(rig.apply(&rest).await.is_done());
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(running(), 1);
    assert!(rig.plan(&newer.desired(), &Memory::default()).await.is_empty());
}
