//! What a person is told of a plan: action, fields, downtime.

use kedge_bundle::parameters::Secret;
use kedge_compose::model::{Restart, UpdateConfig};
use kedge_proto::local::v1::{Diff, ServiceDiff};

use super::builders::{Observing, Stack, check};
use super::*;
use crate::engine::types::State;
use crate::plan::impact::{digest, impact, sentences};
use crate::plan::step::{Action, Target};
use crate::redact::Redactor;

fn diff(stack: &Stack, observed: &Observed) -> Diff {
    let desired = stack.desired();
    let plan = plan(&desired, observed, &Memory::default(), Policy::default());
    let redactor = Redactor::knowing([Secret::new("hunter2".into())]);
    impact(&desired, observed, &plan, &redactor)
}

fn service<'a>(diff: &'a Diff, name: &str) -> &'a ServiceDiff {
    diff.services.iter().find(|service| service.service == name).unwrap()
}

fn env(stack: Stack, value: &str) -> Stack {
    stack.edit("web", |web| {
        web.environment.insert("LOG_LEVEL".into(), Some(value.into()));
    })
}

#[test]
fn nothing_to_do_is_said_so() {
    let stack = Stack::of(&["db", "web>db"]);
    let diff = diff(&stack, &stack.running());
    assert!(!diff.changes && diff.services.is_empty(), "{diff:?}");
    assert_eq!(diff.unchanged, ["db", "web"]);
}

#[test]
fn each_kind_of_change_has_its_word_and_its_downtime() {
    let stack = Stack::of(&["web"]);
    let limits = |mib: u64| {
        stack
            .clone()
            .edit("web", |web| web.resources.memory = Some(mib << 20))
            .restart("web", Restart::Always)
    };
    let running = stack.running();
    let table: [(Stack, Observed, &str, bool); 9] = [
        (stack.clone(), Observed::default(), "create", false),
        (stack.clone(), running.clone().gone("p-web-1"), "create", false),
        (stack.clone().image("web", "app:2"), running.clone(), "recreate", true),
        (stack.clone().image("web", "app:2"), running.clone().ended("p-web-1", 0), "recreate", false),
        (limits(64), limits(32).running(), "update", false),
        (stack.clone().restart("web", Restart::Always), stack.running().ended("p-web-1", 1), "start", false),
        (stack.clone(), running.clone().but("p-web-1", |c| c.state = State::Paused), "unpause", false),
        (
            stack.clone(),
            running.clone().but("p-web-1", |c| {
                c.detail.as_mut().unwrap().networks.clear();
            }),
            "reconnect",
            false,
        ),
        (stack.clone().replicas("web", 0), running.clone(), "remove", true),
    ];
    for (wanted, seen, action, down) in table {
        let diff = diff(&wanted, &seen);
        let web = service(&diff, "web");
        let downtime = web.downtime.as_ref().unwrap();
        assert_eq!((web.action.as_str(), downtime.expected), (action, down), "{diff:#?}");
        assert!(diff.changes && !downtime.why.is_empty() && !web.reasons.is_empty(), "{diff:#?}");
    }
}

#[test]
fn a_service_that_is_gone_from_the_release_is_removed() {
    let diff = diff(&Stack::of(&["a"]), &Stack::of(&["a", "old"]).running());
    let old = service(&diff, "old");
    assert_eq!((old.action.as_str(), old.downtime.as_ref().unwrap().expected), ("remove", true));
    assert_eq!(diff.unchanged, ["a"]);
}

#[test]
fn fields_are_shown_from_what_to_what() {
    let old = env(Stack::of(&["web"]), "info").port("web", "8080");
    let new = env(Stack::of(&["web"]), "debug").port("web", "8081").image("web", "app:2");
    let diff = diff(&new, &old.running());
    let fields: Vec<(&str, &str, &str)> = service(&diff, "web")
        .fields
        .iter()
        .map(|f| (f.field.as_str(), f.from.as_str(), f.to.as_str()))
        .collect();
    assert_eq!(
        fields,
        [
            ("image", "app:1", "app:2"),
            ("environment LOG_LEVEL", "info", "debug"),
            ("published port", "8080->80/tcp", "8081->80/tcp")
        ]
    );
    assert!(sentences(&diff)[0].starts_with("recreate web: image, environment LOG_LEVEL"));
}

#[test]
fn a_limit_that_is_changed_in_place_is_shown_too() {
    let of = |mib: u64| Stack::of(&["web"]).edit("web", |web| web.resources.memory = Some(mib << 20));
    let diff = diff(&of(64), &of(32).running());
    let web = service(&diff, "web");
    assert_eq!((web.fields[0].from.as_str(), web.fields[0].to.as_str()), ("32 MiB", "64 MiB"));
}

#[test]
fn values_that_may_be_secret_are_never_shown() {
    let with = |name: &str, value: &str| {
        Stack::of(&["web"]).edit("web", |web| {
            web.environment.insert(name.into(), Some(value.into()));
            web.labels.insert(name.into(), value.into());
            web.command = Some(vec!["serve".into(), format!("--{name}"), value.into()]);
        })
    };
    for (name, old, new) in [
        ("DB_PASSWORD", "swordfish", "trout"),
        ("api-key", "swordfish", "trout"),
        ("GREETING", "trout", "hunter2"),
        ("DATABASE", "postgres://a:swordfish@db/x", "postgres://a:trout@db/x"),
    ] {
        let diff = diff(&with(name, new), &with(name, old).running());
        let shown = format!("{diff:?}");
        assert!(!shown.contains(old) && !shown.contains(new), "{shown}");
        assert!(service(&diff, "web").fields.iter().any(|f| f.hidden), "{diff:#?}");
    }
}

#[test]
fn a_start_before_the_stop_is_no_downtime() {
    let stack = Stack::of(&["web"]);
    let (desired, observed) = (stack.clone().image("web", "app:2").desired(), stack.running());
    let mut plan = plan(&desired, &observed, &Memory::default(), Policy::default());
    // As a planner would order it that starts the new one first.
    let id = |plan: &Plan, is: fn(&Action) -> bool| plan.steps.iter().position(|s| is(&s.action)).unwrap();
    let create = id(&plan, |a| matches!(a, Action::CreateContainer { .. }));
    let stop = id(&plan, |a| matches!(a, Action::Stop { .. }));
    let started = plan.steps.len();
    let new = Target { name: "p-web-1.next".into(), id: None };
    plan.steps.push(Step {
        id: started,
        action: Action::Start { container: new },
        service: Some("web".into()),
        reason: "it is new".into(),
        needs: [create].into(),
        after: BTreeSet::new(),
    });
    plan.steps[stop].needs.insert(started);
    let diff = impact(&desired, &observed, &plan, &Redactor::default());
    assert!(!service(&diff, "web").downtime.as_ref().unwrap().expected, "{diff:#?}");
}

#[test]
fn one_by_one_is_no_downtime_whatever_is_made_of_a_failure() {
    for action in ["rollback", "pause", "continue"] {
        let config = UpdateConfig {
            order: Some("stop-first".into()),
            failure_action: Some(action.into()),
            ..UpdateConfig::default()
        };
        let stack = Stack::of(&["web"])
            .edit("web", |web| (web.healthcheck, web.update_config) = (Some(check()), Some(config)));
        for (replicas, expected) in [(1, true), (2, false)] {
            let stack = stack.clone().replicas("web", replicas);
            let diff = diff(&stack.clone().image("web", "app:2"), &stack.running());
            assert_eq!(service(&diff, "web").downtime.as_ref().unwrap().expected, expected, "{diff:#?}");
        }
    }
}

#[test]
fn networks_that_are_made_anew_cut_connections_and_objects_are_listed() {
    let stack = Stack::of(&["web"]).volume("web", "data");
    let made = diff(&stack, &Observed::default());
    let objects: Vec<_> = made.objects.iter().map(|o| (o.kind.as_str(), o.action.as_str())).collect();
    assert_eq!(objects, [("network", "create"), ("volume", "create")]);
    let mut observed = stack.running();
    observed.networks[0].internal = true;
    let anew = diff(&stack, &observed);
    assert_eq!(anew.objects[0].action, "recreate");
    assert!(service(&anew, "web").downtime.as_ref().unwrap().why.contains("cut for a moment"), "{anew:#?}");
}

#[test]
fn what_is_blocked_counts_as_a_change_and_equal_diffs_have_equal_digests() {
    let stack = Stack::of(&["web"]);
    let observed = Observed { containers: vec![super::builders::stranger("p-web-1")], ..Observed::default() };
    let blocked = diff(&stack, &observed);
    assert!(blocked.changes && blocked.blocked[0].contains("not Kedge's"), "{blocked:?}");
    assert_eq!(digest(&blocked), digest(&diff(&stack, &observed)));
    assert_ne!(digest(&blocked), digest(&diff(&stack, &Observed::default())));
}
