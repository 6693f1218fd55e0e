//! Who is to blame: events in, sentences out.

use std::sync::Arc;

use crate::deploy::drift::{Fights, Witness};
use crate::engine::Signal;
use crate::engine::types::{Action, EngineEvent, State, Subject};
use crate::plan::tests::builders::{Observing, Stack};
use crate::plan::{Memory, Observed, Plan, Policy, plan};

fn event(action: Action, signal: &str) -> Signal {
    event_at(0, action, signal)
}

/// At a second.
fn event_at(at: i64, action: Action, signal: &str) -> Signal {
    let attributes = [
        ("name", "p-web-1"),
        ("com.docker.compose.service", "web"),
        ("com.docker.compose.container-number", "1"),
        ("signal", signal),
    ];
    Signal::Event(Arc::new(EngineEvent {
        at: seconds(at),
        subject: Subject::Container,
        action,
        id: "id-p-web-1".into(),
        attributes: attributes.map(|(name, value)| (name.into(), value.into())).into(),
    }))
}

fn seconds(at: i64) -> i64 {
    at * 1_000_000_000
}

fn lost(at: i64) -> Signal {
    Signal::Lost { at: seconds(at) }
}

fn back(at: i64) -> Signal {
    Signal::Back { at: seconds(at) }
}

fn plan_for(observed: &Observed) -> Plan {
    let stack = Stack::of(&["web"]).port("web", "80");
    plan(&stack.desired(), observed, &Memory::default(), Policy::default())
}

fn running() -> Observed {
    Stack::of(&["web"]).port("web", "80").running()
}

#[test]
fn a_kill_before_the_end_is_somebodys_and_an_end_without_one_is_its_own() {
    let table: [(&[Signal], usize, &str); 5] = [
        (&[event(Action::Kill, "9"), event(Action::Die(137), "")], 0, "somebody stopped it with signal 9"),
        (&[event(Action::Die(1), "")], 1, "it ended with exit code 1"),
        (&[event(Action::Kill, "SIGHUP"), event(Action::Die(1), "")], 1, "it ended with exit code 1"),
        (
            &[event(Action::Kill, "9"), event(Action::Start, ""), event(Action::Die(1), "")],
            1,
            "it ended with exit code 1",
        ),
        (&[], 0, "it ended with an error"),
    ];
    for (events, ends, expected) in table {
        let mut witness = Witness::default();
        events.iter().for_each(|event| witness.hear(event));
        let findings = witness.findings(&plan_for(&running().ended("p-web-1", 1)));
        let sentences = [findings.drift.as_slice(), findings.ended.as_slice()].concat();
        assert!(sentences[0].contains(expected), "{sentences:?}");
        assert_eq!((findings.ended.len(), witness.take_ends().len()), (ends, ends), "{sentences:?}");
    }
}

#[test]
fn what_ended_with_the_engine_is_nobodys_and_what_was_stopped_beside_it_is_somebodys() {
    use Action::{Die, Kill, Start};
    const ENGINE: &str = "it ended as the container engine went down";
    const SOMEBODY: &str = "somebody stopped it with signal 15";
    let (kill, die) = (|at| event_at(at, Kill, "15"), |at| event_at(at, Die(0), ""));
    let table: [(&str, Vec<Signal>, usize, &str); 7] = [
        ("stopped in order", vec![kill(500), die(501), lost(502), back(505)], 0, ENGINE),
        (
            "killed, it ends what still ran as it starts",
            vec![lost(500), back(505), kill(503), die(504)],
            0,
            ENGINE,
        ),
        ("nothing was told", vec![lost(500), back(505)], 0, ENGINE),
        ("stopped by hand long before", vec![kill(100), die(101), lost(500), back(505)], 0, SOMEBODY),
        ("stopped by hand afterwards", vec![lost(500), back(505), kill(506), die(507)], 0, SOMEBODY),
        (
            "ended by itself afterwards",
            vec![lost(500), back(505), event_at(505, Start, ""), die(507)],
            1,
            "exit code 0",
        ),
        ("ended by itself before", vec![die(499), lost(500), back(505)], 1, "exit code 0"),
    ];
    for (what, signals, ends, expected) in table {
        let mut witness = Witness::default();
        signals.iter().for_each(|signal| witness.hear(signal));
        let findings = witness.findings(&plan_for(&running().ended("p-web-1", 0)));
        let (guilty, nobodys) = (findings.drift.join(";"), findings.ended.join(";"));
        let told = if expected == SOMEBODY { &guilty } else { &nobodys };
        assert!(told.contains(expected), "{what}: {findings:?}");
        assert_eq!(witness.take_ends().len(), ends, "{what}");
        // Once all has run again, the absence explains nothing any more.
        witness.all_is_well();
        let findings = witness.findings(&plan_for(&running().ended("p-web-1", 0)));
        assert!(!findings.ended.join(";").contains(ENGINE), "{what}: {findings:?}");
    }
}

#[test]
fn a_removal_is_somebodys_and_what_we_do_ourselves_is_nobodys() {
    let mut witness = Witness::default();
    witness.hear(&event(Action::Destroy, ""));
    let findings = witness.findings(&plan_for(&running().gone("p-web-1")));
    assert!(findings.drift[0].contains("somebody removed it"), "{findings:?}");

    // Seen while it is still being removed.
    let mut witness = Witness::default();
    witness.hear(&event(Action::Kill, "9"));
    let removing = running().but("p-web-1", |container| container.state = State::Removing);
    let findings = witness.findings(&plan_for(&removing));
    assert!(findings.drift[0].contains("somebody removed it"), "{findings:?}");

    let mut witness = Witness::default();
    let stack = Stack::of(&["web"]).image("web", "app:2");
    witness.expect(&plan(
        &stack.desired(),
        &Stack::of(&["web"]).running(),
        &Memory::default(),
        Policy::default(),
    ));
    witness.hear(&event(Action::Kill, "15"));
    witness.hear(&event(Action::Die(0), ""));
    witness.hear(&event(Action::Destroy, ""));
    assert_eq!(witness.take_ends(), []);
    let findings = witness.findings(&plan_for(&running().gone("p-web-1")));
    assert!(findings.drift[0].contains("there is none"), "{findings:?}");
}

#[test]
fn a_restart_is_somebodys_because_we_have_no_such_verb() {
    let mut witness = Witness::default();
    witness.hear(&event(Action::Restart, ""));
    assert_eq!(witness.take_restarted(), ["p-web-1"]);
    assert_eq!(witness.take_restarted(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_undoes_us_all_the_time_is_met_less_often() {
    let mut fights = Fights::default();
    let now = tokio::time::Instant::now;
    for _ in 0..10 {
        assert_eq!(fights.wait_until(now()), None);
        fights.another(now());
    }
    tokio::time::sleep_until(fights.wait_until(now()).unwrap()).await;
    assert_eq!(fights.wait_until(now()), None);
}
