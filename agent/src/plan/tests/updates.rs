//! Replacing: old beside new, interrupted anywhere, kept for going back.

use std::collections::BTreeSet as Set;

use kedge_compose::model::{Mount, MountKind};

use super::builders::{Observing, Stack};
use super::*;
use crate::engine::types::State;
use crate::plan::step::Action;

const KEEP: Policy = Policy { keep_superseded: true, going_back: false };

#[test]
fn a_new_image_swaps_the_container() {
    let stack = Stack::of(&["web"]);
    let plan = assert_plan(
        &stack.clone().image("web", "app:2"),
        &stack.running(),
        "create p-web-1.next < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next",
    );
    assert!(plan.describe()[0].contains("another image"), "{:?}", plan.describe());
}

#[test]
fn an_unchanged_sibling_is_not_disturbed() {
    let stack = Stack::of(&["a", "b"]);
    let plan = plan(
        &stack.clone().image("a", "app:2").desired(),
        &stack.running(),
        &Memory::default(),
        Policy::default(),
    );
    assert_eq!(plan.services(), Set::from(["a"]));
}

#[test]
fn another_generation_of_the_same_release_disturbs_nothing() {
    let stack = Stack::of(&["db", "web>db:healthy"]).volume("db", "data");
    let plan = plan(&stack.compile_as(2).unwrap(), &stack.running(), &Memory::default(), Policy::default());
    assert!(plan.is_empty(), "{:?}", plan.describe());
}

#[test]
fn the_old_container_serves_until_the_dependencies_of_the_new_one_are_met() {
    let stack = Stack::of(&["db", "web>db:healthy"]);
    let newer = stack.clone().image("db", "app:2").image("web", "app:2");
    assert_plan(
        &newer,
        &stack.running(),
        "create p-db-1.next < stop p-db-1 < remove p-db-1 < rename p-db-1.next to p-db-1 < start p-db-1.next
            < wait until p-db-1.next healthy < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next;
         create p-web-1.next < stop p-web-1",
    );
}

#[test]
fn services_are_updated_side_by_side() {
    let stack = Stack::of(&["a", "b"]);
    let newer = stack.clone().image("a", "app:2").image("b", "app:2");
    let plan = plan(&newer.desired(), &stack.running(), &Memory::default(), Policy::default());
    assert_unrelated(&plan, "stop p-a-1", "start p-b-1.next");
    assert_unrelated(&plan, "start p-a-1.next", "stop p-b-1");
}

#[test]
fn a_new_container_that_was_left_under_its_interim_name_is_used() {
    let stack = Stack::of(&["web"]);
    let newer = stack.clone().image("web", "app:2");
    let mut observed = stack.running();
    observed.containers.extend(newer.running().containers.into_iter().map(|mut web| {
        web.id = "id-next".into();
        web.name = "p-web-1.next".into();
        web.state = State::Created;
        web
    }));
    assert_plan(
        &newer,
        &observed,
        "stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1; stop p-web-1 < start p-web-1.next",
    );
    let observed = observed.gone("p-web-1");
    assert_plan(&newer, &observed, "start p-web-1.next < rename p-web-1.next to p-web-1");
    let observed = observed.but("p-web-1.next", |web| web.state = State::Running);
    assert_plan(&newer, &observed, "rename p-web-1.next to p-web-1");
}

#[test]
fn an_interim_container_of_yet_another_spec_is_removed_first() {
    let stack = Stack::of(&["web"]);
    let mut observed = stack.running();
    let mut stale = observed.containers[0].clone();
    stale.id = "id-stale".into();
    stale.name = "p-web-1.next".into();
    stale.image_id = "sha256:app:0".into();
    stale.state = State::Created;
    observed.containers.push(stale);
    assert_plan(
        &stack.clone().image("web", "app:2"),
        &observed,
        "remove p-web-1.next < create p-web-1.next < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1
            < start p-web-1.next",
    );
}

#[test]
fn what_is_replaced_is_kept_when_asked_for() {
    let stack = Stack::of(&["web"]);
    let newer = stack.clone().image("web", "app:2");
    assert_plan_with(
        &newer,
        &stack.running(),
        &Memory::default(),
        KEEP,
        "create p-web-1.next < stop p-web-1 < rename p-web-1 to p-web-1.kept-id-p-web < rename p-web-1.next to p-web-1
            < start p-web-1.next",
    );
}

/// The old container kept beside the new one.
fn updated(old: &Stack, newer: &Stack) -> Observed {
    let mut observed = old.running().kept("p-web-1");
    observed.containers.extend(newer.running().containers.into_iter().map(|mut web| {
        web.id = "id-new".into();
        web
    }));
    observed
}

#[test]
fn what_was_kept_is_left_while_it_may_be_needed_and_removed_after() {
    let stack = Stack::of(&["web"]);
    let newer = stack.clone().image("web", "app:2");
    let observed = updated(&stack, &newer);
    assert_plan_with(&newer, &observed, &Memory::default(), KEEP, "");
    assert_plan(&newer, &observed, "remove p-web-1.kept-id-p-web");
}

#[test]
fn going_back_starts_what_was_kept() {
    let stack = Stack::of(&["web"]);
    let newer = stack.clone().image("web", "app:2");
    assert_plan(
        &stack,
        &updated(&stack, &newer),
        "stop p-web-1 < start p-web-1.kept-id-p-web < rename p-web-1.kept-id-p-web to p-web-1;
         stop p-web-1 < remove p-web-1 < rename p-web-1.kept-id-p-web to p-web-1",
    );
}

#[test]
fn a_kept_container_that_the_engine_restarted_is_stopped_again() {
    let stack = Stack::of(&["web"]);
    let newer = stack.clone().image("web", "app:2");
    let kept = "p-web-1.kept-id-p-web";
    let observed = updated(&stack, &newer).but(kept, |web| web.state = State::Running);
    assert_plan_with(&newer, &observed, &Memory::default(), KEEP, "stop p-web-1.kept-id-p-web");
}

#[test]
fn a_container_that_was_never_started_is_not_worth_keeping() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| web.state = State::Created);
    assert_plan_with(
        &stack.clone().image("web", "app:2"),
        &observed,
        &Memory::default(),
        KEEP,
        "create p-web-1.next < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next",
    );
}

#[test]
fn a_frozen_container_is_thawed_before_it_is_stopped() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| web.state = State::Paused);
    assert_plan(
        &stack.clone().image("web", "app:2"),
        &observed,
        "create p-web-1.next < unpause p-web-1 < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1
            < start p-web-1.next",
    );
}

#[test]
fn who_asked_for_it_is_restarted_after_its_dependency_was_made_anew() {
    let stack = Stack::of(&["db", "web>db:restart"]);
    assert_plan(
        &stack.clone().image("db", "app:2"),
        &stack.running(),
        "create p-db-1.next < stop p-db-1 < remove p-db-1 < rename p-db-1.next to p-db-1 < start p-db-1.next
            < stop p-web-1 < start p-web-1",
    );
}

#[test]
fn who_asked_for_it_is_restarted_though_the_plan_was_interrupted_between() {
    let stack = Stack::of(&["db", "web>db:restart"]);
    let observed = stack.running().but("p-db-1", |db| {
        db.detail.as_mut().unwrap().created_at = "2026-01-01T00:01:00Z".parse().ok();
    });
    assert_plan(&stack, &observed, "stop p-web-1 < start p-web-1");
    assert_plan(&stack, &observed.ended("p-web-1", 0), "start p-web-1");
}

#[test]
fn who_did_not_ask_is_not_restarted() {
    let stack = Stack::of(&["db", "web>db"]);
    let plan = plan(
        &stack.clone().image("db", "app:2").desired(),
        &stack.running(),
        &Memory::default(),
        Policy::default(),
    );
    assert_eq!(plan.services(), Set::from(["db"]));
}

#[test]
fn who_lives_in_anothers_network_is_made_anew_with_it() {
    let stack = Stack::of(&["vpn", "web>vpn:restart"]).edit("web", |web| {
        web.network_mode = Some("service:vpn".into());
        web.networks.clear();
    });
    assert_plan(&stack, &stack.running(), "");
    assert_plan(
        &stack.clone().image("vpn", "app:2"),
        &stack.running(),
        "create p-vpn-1.next < stop p-vpn-1 < remove p-vpn-1 < rename p-vpn-1.next to p-vpn-1 < start p-vpn-1.next < stop p-web-1;
         rename p-vpn-1.next to p-vpn-1 < create p-web-1.next < stop p-web-1 < remove p-web-1
            < rename p-web-1.next to p-web-1 < start p-web-1.next",
    );
    let moved = stack.running().but("p-vpn-1", |vpn| vpn.id = "id-other".into());
    assert_plan(
        &stack,
        &moved,
        "create p-web-1.next < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next",
    );
}

#[test]
fn anonymous_volumes_move_to_the_new_container() {
    let mut stack = Stack::of(&["db"]);
    stack.image.volumes.insert("/var/lib/db".into());
    let stack = stack.edit("db", |db| db.volumes.push(Mount { target: "/cache".into(), ..Mount::default() }));
    assert_plan(&stack, &stack.running(), "");
    let plan = plan(
        &stack.clone().image("db", "app:2").desired(),
        &stack.running(),
        &Memory::default(),
        Policy::default(),
    );
    let carried = plan.steps.iter().find_map(|step| match &step.action {
        Action::CreateContainer { carry, .. } => Some(carry.clone()),
        _ => None,
    });
    let carried = carried.unwrap();
    assert_eq!(carried.keys().map(String::as_str).collect::<Vec<_>>(), ["/cache", "/var/lib/db"]);
    assert!(carried.values().all(|volume| volume == "anonymous-p-db-1"));
}

#[test]
fn a_place_that_gets_a_named_volume_takes_nothing_over() {
    let mut stack = Stack::of(&["db"]);
    stack.image.volumes.insert("/data".into());
    let plan = plan(
        &stack.clone().volume("db", "data").desired(),
        &stack.running(),
        &Memory::default(),
        Policy::default(),
    );
    let carries = plan
        .steps
        .iter()
        .any(|step| matches!(&step.action, Action::CreateContainer { carry, .. } if !carry.is_empty()));
    assert!(!carries, "{:?}", plan.describe());
}

#[test]
fn a_port_that_moves_between_services_is_freed_before_it_is_taken() {
    let old = Stack::of(&["a"]).port("a", "80");
    let newer = Stack::of(&["b"]).port("b", "80");
    assert_plan(
        &newer,
        &old.running(),
        "create p-b-1 < start p-b-1; stop p-a-1 < start p-b-1; stop p-a-1 < remove p-a-1",
    );
}

#[test]
fn ports_that_change_places_do_not_deadlock() {
    let old = Stack::of(&["a", "b>a"]).port("a", "80").port("b", "81");
    let newer = Stack::of(&["a", "b>a"]).port("a", "81").port("b", "80");
    assert_plan(
        &newer,
        &old.running(),
        "create p-a-1.next < stop p-a-1 < remove p-a-1 < rename p-a-1.next to p-a-1 < start p-a-1.next < start p-b-1.next;
         stop p-b-1 < start p-a-1.next; stop p-a-1 < start p-b-1.next;
         stop p-b-1 < remove p-b-1 < rename p-b-1.next to p-b-1; create p-b-1.next < rename p-b-1.next to p-b-1 < start p-b-1.next",
    );
}

#[test]
fn a_network_that_differs_is_left_by_all_made_anew_and_joined_again() {
    let stack = Stack::of(&["a", "b"]);
    let mut newer = stack.clone();
    newer.project.networks.get_mut("default").unwrap().internal = true;
    assert_plan(
        &newer,
        &stack.running(),
        "disconnect p-a-1 from p_default < remove network p_default < create network p_default < connect p-a-1 to p_default;
         disconnect p-b-1 from p_default < remove network p_default; create network p_default < connect p-b-1 to p_default",
    );
}

#[test]
fn a_file_whose_content_changed_makes_its_container_anew() {
    let bind = |source: &str| Mount {
        kind: MountKind::Bind,
        source: Some(source.into()),
        target: "/etc/app.conf".into(),
        ..Mount::default()
    };
    let mut stack = Stack::of(&["web", "other"]).edit("web", |web| web.volumes.push(bind("/app.conf")));
    stack.files.insert("/app.conf".into(), "one".into());
    let mut newer = stack.clone();
    newer.files.insert("/app.conf".into(), "two".into());
    assert_plan(&stack, &stack.running(), "");
    let plan = plan(&newer.desired(), &stack.running(), &Memory::default(), Policy::default());
    assert_eq!(plan.services(), Set::from(["web"]));
}

#[test]
fn an_image_that_changed_under_the_same_tag_makes_its_container_anew() {
    let stack = Stack::of(&["web", "other"]);
    let observed = stack.running().but("p-web-1", |web| web.image_id = "sha256:app:1, older".into());
    let plan = plan(&stack.desired(), &observed, &Memory::default(), Policy::default());
    assert_eq!(plan.services(), Set::from(["web"]));
    assert!(plan.describe()[0].ends_with("it has another image"), "{:?}", plan.describe());
}

#[test]
fn a_secret_or_config_whose_content_changed_makes_its_container_anew() {
    use kedge_compose::model::{FileMount, FileObject, FileSource};
    for is_secret in [true, false] {
        let mount = FileMount { source: "key".into(), target: "/run/key".into(), ..FileMount::default() };
        let mut stack = Stack::of(&["web", "other"]).edit("web", |web| match is_secret {
            true => web.secrets.push(mount),
            false => web.configs.push(mount),
        });
        let object = FileObject { source: FileSource::Environment("KEY".into()), ..FileObject::default() };
        match is_secret {
            true => stack.project.secrets.insert("key".into(), object),
            false => stack.project.configs.insert("key".into(), object),
        };
        stack.files.insert("key".into(), "one".into());
        let mut newer = stack.clone();
        newer.files.insert("key".into(), "two".into());
        assert_plan(&stack, &stack.running(), "");
        let plan = plan(&newer.desired(), &stack.running(), &Memory::default(), Policy::default());
        assert_eq!(plan.services(), Set::from(["web"]), "secret: {is_secret}");
    }
}

#[test]
fn a_service_that_got_another_name_is_there_before_the_old_one_goes() {
    assert_plan(
        &Stack::of(&["site"]),
        &Stack::of(&["web"]).running(),
        "create p-site-1 < start p-site-1 < stop p-web-1 < remove p-web-1",
    );
}
