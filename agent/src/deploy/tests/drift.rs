//! Drift and crash loops, as status, audit log and reports tell of them.

use super::paused::{installed, until};
use super::*;
use crate::deploy::crashes::PATIENCE;
use crate::deploy::drift::DriftRecord;
use crate::store::EventRecord;

fn audit(rig: &Rig) -> String {
    std::fs::read_to_string(rig.folder.path().join("audit.jsonl")).unwrap()
}

fn events(host: &Running) -> Vec<v1::Event> {
    let records = host.world.store.scan::<EventRecord>("").unwrap();
    let decode = |record: EventRecord| {
        let bytes = hex::decode(record.event).unwrap();
        <v1::Event as prost::Message>::decode(&bytes[..]).unwrap()
    };
    records.into_iter().map(decode).collect()
}

#[tokio::test]
async fn what_somebody_does_to_a_container_is_put_right_and_told_with_its_reason() {
    type Deed = fn(&Fake);
    let table: [(Deed, &str); 3] = [
        (|engine| engine.kill("hello-web-1"), "start hello-web-1: somebody stopped it"),
        (|engine| engine.snatch("hello-web-1"), "create hello-web-1: somebody removed it"),
        (
            |engine| {
                engine.update_by_hand("hello-web-1", |container| {
                    let detail = container.detail.as_mut().unwrap();
                    detail.spec.restart = kedge_compose::model::Restart::Always;
                });
            },
            "update hello-web-1: it has another restart policy",
        ),
    ];
    for (deed, expected) in table {
        let rig = Rig::new();
        let host = installed(&rig).await;
        deed(&rig.engine);
        let told = until(&host, expected, |d| {
            d.health() == v1::Health::Healthy
                && d.last_drift.as_ref().is_some_and(|drift| drift.outcome == "put right")
        })
        .await;
        let drift = told.last_drift.unwrap();
        assert!(drift.what[0].contains(expected), "{drift:?}");
        assert!(audit(&rig).contains(expected), "{}", audit(&rig));
        let events = events(&host);
        assert!(events.iter().any(|e| e.kind == "drift" && e.message.contains(expected)), "{events:?}");
        host.stop().await;
        // A restart forgets nothing of it.
        let host = rig.start().await;
        let kept = host.world.store.get::<DriftRecord>("hello").unwrap().unwrap();
        assert_eq!(kept.to_proto(), drift);
        until(&host, "the last drift", |d| d.last_drift.as_ref() == Some(&drift)).await;
    }
}

#[tokio::test]
async fn what_ended_as_the_engine_was_restarted_is_started_and_nobody_is_blamed() {
    let rig = Rig::new();
    let host = installed(&rig).await;
    rig.engine.stop_engine();
    until(&host, "it is noticed", |d| d.health() == v1::Health::Unknown).await;
    rig.engine.start_engine();
    until(&host, "it runs again", |d| d.health() == v1::Health::Healthy).await;
    let expected = "start hello-web-1: it ended as the container engine went down";
    let events = events(&host);
    assert!(events.iter().any(|e| e.kind == "health" && e.message.contains(expected)), "{events:?}");
    assert!(!events.iter().any(|e| e.kind == "drift"), "{events:?}");
    assert!(!audit(&rig).contains("somebody"), "{}", audit(&rig));
    // And what somebody does afterwards is.
    rig.engine.kill("hello-web-1");
    until(&host, "it is put right", |d| d.last_drift.is_some()).await;
    assert!(audit(&rig).contains("somebody stopped it"), "{}", audit(&rig));
}

#[tokio::test]
async fn what_an_operation_makes_is_no_drift_though_it_was_not_there_when_it_began() {
    let rig = Rig::new();
    // The engine in memory tells nothing of networks and volumes that are made, the real one a little later.
    *rig.hooks.look.lock().unwrap() = Some(rig.engine.clone());
    let host = installed(&rig).await;
    rig.engine.kill("hello-web-1");
    let told = until(&host, "it is put right", |d| d.last_drift.is_some()).await;
    let what = told.last_drift.unwrap().what;
    assert!(what.len() == 1 && what[0].contains("start hello-web-1"), "{what:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off_is_told_once_and_is_over_when_it_runs() {
    let rig = Rig::new();
    let host = installed(&rig).await;
    for n in 1..=PATIENCE {
        rig.engine.exit("hello-web-1", 7);
        if n < PATIENCE {
            // Each is started again at once, and is no drift.
            let mut signals = host.world.events.subscribe();
            while rig.engine.container("hello-web-1").unwrap().state != State::Running {
                let _ = tokio::time::timeout(Duration::from_secs(1), signals.recv()).await;
            }
        }
    }
    let told = until(&host, "the loop", |d| d.services.iter().any(|s| s.crash_loop.is_some())).await;
    let crash = told.services[0].crash_loop.clone().unwrap();
    assert_eq!((crash.count, crash.exit_code), (PATIENCE, 7));
    assert!(told.last_drift.is_none(), "{told:?}");
    let is_loop = |event: &&v1::Event| event.kind == "crash-loop";
    assert_eq!(events(&host).iter().filter(is_loop).count(), 1);
    assert!(audit(&rig).contains("crash_loop"), "{}", audit(&rig));
    // Held back, then tried again, then over.
    assert_eq!(rig.engine.container("hello-web-1").unwrap().state, State::Exited);
    let calm = tokio::time::timeout(
        Duration::from_secs(3600),
        host.host.status().wait_for(|s| {
            let d = &s.deployments[0];
            d.health() == v1::Health::Healthy && d.services.iter().all(|s| s.crash_loop.is_none())
        }),
    )
    .await
    .is_ok();
    assert!(calm, "{:?}", host.host.status().borrow());
}
