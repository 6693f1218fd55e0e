//! From nothing, to nothing, and everything that can happen to a container in between.

use kedge_compose::model::Restart;

use super::builders::{Observing, Stack, names};
use super::*;
use crate::engine::types::{Health, State};
use crate::plan::{Desired, finished};

#[test]
fn from_nothing_everything_is_made_and_started_when_its_conditions_hold() {
    let stack = Stack::of(&["db", "web>db:healthy"]).volume("db", "data");
    let plan = assert_plan(
        &stack,
        &Observed::default(),
        "create volume p_data < create p-db-1; create network p_default < create p-db-1 < start p-db-1 < wait until p-db-1 healthy
            < start p-web-1; create network p_default < create p-web-1 < start p-web-1",
    );
    assert_unrelated(&plan, "create p-web-1", "create p-db-1");
    assert_unrelated(&plan, "create p-web-1", "wait until p-db-1 healthy");
}

#[test]
fn what_runs_as_it_should_needs_nothing() {
    let stack =
        Stack::of(&["db", "job>db:healthy", "web>job:done>db"]).volume("db", "data").port("web", "8080");
    assert_plan(&stack, &stack.running(), "");
}

#[test]
fn a_stack_without_services_needs_only_its_network() {
    assert_plan(&Stack::of(&[]), &Observed::default(), "create network p_default");
}

#[test]
fn unrelated_services_do_not_wait_for_each_other() {
    let plan = assert_plan(
        &Stack::of(&["a", "b"]),
        &Observed::default(),
        "create network p_default < create p-a-1 < start p-a-1; create network p_default < create p-b-1 < start p-b-1",
    );
    assert_unrelated(&plan, "start p-a-1", "create p-b-1");
}

#[test]
fn a_plain_dependency_needs_no_wait() {
    assert_plan(
        &Stack::of(&["a", "b>a"]),
        &Observed::default(),
        "create network p_default < create p-a-1 < start p-a-1 < start p-b-1; create p-b-1 < start p-b-1",
    );
}

#[test]
fn one_wait_serves_all_who_need_it() {
    assert_plan(
        &Stack::of(&["db", "a>db:healthy", "b>db:healthy"]),
        &Observed::default(),
        "create network p_default < create p-db-1 < start p-db-1 < wait until p-db-1 healthy < start p-a-1; create p-a-1;
         wait until p-db-1 healthy < start p-b-1; create p-b-1",
    );
}

#[test]
fn a_job_is_awaited_to_its_end() {
    assert_plan(
        &Stack::of(&["job", "web>job:done"]),
        &Observed::default(),
        "create network p_default < create p-job-1 < start p-job-1 < wait until p-job-1 completed < start p-web-1; create p-web-1",
    );
}

#[test]
fn a_dependency_that_is_healthy_already_needs_no_wait() {
    let stack = Stack::of(&["db", "web>db:healthy"]);
    assert_plan(&stack, &stack.running().gone("p-web-1"), "create p-web-1 < start p-web-1");
}

#[test]
fn a_dependency_that_is_still_starting_is_awaited_without_being_touched() {
    let stack = Stack::of(&["db", "web>db:healthy"]);
    let observed = stack.running().gone("p-web-1").but("p-db-1", |db| db.health = Health::Starting);
    assert_plan(
        &stack,
        &observed,
        "wait until p-db-1 healthy < start p-web-1; create p-web-1 < start p-web-1",
    );
}

#[test]
fn an_unhealthy_dependency_does_not_disturb_who_runs() {
    let stack = Stack::of(&["db", "web>db:healthy"]);
    let observed = stack.running().but("p-db-1", |db| db.health = Health::Unhealthy);
    assert_plan(&stack, &observed, "");
}

#[test]
fn what_was_created_and_not_started_is_started() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| web.state = State::Created);
    assert_plan(&stack, &observed, "start p-web-1");
}

#[test]
fn a_container_that_failed_is_started_again() {
    let stack = Stack::of(&["web"]);
    assert_plan(&stack, &stack.running().ended("p-web-1", 137), "start p-web-1");
}

#[test]
fn a_server_that_was_stopped_cleanly_is_started_again() {
    let stack = Stack::of(&["web"]).port("web", "80");
    assert_plan(&stack, &stack.running().ended("p-web-1", 0), "start p-web-1");
}

#[test]
fn a_dependency_that_was_stopped_cleanly_is_started_again() {
    let stack = Stack::of(&["db", "web>db"]);
    assert_plan(&stack, &stack.running().ended("p-db-1", 0), "start p-db-1");
}

#[test]
fn with_a_restart_policy_a_clean_end_was_somebody_stopping_it() {
    let stack = Stack::of(&["web"]).restart("web", Restart::Always);
    assert_plan(&stack, &stack.running().ended("p-web-1", 0), "start p-web-1");
}

#[test]
fn something_that_nobody_needs_and_that_ended_well_is_done() {
    let stack = Stack::of(&["seed"]);
    assert_plan(&stack, &stack.running().ended("p-seed-1", 0), "");
}

#[test]
fn a_job_that_failed_is_run_again() {
    let stack = Stack::of(&["job", "web>job:done"]);
    assert_plan(&stack, &stack.running().ended("p-job-1", 1), "start p-job-1");
}

#[test]
fn a_job_that_succeeded_for_this_spec_is_not_made_again_when_its_container_is_gone() {
    let stack = Stack::of(&["job", "web>job:done"]);
    let done = finished(&stack.desired(), &stack.running());
    assert_eq!(done["job"].len(), 1);
    let memory = Memory { done, ..Memory::default() };
    assert_plan_with(&stack, &stack.running().gone("p-job-1"), &memory, Policy::default(), "");
    let observed = stack.running().gone("p-job-1").gone("p-web-1");
    assert_plan_with(&stack, &observed, &memory, Policy::default(), "create p-web-1 < start p-web-1");
}

#[test]
fn a_job_whose_spec_changed_is_run_again_before_what_waits_for_it() {
    let stack = Stack::of(&["job", "web>job:done"]);
    let memory = Memory { done: finished(&stack.desired(), &stack.running()), ..Memory::default() };
    let newer = stack.clone().image("job", "app:2").image("web", "app:2");
    assert_plan_with(
        &newer,
        &stack.running(),
        &memory,
        Policy::default(),
        "create p-job-1.next < remove p-job-1 < rename p-job-1.next to p-job-1 < start p-job-1.next
            < wait until p-job-1.next completed < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next;
         create p-web-1.next < stop p-web-1",
    );
}

#[test]
fn only_jobs_that_ended_well_with_this_spec_count_as_finished() {
    let stack = Stack::of(&["job", "web>job:done"]);
    assert!(finished(&stack.desired(), &stack.running().ended("p-job-1", 1)).is_empty());
    let other = stack.clone().image("job", "app:2");
    assert!(finished(&other.desired(), &stack.running()).is_empty());
    assert!(!finished(&stack.desired(), &stack.running().ended("p-web-1", 0)).contains_key("web"));
}

#[test]
fn a_frozen_container_is_thawed() {
    let stack = Stack::of(&["web"]);
    assert_plan(&stack, &stack.running().but("p-web-1", |web| web.state = State::Paused), "unpause p-web-1");
}

#[test]
fn a_container_that_the_engine_is_restarting_is_left_to_it() {
    let stack = Stack::of(&["web"]).restart("web", Restart::Always);
    assert_plan(&stack, &stack.running().but("p-web-1", |web| web.state = State::Restarting), "");
}

#[test]
fn a_dead_container_is_removed_and_made_anew() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| web.state = State::Dead);
    assert_plan(
        &stack,
        &observed,
        "create p-web-1.next < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next",
    );
}

#[test]
fn after_an_engine_restart_everything_is_started_in_order() {
    let stack = Stack::of(&["db", "web>db:healthy"]).port("web", "80");
    let observed = stack.running().ended("p-db-1", 0).ended("p-web-1", 0);
    assert_plan(&stack, &observed, "start p-db-1 < wait until p-db-1 healthy < start p-web-1");
}

#[test]
fn more_containers_are_added_beside_those_that_run() {
    let stack = Stack::of(&["web"]);
    assert_plan(
        &stack.clone().replicas("web", 3),
        &stack.running(),
        "create p-web-2 < start p-web-2; create p-web-3 < start p-web-3",
    );
}

#[test]
fn fewer_containers_end_those_with_the_highest_numbers() {
    let stack = Stack::of(&["web"]).replicas("web", 3);
    assert_plan(
        &stack.clone().replicas("web", 1),
        &stack.running(),
        "stop p-web-2 < remove p-web-2; stop p-web-3 < remove p-web-3",
    );
}

#[test]
fn a_service_scaled_to_nothing_ends_and_holds_nobody_up() {
    let stack = Stack::of(&["db", "web>db"]);
    assert_plan(&stack.clone().replicas("db", 0), &stack.running(), "stop p-db-1 < remove p-db-1");
}

#[test]
fn a_service_that_the_release_drops_ends_once_the_others_have_started() {
    let stack = Stack::of(&["cache", "web"]);
    let newer = Stack::of(&["web"]).image("web", "app:2");
    assert_plan(
        &newer,
        &stack.running(),
        "create p-web-1.next < stop p-web-1 < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next
            < stop p-cache-1 < remove p-cache-1",
    );
}

#[test]
fn towards_nothing_containers_and_networks_go_and_volumes_stay() {
    let stack = Stack::of(&["db", "web>db"]).volume("db", "data");
    let plan = plan(&Desired::nothing("p", "p"), &stack.running(), &Memory::default(), Policy::default());
    let lines: Vec<String> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    assert_eq!(
        lines,
        ["stop p-db-1", "remove p-db-1", "stop p-web-1", "remove p-web-1", "remove network p_default"]
    );
    assert!(needs(&plan, 4, 1) && needs(&plan, 4, 3));
}

#[test]
fn a_network_that_the_release_drops_is_left_and_removed() {
    let stack = Stack::of(&["web"]).network("web", "back");
    assert_plan(
        &Stack::of(&["web"]),
        &stack.running().changed("p-web-1", |_| {}),
        "disconnect p-web-1 from p_back < remove network p_back",
    );
}

#[test]
fn a_service_that_keeps_failing_is_left_alone_and_so_is_what_needs_it() {
    let stack = Stack::of(&["db", "web>db:healthy", "other"]);
    let memory =
        Memory { held: [("db".to_owned(), "it failed 5 times".to_owned())].into(), ..Memory::default() };
    let observed = stack.running().ended("p-db-1", 1).gone("p-web-1").gone("p-other-1");
    let plan =
        assert_plan_with(&stack, &observed, &memory, Policy::default(), "create p-other-1 < start p-other-1");
    let blocked: Vec<&str> = plan.blocked.iter().map(|blocked| blocked.name.as_str()).collect();
    assert_eq!(blocked, ["db", "web"]);
    assert!(plan.describe().iter().any(|line| line == "cannot go on with service db: it failed 5 times"));
}

#[test]
fn a_held_service_that_runs_is_no_matter() {
    let stack = Stack::of(&["db"]);
    let memory = Memory { held: [("db".to_owned(), "it failed".to_owned())].into(), ..Memory::default() };
    let plan = assert_plan_with(&stack, &stack.running(), &memory, Policy::default(), "");
    assert!(plan.is_whole());
}

#[test]
fn everything_wanted_is_in_scope() {
    let stack = Stack::of(&["db", "web"]).volume("db", "data");
    let scope = stack.desired().scope();
    assert_eq!(scope.containers.iter().map(String::as_str).collect::<BTreeSet<_>>(), names(&stack.running()));
    assert!(scope.networks.contains("p_default") && scope.volumes.contains("p_data"));
}
