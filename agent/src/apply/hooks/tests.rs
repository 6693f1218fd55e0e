//! Hooks against the fake engine.

use std::time::Duration;

use kedge_compose::model::{Hook, PreStart};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::tests::Rig;
use super::super::{Options, Outcome};
use crate::engine::fake::Behaviour;
use crate::engine::types::State;
use crate::engine::{Finished, codes};
use crate::plan::tests::builders::Stack;
use crate::plan::{Desired, Memory};

fn hook(command: &str) -> Hook {
    Hook { command: command.split(' ').map(str::to_owned).collect(), ..Hook::default() }
}

fn pre(command: &str) -> PreStart {
    PreStart { hook: hook(command), ..PreStart::default() }
}

async fn up(rig: &Rig, desired: &Desired) -> Outcome {
    rig.apply(&rig.plan(desired, &Memory::default()).await).await
}

fn changes(rig: &Rig) -> Vec<String> {
    let noise = |call: &String| !call.contains("network") && !call.starts_with("remove p-web-1.pre");
    let changes = rig.fake.changes().into_iter().filter(noise).collect();
    rig.fake.forget_calls();
    changes
}

#[tokio::test(start_paused = true)]
async fn hooks_surround_the_life_of_a_container() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["web"]).edit("web", |web| {
        web.pre_start = vec![pre("migrate"), PreStart { image: Some("tool:1".into()), ..pre("chown /data") }];
        web.post_start = vec![hook("warm up"), hook("tell")];
        web.pre_stop = vec![hook("drain")];
    });
    assert!(up(&rig, &stack.desired()).await.is_done());
    assert_eq!(
        changes(&rig),
        [
            "create p-web-1",
            "create p-web-1.pre-start-1",
            "start p-web-1.pre-start-1",
            "create p-web-1.pre-start-2",
            "start p-web-1.pre-start-2",
            "start p-web-1",
            "exec p-web-1",
            "exec p-web-1"
        ]
    );
    assert_eq!(rig.fake.states(), [("p-web-1".to_owned(), State::Running)], "nothing of a hook is left");
    assert!(up(&rig, &stack.desired()).await.is_done());
    assert!(changes(&rig).is_empty());

    // Started again after its end: what ran once before the first start has run.
    rig.fake.exit("p-web-1", 1);
    assert!(up(&rig, &stack.desired()).await.is_done());
    assert_eq!(changes(&rig), ["start p-web-1", "exec p-web-1", "exec p-web-1"]);

    // Made anew, with the old release's hook before the old one's end and the new one's before the new one's start.
    let newer = stack.clone().image("web", "app:2").edit("web", |web| web.pre_stop.clear());
    assert!(up(&rig, &newer.desired()).await.is_done());
    let done = changes(&rig);
    let at =
        |call: &str| done.iter().position(|done| done == call).unwrap_or_else(|| panic!("{call}: {done:?}"));
    assert!(at("exec p-web-1") < at("stop p-web-1"), "{done:?}");
    assert!(at("start p-web-1.pre-start-1") < at("start p-web-1"), "{done:?}");
    let expected = ["warm up", "tell", "warm up", "tell", "drain", "warm up", "tell"];
    let said: Vec<String> = rig.fake.execs();
    assert_eq!(said.len(), expected.len(), "{said:?}");
    assert!(said.iter().zip(expected).all(|(said, wanted)| said.ends_with(wanted)), "{said:?}");

    // What runs is stopped by its own hooks also when nothing is wanted any more.
    let desired = stack.desired();
    assert!(up(&rig, &desired).await.is_done());
    assert!(up(&rig, &Desired::nothing("p", "p")).await.is_done());
    assert_eq!(rig.fake.execs().last().map(String::as_str), Some("p-web-1: drain"));
    assert!(rig.fake.states().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_container_of_somebody_else_that_has_a_hooks_name_is_left_alone() {
    let rig = Rig::new().await;
    rig.fake.put_container(crate::plan::tests::builders::stranger("p-web-1.pre-start-1"));
    let stack = Stack::of(&["web"]).edit("web", |web| web.pre_start = vec![pre("migrate")]);
    let outcome = up(&rig, &stack.desired()).await;
    assert_eq!(outcome.failures().next().unwrap().code(), &codes::NAME_TAKEN);
    assert!(rig.fake.container("p-web-1.pre-start-1").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_does_not_cut_a_hook_short_that_saves_what_a_stop_would_lose() {
    let rig = Rig::new().await;
    let saving = |web: &mut kedge_compose::model::Service| web.pre_stop = vec![hook("save")];
    let stack = Stack::of(&["web"]).edit("web", saving);
    assert!(up(&rig, &stack.desired()).await.is_done());
    rig.fake.forget_calls();
    let cancel = CancellationToken::new();
    let engine: std::sync::Arc<dyn crate::engine::Engine> = std::sync::Arc::new(rig.fake.clone());
    let runner = super::Runner::new(&engine, Duration::from_secs(60), &cancel);
    cancel.cancel();
    runner.stop("p-web-1").await.unwrap();
    assert_eq!(rig.fake.changes(), ["exec p-web-1", "stop p-web-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_hook_fails_before_its_start_is_not_started_nor_what_depends_on_it() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["web", "front>web"]).edit("web", |web| web.pre_start = vec![pre("migrate")]);
    rig.fake.behave("pre_start", Behaviour::Exit(3, Duration::from_secs(1)));
    let outcome = up(&rig, &stack.desired()).await;
    let failure = outcome.failures().next().unwrap();
    assert_eq!((failure.code(), failure.service.as_deref()), (&codes::HOOK_FAILED, Some("web")));
    assert!(failure.to_string().contains("pre_start hook of p-web-1 ended with exit code 3"), "{failure}");
    let created = |name: &str| (name.to_owned(), State::Created);
    assert_eq!(rig.fake.states(), [created("p-front-1"), created("p-web-1")]);
    // The next attempt runs it again.
    rig.fake.behave("pre_start", Behaviour::Exit(0, Duration::ZERO));
    assert!(up(&rig, &stack.desired()).await.is_done());
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_hook_fails_after_its_start_is_stopped_and_its_words_are_told() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["web"]).edit("web", |web| web.post_start = vec![hook("warm up")]);
    rig.fake.answer("warm", Some(Finished { code: 4, output: vec!["no water".into()] }));
    let outcome = up(&rig, &stack.desired()).await;
    let failure = outcome.failures().next().unwrap();
    assert_eq!(failure.code(), &codes::HOOK_FAILED);
    assert!(failure.to_string().ends_with("exit code 4; it said last: no water"), "{failure}");
    assert_eq!(rig.fake.states(), [("p-web-1".to_owned(), State::Exited)]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_never_ends_is_given_up() {
    let rig = Rig::new().await;
    let stack = Stack::of(&["web"]).edit("web", |web| {
        web.post_start = vec![hook("warm up")];
        web.pre_stop = vec![hook("drain"), hook("never reached")];
    });
    rig.fake.answer("drain", None);
    assert!(up(&rig, &stack.desired()).await.is_done());
    let began = Instant::now();
    assert!(up(&rig, &Desired::nothing("p", "p")).await.is_done(), "a failing pre_stop stops nothing");
    assert_eq!(began.elapsed(), super::BEFORE_STOP);
    assert!(rig.fake.states().is_empty());

    rig.fake.answer("warm", None);
    let plan = rig.plan(&stack.desired(), &Memory::default()).await;
    let options = Options { condition_timeout: Duration::from_secs(5), ..Options::default() };
    let outcome = rig.apply_with(&plan, options, &CancellationToken::new()).await;
    assert_eq!(outcome.failures().next().unwrap().code(), &codes::NOT_IN_TIME);
    assert_eq!(rig.fake.states(), [("p-web-1".to_owned(), State::Exited)]);
}

#[tokio::test(start_paused = true)]
async fn what_runs_once_for_a_service_runs_once_for_all_its_containers() {
    let rig = Rig::new().await;
    let mut stack = Stack::of(&["web"]).replicas("web", 3).edit("web", |web| {
        web.pre_start = vec![pre("migrate"), PreStart { per_replica: true, ..pre("register") }];
    });
    let runs = |which: usize| {
        let suffix = format!(".pre-start-{which}");
        let starts = rig.fake.changes();
        starts.iter().filter(|call| call.starts_with("start") && call.ends_with(&suffix)).count()
    };
    assert!(up(&rig, &stack.desired()).await.is_done());
    assert_eq!((runs(1), runs(2)), (1, 3));
    // More of the same are no new definition.
    stack = stack.replicas("web", 4);
    assert!(up(&rig, &stack.desired()).await.is_done());
    assert_eq!((runs(1), runs(2)), (1, 4));
    // Another image is.
    stack = stack.image("web", "app:2");
    assert!(up(&rig, &stack.desired()).await.is_done());
    assert_eq!((runs(1), runs(2)), (2, 8));
}
