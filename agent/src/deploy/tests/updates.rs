//! What `deploy.update_config` makes of an update that fails.

use super::paused::until;
use super::*;
use crate::deploy::pause::PauseRecord;

/// Two containers of one service, updated one by one. The action goes on to the end of `update_config`.
fn release(rig: &Rig, seq: u64, action: &str) -> Vec<u8> {
    let compose = format!(
        "services:\n  web:\n    image: example/hello:1\n    environment: {{V: '{seq}'}}\n    \
         healthcheck: {{test: [CMD, check]}}\n    deploy: {{replicas: 2, update_config: {{failure_action: {action}}}\n"
    );
    rig.bundle_of(seq, &compose, |_| {}).bytes()
}

/// Versions by container, of those that run.
fn versions(rig: &Rig) -> Vec<(String, String)> {
    let running = rig.engine.containers().into_iter().filter(|c| c.state == State::Running);
    running
        .map(|c| {
            let version = c.detail.unwrap().spec.env.0["V"].clone().unwrap();
            (c.name, version)
        })
        .collect()
}

/// The same once those that have handed over are gone, which nobody waits for.
async fn settled(rig: &Rig) -> Vec<(String, String)> {
    let gone = async {
        while rig.engine.containers().iter().any(|container| container.name.contains(crate::plan::KEPT)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    versions(rig)
}

fn named(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn with_pause_nothing_more_is_changed_until_somebody_decides() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, release(&rig, 1, "pause}"), &[]).await).await.unwrap();
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    let problem = last(host.import(&rig, release(&rig, 2, "pause}"), &[]).await).await.unwrap_err();
    assert!(problem.message.contains("unhealthy"), "{problem}");
    let seen = until(&host, "it is paused", |d| d.paused).await;
    assert_eq!(seen.pause.unwrap().by, "update_config of web");
    assert_eq!(
        versions(&rig),
        named(&[("hello-web-1", "1"), ("hello-web-1.next", "2"), ("hello-web-2", "1")]),
        "neither on nor back"
    );
    rig.engine.behave("web", Behaviour::Run);
    // A newer release is such a decision.
    last(host.import(&rig, release(&rig, 3, "pause}"), &[]).await).await.unwrap();
    assert!(!until(&host, "it is active", |d| d.active.as_ref().is_some_and(|a| a.seq == 3)).await.paused);
    assert_eq!(settled(&rig).await, named(&[("hello-web-1", "3"), ("hello-web-2", "3")]));
}

#[tokio::test(start_paused = true)]
async fn what_was_paused_is_tried_again_when_it_is_resumed() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, release(&rig, 1, "pause}"), &[]).await).await.unwrap();
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    last(host.import(&rig, release(&rig, 2, "pause}"), &[]).await).await.unwrap_err();
    until(&host, "it is paused", |d| d.paused).await;
    rig.engine.set_health("hello-web-1.next", crate::engine::types::Health::Healthy);
    rig.engine.behave("web", Behaviour::Run);
    host.host.resume("hello", "ada").await.unwrap();
    until(&host, "it is active", |d| d.active.as_ref().is_some_and(|active| active.seq == 2)).await;
    assert_eq!(settled(&rig).await, named(&[("hello-web-1", "2"), ("hello-web-2", "2")]));
}

#[tokio::test(start_paused = true)]
async fn with_rollback_or_nothing_said_it_goes_back() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, release(&rig, 1, "rollback}"), &[]).await).await.unwrap();
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    let problem = last(host.import(&rig, release(&rig, 2, "rollback}"), &[]).await).await.unwrap_err();
    assert_eq!(problem.code, codes::ROLLED_BACK, "{problem}");
    assert_eq!(settled(&rig).await, named(&[("hello-web-1", "1"), ("hello-web-2", "1")]));
}

#[tokio::test(start_paused = true)]
async fn with_continue_the_release_is_active_whatever_became_of_the_service() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, release(&rig, 1, "continue}"), &[]).await).await.unwrap();
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    last(host.import(&rig, release(&rig, 2, "continue}"), &[]).await).await.unwrap();
    let running = versions(&rig);
    assert!(
        running.contains(&("hello-web-2.next".into(), "2".into())),
        "the next one had its turn: {running:?}"
    );
    assert!(running.contains(&("hello-web-1".into(), "1".into())), "the old ones serve: {running:?}");
}

/// A release that bears failures forwards is followed by one that fails, and does not get well itself on the way back.
async fn cannot_go_back(rig: &Rig, more: &str) -> (Running, tokio::sync::mpsc::Receiver<Progress>) {
    let host = rig.start().await;
    let first = release(rig, 1, &format!("continue, order: stop-first}}{more}"));
    last(host.import(rig, first, &[]).await).await.unwrap();
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    let progress = host.import(rig, release(rig, 2, "rollback, order: stop-first}"), &[]).await;
    (host, progress)
}

#[tokio::test(start_paused = true)]
async fn what_is_borne_forwards_is_not_taken_for_restored_on_the_way_back() {
    let rig = Rig::new();
    let (host, progress) = cannot_go_back(&rig, "").await;
    until(&host, "going back has failed", |d| {
        d.phase() == v1::Phase::RollingBack
            && d.operation.as_ref().is_some_and(|o| o.step.contains("waiting: "))
    })
    .await;
    rig.engine.behave("web", Behaviour::Run);
    for (name, _) in versions(&rig) {
        rig.engine.set_health(&name, crate::engine::types::Health::Healthy);
    }
    let problem = last(progress).await.unwrap_err();
    assert_eq!(problem.code, codes::ROLLED_BACK, "{problem}");
    assert_eq!(settled(&rig).await, named(&[("hello-web-1", "1"), ("hello-web-2", "1")]));
}

#[tokio::test(start_paused = true)]
async fn a_failure_on_the_way_back_is_borne_where_rollback_config_asks_for_it() {
    let rig = Rig::new();
    let back = ", rollback_config: {failure_action: continue, order: stop-first}";
    let (_host, progress) = cannot_go_back(&rig, back).await;
    let problem = last(progress).await.unwrap_err();
    assert_eq!(problem.code, codes::ROLLED_BACK, "{problem}");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_failed_is_never_on_disk_without_its_pause() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, release(&rig, 1, "pause}"), &[]).await).await.unwrap();
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    let store = host.world.store.clone();
    // What a restart would find at any moment.
    let watching = std::thread::spawn(move || {
        loop {
            let record: DeploymentRecord = store.get("hello").unwrap().unwrap();
            if record.operation.is_some_and(|operation| operation.problem.is_some()) {
                return store.get::<PauseRecord>("hello").unwrap();
            }
            std::thread::yield_now();
        }
    });
    last(host.import(&rig, release(&rig, 2, "pause}"), &[]).await).await.unwrap_err();
    let pause = watching.join().unwrap();
    assert_eq!(pause.map(|pause| pause.by).as_deref(), Some("update_config of web"));
}

#[tokio::test(start_paused = true)]
async fn a_release_is_active_while_the_old_containers_end_and_others_are_still_cared_for() {
    let rig = Rig::new();
    let host = rig.start().await;
    let release = |seq: u64| {
        let compose = format!(
            "services:\n  web:\n    image: example/hello:1\n    environment: {{V: '{seq}'}}\n    \
             healthcheck: {{test: [CMD, check]}}\n  db:\n    image: example/hello:1\n    environment: {{V: '1'}}\n    restart: always\n"
        );
        rig.bundle_of(seq, &compose, |_| {}).bytes()
    };
    last(host.import(&rig, release(1), &[]).await).await.unwrap();
    last(host.import(&rig, release(2), &[]).await).await.unwrap();
    let leaving =
        |versions: &[(String, String)]| versions.iter().any(|(name, _)| name.contains(crate::plan::KEPT));
    assert!(leaving(&versions(&rig)), "{:?}", versions(&rig));
    rig.engine.kill("hello-db-1");
    let told = until(&host, "it is put right", |d| d.last_drift.is_some()).await;
    assert!(leaving(&versions(&rig)), "it did not wait for the old one: {:?}", versions(&rig));
    assert_eq!(settled(&rig).await, named(&[("hello-db-1", "1"), ("hello-web-1", "2")]));
    let what = told.last_drift.unwrap().what;
    assert!(what.iter().any(|what| what.contains("start hello-db-1: somebody stopped it")), "{what:?}");
    assert!(
        !what.iter().any(|what| what.contains("hello-web-1")),
        "an end that was planned is no drift: {what:?}"
    );
    let last = host.world.store.get::<crate::deploy::drift::DriftRecord>("hello").unwrap().unwrap();
    assert_eq!(last.what, what);
}
