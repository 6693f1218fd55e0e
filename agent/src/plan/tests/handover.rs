//! Start-first: when it is chosen, what it does, and how it goes on from wherever it was interrupted.

use std::time::Duration;

use kedge_compose::model::{Attachment, Mount, MountKind, Port, UpdateConfig};

use super::builders::{Observing, Stack, check};
use super::*;
use crate::engine::types::{Container, Health, State};
use crate::plan::rollout::OnFailure;

const KEEP: Policy = Policy { keep_superseded: true, going_back: false };

/// One service with a health check, its network one in which addresses can be kept.
fn web() -> Stack {
    Stack::of(&["web"]).edit("web", |web| web.healthcheck = Some(check()))
}

fn newer() -> Stack {
    web().image("web", "app:2")
}

fn serving(stack: &Stack) -> Observed {
    stack.running().keeping_addresses()
}

fn asks_for(order: &'static str) -> impl FnOnce(&mut kedge_compose::model::Service) {
    move |service| {
        service.update_config = Some(UpdateConfig { order: Some(order.into()), ..UpdateConfig::default() });
    }
}

const WHOLE: &str = "create p-web-1.next < start p-web-1.next < wait until p-web-1.next healthy
    < give p-web-1.next its names in p_default < wait until p-web-1.next healthy
    < rename p-web-1 to p-web-1.kept-id-p-web < rename p-web-1.next to p-web-1 < take the names of p-web-1 in p_default away
    < let p-web-1 end what it has begun for 3s < stop p-web-1 < remove p-web-1";

/// As [`assert_plan`], for plans that wait for one container twice.
#[track_caller]
fn lines(stack: &Stack, observed: &Observed, policy: Policy) -> Vec<String> {
    let plan = plan(&stack.desired(), observed, &Memory::default(), policy);
    let mut lines: Vec<String> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    lines.dedup();
    lines
}

#[track_caller]
fn assert_lines(stack: &Stack, observed: &Observed, policy: Policy, expected: &str) {
    let expected: Vec<String> = expected
        .split('<')
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect();
    let plan = plan(&stack.desired(), observed, &Memory::default(), policy);
    assert_eq!(lines(stack, observed, policy), expected);
    for pair in plan.steps.windows(2) {
        assert!(needs(&plan, pair[1].id, pair[0].id), "{} should need {}", pair[1], pair[0]);
    }
}

/// What is chosen when the service is updated: the steps begin with a start, or with a stop.
#[track_caller]
fn is_start_first(old: &Stack, newer: &Stack) -> bool {
    let lines = lines(newer, &serving(old), Policy::default());
    let position = |verb: &str| lines.iter().position(|line| line.starts_with(verb)).unwrap();
    position("start") < position("stop")
}

#[test]
fn the_new_one_takes_over_while_the_old_one_serves() {
    assert_lines(&newer(), &serving(&web()), Policy::default(), WHOLE);
}

#[test]
fn the_old_one_is_kept_stopped_until_the_new_one_has_passed_its_gate() {
    let whole = WHOLE.trim_end_matches("< remove p-web-1");
    assert_lines(&newer(), &serving(&web()), KEEP, whole);
}

/// The old and the new one side by side, the new one as the change makes it.
fn beside(old: &Stack, newer: &Stack, change: impl FnOnce(&mut Container, &mut Container)) -> Observed {
    let mut observed = serving(old);
    let mut new = newer.running().containers.remove(0);
    new.id = "id-new".into();
    new.name = "p-web-1.next".into();
    nameless(&mut new);
    change(&mut observed.containers[0], &mut new);
    observed.containers.push(new);
    observed
}

fn nameless(container: &mut Container) {
    for endpoint in container.detail.as_mut().unwrap().networks.values_mut() {
        endpoint.aliases.clear();
    }
}

fn with_names(container: &mut Container) {
    for endpoint in container.detail.as_mut().unwrap().networks.values_mut() {
        endpoint.aliases = ["web".to_owned(), "p-web-1".to_owned()].into();
    }
}

#[test]
fn it_goes_on_from_wherever_it_was_interrupted() {
    let (old, newer) = (web(), newer());
    let from = |begin: &str| {
        let at = WHOLE.find(begin).unwrap();
        WHOLE[at..].to_owned()
    };
    // Made, not started.
    let observed = beside(&old, &newer, |_, new| new.state = State::Created);
    assert_lines(&newer, &observed, Policy::default(), &from("start p-web-1.next"));
    // Started, not healthy.
    let observed = beside(&old, &newer, |_, new| new.health = Health::Starting);
    assert_lines(&newer, &observed, Policy::default(), &from("wait until p-web-1.next healthy"));
    // Between leaving and joining the network.
    let observed = beside(&old, &newer, |_, new| new.detail.as_mut().unwrap().networks.clear());
    let expected = format!("connect p-web-1.next to p_default < {}", from("wait until p-web-1.next healthy"));
    assert_lines(&newer, &observed, Policy::default(), &expected);
    // It has its names.
    let observed = beside(&old, &newer, |_, new| with_names(new));
    let after = from("rename p-web-1 to");
    let expected = format!("wait until p-web-1.next healthy < {after}");
    assert_lines(&newer, &observed, Policy::default(), &expected);
    // The old one has left the place.
    let kept = "p-web-1.kept-id-p-web";
    let observed = beside(&old, &newer, |old, new| {
        old.name = kept.into();
        with_names(new);
    });
    let after = "rename p-web-1.next to p-web-1 < take the names of p-web-1.kept-id-p-web in p_default away
        < let p-web-1.kept-id-p-web end what it has begun for 3s < stop p-web-1.kept-id-p-web < remove p-web-1.kept-id-p-web";
    assert_lines(&newer, &observed, Policy::default(), &format!("wait until p-web-1.next healthy < {after}"));
    // The new one has taken it.
    let observed = beside(&old, &newer, |old, new| {
        (old.name, new.name) = (kept.into(), "p-web-1".into());
        with_names(new);
    });
    let after = "wait until p-web-1 healthy < take the names of p-web-1.kept-id-p-web in p_default away
        < let p-web-1.kept-id-p-web end what it has begun for 3s < stop p-web-1.kept-id-p-web < remove p-web-1.kept-id-p-web";
    assert_lines(&newer, &observed, Policy::default(), after);
    // The old one has no names.
    let observed = beside(&old, &newer, |old, new| {
        (old.name, new.name) = (kept.into(), "p-web-1".into());
        with_names(new);
        nameless(old);
    });
    assert_lines(
        &newer,
        &observed,
        Policy::default(),
        "let p-web-1.kept-id-p-web end what it has begun for 3s < stop p-web-1.kept-id-p-web
            < remove p-web-1.kept-id-p-web",
    );
    let drained = "let p-web-1.kept-id-p-web end what it has begun for 3s < stop p-web-1.kept-id-p-web";
    assert_lines(&newer, &observed, KEEP, drained);
    // It has ended.
    let observed = observed.ended(kept, 0);
    assert_lines(&newer, &observed, KEEP, "");
    assert_lines(&newer, &observed, Policy::default(), "remove p-web-1.kept-id-p-web");
}

#[test]
fn a_new_one_that_ended_with_its_names_loses_them_before_it_starts_again() {
    let observed = beside(&web(), &newer(), |_, new| {
        with_names(new);
        (new.state, new.exit_code) = (State::Exited, Some(1));
    });
    let lines = lines(&newer(), &observed, Policy::default());
    assert_eq!(lines[..2], ["take the names of p-web-1.next in p_default away", "start p-web-1.next"]);
}

#[test]
fn going_back_is_a_start_of_what_was_kept_and_the_same_way() {
    let observed = beside(&web(), &newer(), |old, new| {
        (old.name, new.name) = ("p-web-1.kept-id-p-web".into(), "p-web-1".into());
        (old.state, old.exit_code) = (State::Exited, Some(0));
        with_names(new);
        nameless(old);
    });
    let back = Policy { keep_superseded: false, going_back: true };
    assert_lines(
        &web(),
        &observed,
        back,
        "start p-web-1.kept-id-p-web < wait until p-web-1.kept-id-p-web healthy
            < give p-web-1.kept-id-p-web its names in p_default < wait until p-web-1.kept-id-p-web healthy
            < rename p-web-1 to p-web-1.kept-id-new < rename p-web-1.kept-id-p-web to p-web-1
            < take the names of p-web-1 in p_default away < let p-web-1 end what it has begun for 3s
            < stop p-web-1 < remove p-web-1",
    );
}

#[test]
fn going_back_before_the_new_one_was_known_only_takes_it_away() {
    let observed = beside(&web(), &newer(), |_, new| new.health = Health::Unhealthy);
    assert_lines(&web(), &observed, Policy::default(), "stop p-web-1.next < remove p-web-1.next");
}

#[test]
fn one_that_does_not_serve_is_replaced_without_ceremony() {
    let swap = "create p-web-1.next < remove p-web-1 < rename p-web-1.next to p-web-1 < start p-web-1.next";
    assert_plan(&newer(), &serving(&web()).ended("p-web-1", 1), swap);
}

#[test]
fn without_a_health_check_it_has_to_run_for_a_while() {
    let old = Stack::of(&["web"]).restart("web", kedge_compose::model::Restart::Always);
    let lines = lines(&old.clone().image("web", "app:2"), &serving(&old), Policy::default());
    assert!(lines.contains(&"wait until p-web-1.next healthy for 2s".to_owned()), "{lines:?}");
}

#[test]
fn the_monitoring_time_is_honoured_before_the_old_one_goes() {
    let newer = newer().edit("web", |web| {
        let monitor = Some(Duration::from_secs(9));
        web.update_config = Some(UpdateConfig { monitor, ..UpdateConfig::default() });
    });
    let lines = lines(&newer, &serving(&web()), Policy::default());
    let names = lines.iter().position(|line| line.starts_with("give")).unwrap();
    assert_eq!(lines[names + 1], "wait until p-web-1.next healthy for 9s");
}

#[test]
fn two_at_once_are_avoided_where_something_speaks_against_it() {
    let mount = |mount: Mount| move |web: &mut kedge_compose::model::Service| web.volumes.push(mount);
    let bind = |read_only: bool| Mount {
        kind: MountKind::Bind,
        source: Some("/shared".into()),
        target: "/shared".into(),
        read_only,
        ..Mount::default()
    };
    let tmpfs = Mount { kind: MountKind::Tmpfs, target: "/tmp".into(), ..Mount::default() };
    let anonymous = Mount { target: "/cache".into(), ..Mount::default() };
    let port = |published: &str| Port {
        target: 80,
        protocol: "tcp".into(),
        published: published.into(),
        ..Port::default()
    };
    let fixed = Attachment { ipv4_address: Some("10.0.0.9".into()), ..Attachment::default() };
    type Change = Box<dyn Fn(Stack) -> Stack>;
    let cases: Vec<(&str, bool, bool, Change)> = vec![
        ("nothing", true, true, Box::new(|stack| stack)),
        ("a read-only bind", true, true, Box::new(move |s| s.edit("web", mount(bind(true))))),
        ("a tmpfs", true, true, Box::new(move |s| s.edit("web", mount(tmpfs.clone())))),
        ("a bind that both write to", false, true, Box::new(move |s| s.edit("web", mount(bind(false))))),
        ("a volume that both write to", false, true, Box::new(|s| s.volume("web", "data"))),
        ("an anonymous volume", false, true, Box::new(move |s| s.edit("web", mount(anonymous.clone())))),
        (
            "a port of the engine's choice",
            false,
            true,
            Box::new(move |s| s.edit("web", |w| w.ports = vec![port("")])),
        ),
        (
            "a range of ports",
            false,
            true,
            Box::new(move |s| s.edit("web", |w| w.ports = vec![port("90-99")])),
        ),
        ("a fixed port", false, false, Box::new(|s| s.port("web", "80"))),
        ("a fixed name", false, true, Box::new(|s| s.edit("web", |w| w.container_name = Some("one".into())))),
        (
            "a fixed address",
            false,
            false,
            Box::new(move |s| s.edit("web", |w| w.networks = [("default".into(), fixed.clone())].into())),
        ),
        (
            "a fixed MAC address",
            false,
            false,
            Box::new(|s| s.edit("web", |w| w.mac_address = Some("02:1".into()))),
        ),
        ("a device", false, true, Box::new(|s| s.edit("web", |w| w.devices = vec![Default::default()]))),
        ("links", false, false, Box::new(|s| s.with("db").edit("web", |w| w.links = vec!["db".into()]))),
        (
            "one who lives in its network",
            false,
            false,
            Box::new(|s| {
                s.with("side>web:restart").edit("side", |side| {
                    side.network_mode = Some("service:web".into());
                    side.networks.clear();
                })
            }),
        ),
        ("no network", false, false, Box::new(|s| s.edit("web", |w| w.networks.clear()))),
    ];
    for (what, by_default, when_asked, change) in cases {
        let (old, newer) = (change(web()), change(newer()));
        assert_eq!(is_start_first(&old, &newer), by_default, "{what}, by default");
        let asked = newer.clone().edit("web", asks_for("start-first"));
        assert_eq!(is_start_first(&old, &asked), when_asked, "{what}, when asked for");
        let plan = plan(&asked.desired(), &serving(&old), &Memory::default(), Policy::default());
        let noted = plan.notes.iter().any(|note| note.starts_with("service web asks for start-first"));
        // Who is known by no name hands nothing over, and is not even considered.
        assert_eq!(noted, !when_asked && what != "no network", "{what}: {:?}", plan.notes);
        let asked = newer.edit("web", asks_for("stop-first"));
        assert!(!is_start_first(&old, &asked), "{what}, when stop-first is asked for");
    }
}

#[test]
fn where_no_address_can_be_kept_start_first_has_to_be_asked_for() {
    let (old, observed) = (web(), web().running());
    let lines = |newer: &Stack| lines(newer, &observed, Policy::default());
    assert!(lines(&newer())[1].starts_with("stop"));
    let asked = lines(&newer().edit("web", asks_for("start-first")));
    assert!(asked[1].starts_with("start"));
    assert!(
        !asked.iter().any(|line| line.starts_with("take the names")),
        "it would cut connections off: {asked:?}"
    );
    drop(old);
}

#[test]
fn a_volume_that_only_the_new_one_has_is_written_by_one() {
    assert!(is_start_first(&web(), &newer().volume("web", "data")));
}

#[test]
fn what_depends_on_it_waits_until_it_has_taken_over() {
    let old = Stack::of(&["api", "web>api"]).restart("web", kedge_compose::model::Restart::Always);
    let newer = old.clone().image("api", "app:2").image("web", "app:2");
    let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
    let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
    assert!(needs(&plan, id("start p-web-1.next"), id("give p-api-1.next its names in p_default")));
    assert_unrelated(&plan, "create p-web-1.next", "start p-api-1.next");
    assert_unrelated(&plan, "stop p-api-1", "start p-web-1.next");
}

fn scaled(change: impl FnOnce(&mut UpdateConfig)) -> (Stack, Stack) {
    let mut config = UpdateConfig::default();
    change(&mut config);
    let old = web().replicas("web", 3);
    let newer = old.clone().image("web", "app:2").edit("web", |web| web.update_config = Some(config));
    (old, newer)
}

#[test]
fn a_scaled_service_is_updated_one_by_one() {
    let (old, newer) = scaled(|_| {});
    let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
    let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
    for (before, after) in [(1, 2), (2, 3)] {
        let given = id(&format!("give p-web-{before}.next its names in p_default"));
        assert!(needs(&plan, id(&format!("start p-web-{after}.next")), given));
        assert!(!needs(&plan, id(&format!("create p-web-{after}.next")), given), "made early");
    }
}

#[test]
fn stop_first_a_scaled_service_loses_one_at_a_time() {
    let (old, newer) = scaled(|config| {
        config.order = Some("stop-first".into());
        config.delay = Some(Duration::from_secs(5));
    });
    let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
    let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
    let healthy = id("wait until p-web-1.next healthy for 5s");
    assert!(needs(&plan, id("stop p-web-2"), healthy) && needs(&plan, healthy, id("start p-web-1.next")));
    assert!(needs(&plan, id("stop p-web-3"), id("wait until p-web-2.next healthy for 5s")));
}

#[test]
fn parallelism_says_how_many_at_once() {
    for (parallelism, together) in [(2, true), (0, true), (1, false)] {
        let (old, newer) = scaled(|config| {
            config.parallelism = Some(parallelism);
            config.order = Some("stop-first".into());
        });
        let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
        let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
        assert_eq!(!needs(&plan, id("stop p-web-2"), id("start p-web-1.next")), together, "{parallelism}");
        assert_eq!(
            needs(&plan, id("stop p-web-3"), id("start p-web-1.next")),
            parallelism != 0,
            "{parallelism}"
        );
    }
}

#[test]
fn with_continue_the_next_one_follows_though_one_failed() {
    for (action, is_needed) in [("continue", false), ("pause", true), ("rollback", true)] {
        let (old, newer) = scaled(|config| {
            config.order = Some("stop-first".into());
            config.failure_action = Some(action.into());
        });
        let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
        let step = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap();
        let wait = step("wait until p-web-1.next healthy").id;
        assert_eq!(step("stop p-web-2").needs.contains(&wait), is_needed, "{action}");
        assert!(needs(&plan, step("stop p-web-2").id, wait), "{action}");
        // What the failure of the first start takes with it.
        let mut lost = BTreeSet::from([step("start p-web-1.next").id]);
        for step in &plan.steps {
            if !step.needs.is_disjoint(&lost) {
                lost.insert(step.id);
            }
        }
        assert!(lost.contains(&wait), "{action}");
        for later in ["stop p-web-2", "wait until p-web-2.next healthy", "stop p-web-3"] {
            assert_eq!(lost.contains(&step(later).id), is_needed, "{action}: {later}");
        }
        let third = step("stop p-web-3");
        let before = third.needs.union(&third.after).copied().collect::<BTreeSet<_>>();
        assert!(before.contains(&step("wait until p-web-2.next healthy").id), "{action}");
        assert_eq!(
            before.contains(&wait),
            !is_needed,
            "{action}: a wait that never began stands for no other"
        );
    }
}

#[test]
fn with_continue_each_of_those_replaced_together_is_awaited() {
    let (old, newer) = scaled(|config| {
        config.order = Some("stop-first".into());
        config.parallelism = Some(2);
        config.failure_action = Some("continue".into());
    });
    let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
    let step = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap();
    for number in [1, 2] {
        let wait = step(&format!("wait until p-web-{number}.next healthy")).id;
        assert!(step("stop p-web-3").after.contains(&wait), "{number}");
    }
}

#[test]
fn what_is_borne_forwards_is_not_borne_on_the_way_back_unless_rollback_config_says_so() {
    let bears = || Some(UpdateConfig { failure_action: Some("continue".into()), ..UpdateConfig::default() });
    for (back, expected) in [(None, OnFailure::Rollback), (bears(), OnFailure::Continue)] {
        let stack = web().edit("web", |web| (web.update_config, web.rollback_config) = (bears(), back));
        let desired = stack.desired();
        let web = &desired.services["web"];
        assert_eq!(web.rollout(false).on_failure, OnFailure::Continue);
        assert_eq!(web.rollout(true).on_failure, expected);
    }
}

#[test]
fn going_back_follows_rollback_config() {
    let config =
        |parallelism| Some(UpdateConfig { parallelism: Some(parallelism), ..UpdateConfig::default() });
    let old = web().replicas("web", 2).edit("web", |web| {
        web.update_config = config(1);
        web.rollback_config = config(0);
    });
    let newer = old.clone().image("web", "app:2");
    for (going_back, together) in [(true, true), (false, false)] {
        let policy = Policy { going_back, ..Policy::default() };
        let plan = plan(&old.desired(), &serving(&newer), &Memory::default(), policy);
        let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
        assert_eq!(!needs(&plan, id("start p-web-2.next"), id("start p-web-1.next")), together);
    }
}

#[test]
fn a_slow_sibling_delays_nobody() {
    let old = Stack::of(&["slow", "fast", "user>slow>fast"]);
    let newer = old.clone().image("slow", "app:2").image("fast", "app:2");
    let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
    for (slow, fast) in
        [("stop p-slow-1", "stop p-fast-1"), ("start p-slow-1.next", "rename p-fast-1.next to p-fast-1")]
    {
        assert_unrelated(&plan, slow, fast);
    }
}

#[test]
fn starts_that_take_a_port_from_a_range_go_one_after_the_other() {
    let stack = Stack::of(&["a", "b", "c"]).port("a", "9000-9010").port("b", "9000-9010");
    let plan = plan(&stack.desired(), &Observed::default(), &Memory::default(), Policy::default());
    let step = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap();
    assert!(step("start p-b-1").after.contains(&step("start p-a-1").id));
    assert!(
        !step("start p-b-1").needs.contains(&step("start p-a-1").id),
        "a failure is no reason not to start"
    );
    assert_unrelated(&plan, "start p-a-1", "start p-c-1");
}

#[test]
fn an_address_that_was_only_kept_is_given_up_before_the_next_start() {
    let stack = web();
    let observed = serving(&stack).ended("p-web-1", 1).but("p-web-1", |web| {
        for endpoint in web.detail.as_mut().unwrap().networks.values_mut() {
            endpoint.ipv4_address = Some("10.0.0.9".into());
        }
    });
    assert_plan(&stack, &observed, "give p-web-1 its names in p_default < start p-web-1");
}

#[test]
fn those_that_do_not_run_come_first_and_all_at_once() {
    let (old, newer) = scaled(|config| config.order = Some("stop-first".into()));
    let observed = serving(&old).ended("p-web-1", 1).ended("p-web-2", 1);
    let plan = plan(&newer.desired(), &observed, &Memory::default(), Policy::default());
    let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
    assert_unrelated(&plan, "start p-web-1.next", "start p-web-2.next");
    let healthy = id("wait until p-web-1.next, p-web-2.next healthy");
    assert!(needs(&plan, id("stop p-web-3"), healthy), "the last one that serves waits for them");
}

#[test]
fn one_that_is_not_well_yet_is_awaited_after_an_interruption() {
    let (old, newer) = scaled(|config| config.order = Some("stop-first".into()));
    let mut observed = serving(&old);
    let first = newer.running().containers.into_iter().find(|web| web.name == "p-web-1").unwrap();
    observed.containers.retain(|web| web.name != "p-web-1");
    observed.containers.push(Container { health: Health::Starting, ..first });
    let plan = plan(&newer.desired(), &observed, &Memory::default(), Policy::default());
    let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
    assert!(needs(&plan, id("stop p-web-2"), id("wait until p-web-1 healthy")));
}

#[test]
fn one_whose_port_moves_to_another_service_ends_at_once() {
    let old = Stack::of(&["a", "b>a:healthy"]).edit("b", |b| b.healthcheck = Some(check())).port("b", "80");
    let newer = Stack::of(&["a", "b>a:healthy"]).edit("b", |b| b.healthcheck = Some(check())).port("a", "80");
    let plan = plan(&newer.desired(), &serving(&old), &Memory::default(), Policy::default());
    let id = |line: &str| plan.steps.iter().find(|step| step.action.to_string() == line).unwrap().id;
    assert!(needs(&plan, id("start p-a-1.next"), id("stop p-b-1")));
    assert!(!plan.describe().iter().any(|line| line.contains("names")), "{:?}", plan.describe());
}

#[test]
fn nobody_waits_for_the_end_of_one_that_has_handed_over_unless_something_needs_it() {
    let aftermath = |newer: &Stack, old: &Stack, policy| {
        let plan = plan(&newer.desired(), &serving(old), &Memory::default(), policy);
        plan.aftermath().iter().map(|id| plan.steps[*id].action.to_string()).collect::<Vec<_>>()
    };
    let drain = "let p-web-1 end what it has begun for 3s";
    assert_eq!(aftermath(&newer(), &web(), Policy::default()), [drain, "stop p-web-1", "remove p-web-1"]);
    assert_eq!(aftermath(&newer(), &web(), KEEP), [drain, "stop p-web-1"]);
    // A network goes once nobody is in it any more.
    let old = web().network("web", "extra");
    assert!(aftermath(&newer(), &old, Policy::default()).is_empty());
    // Stop-first has no such end.
    let stop_first = newer().edit("web", asks_for("stop-first"));
    assert!(aftermath(&stop_first, &web(), Policy::default()).is_empty());
}

#[test]
fn those_that_end_do_not_take_turns() {
    let (old, newer) = scaled(|_| {});
    let mut observed = serving(&newer);
    for mut leaving in serving(&old).containers {
        leaving.id = format!("id-old-{}", leaving.name);
        leaving.name = format!("{}{}old", leaving.name, crate::plan::KEPT);
        nameless(&mut leaving);
        observed.containers.push(leaving);
    }
    let plan = plan(&newer.desired(), &observed, &Memory::default(), Policy::default());
    assert_eq!(plan.steps.len(), 9, "{:?}", plan.describe());
    assert!(plan.is_settled(), "{:?}", plan.describe());
}

#[test]
fn one_that_still_ends_what_it_has_begun_goes_on_with_it_at_the_next_update() {
    let newest = web().image("web", "tool:1");
    let mut observed = serving(&newer());
    let mut leaving = serving(&web()).containers.remove(0);
    (leaving.id, leaving.name) = ("id-old".into(), "p-web-1.kept-id-old".into());
    nameless(&mut leaving);
    observed.containers.push(leaving);
    let plan = plan(&newest.desired(), &observed, &Memory::default(), Policy::default());
    let lines: Vec<String> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    let at = |line: &str| lines.iter().position(|other| other == line).unwrap_or_else(|| panic!("{lines:?}"));
    let drained = at("let p-web-1.kept-id-old end what it has begun for 3s");
    assert!(plan.steps[at("stop p-web-1.kept-id-old")].needs.contains(&drained));
    assert!(plan.aftermath().contains(&drained));
}
