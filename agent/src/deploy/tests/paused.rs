//! Paused: nothing is changed, everything is still seen, and a restart forgets nothing of it.

use super::*;
use crate::deploy::pause::PauseRecord;

/// Waits for a status of the deployment.
pub(super) async fn until(
    host: &Running,
    what: &str,
    is: impl Fn(&v1::DeploymentStatus) -> bool,
) -> v1::DeploymentStatus {
    let mut status = host.host.status();
    let found = status.wait_for(|status| status.deployments.first().is_some_and(&is));
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    found.unwrap_or_else(|_| panic!("{what}: {:?}", host.host.status().borrow())).unwrap().deployments[0]
        .clone()
}

pub(super) async fn installed(rig: &Rig) -> Running {
    let host = rig.start().await;
    last(host.import(rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    until(&host, "it runs", |d| d.health() == v1::Health::Healthy).await;
    host
}

#[tokio::test]
async fn what_ends_while_paused_stays_ended_until_it_is_resumed() {
    let rig = Rig::new();
    let host = installed(&rig).await;
    let said = host.host.pause("hello", "ada", "by hand\u{1b}").await.unwrap();
    assert!(said.contains("kedge resume hello"), "{said}");
    rig.engine.forget_calls();
    rig.engine.exit("hello-web-1", 137);
    let seen = until(&host, "its end is seen", |d| d.health() == v1::Health::Stopped).await;
    let pause = seen.pause.unwrap();
    assert_eq!((seen.paused, pause.by.as_str(), pause.reason.as_str()), (true, "ada", "by hand"));
    assert_eq!(rig.engine.changes(), Vec::<String>::new());
    assert!(host.host.diff("hello").await.unwrap().changes);
    host.host.resume("hello", "bob").await.unwrap();
    let seen = until(&host, "it runs again", |d| d.health() == v1::Health::Healthy).await;
    assert!(!seen.paused && seen.pause.is_none());
    let log = std::fs::read_to_string(rig.folder.path().join("audit.jsonl")).unwrap();
    assert!(
        log.contains(r#""paused","deployment":"hello","by":"ada""#) && log.contains(r#""resumed""#),
        "{log}"
    );
}

#[tokio::test]
async fn a_pause_survives_a_restart_of_the_agent() {
    let rig = Rig::new();
    let host = installed(&rig).await;
    host.host.pause("hello", "ada", "").await.unwrap();
    host.stop().await;
    rig.engine.exit("hello-web-1", 1);
    rig.engine.forget_calls();
    let host = rig.start().await;
    until(&host, "its end is seen", |d| d.paused && d.health() == v1::Health::Stopped).await;
    assert_eq!(rig.engine.changes(), Vec::<String>::new());
    host.host.resume("hello", "ada").await.unwrap();
    until(&host, "it runs again", |d| d.health() == v1::Health::Healthy).await;
    assert_eq!(host.world.store.get::<PauseRecord>("hello").unwrap(), None);
}

#[tokio::test]
async fn a_release_waits_while_paused_and_goes_on_when_resumed() {
    let rig = Rig::new();
    let host = installed(&rig).await;
    host.host.pause("hello", "ada", "month end").await.unwrap();
    let progress = host.import(&rig, rig.bundle(2, |_| {}).bytes(), &[]).await;
    let waits = until(&host, "it waits", |d| {
        d.operation.as_ref().is_some_and(|o| o.step.contains("paused by ada") && o.step.contains("month end"))
    })
    .await;
    assert_eq!((waits.phase(), version_running(&rig).as_deref()), (v1::Phase::Preflight, Some("1")));
    // A newer one takes the place of the one that waits.
    let newer = host.import(&rig, rig.bundle(3, |_| {}).bytes(), &[]).await;
    assert_eq!(last(progress).await.unwrap_err().code, codes::BUSY);
    until(&host, "the newer one waits", |d| {
        d.operation.as_ref().is_some_and(|o| {
            o.step.contains("paused") && o.target.as_ref().is_some_and(|target| target.seq == 3)
        })
    })
    .await;
    assert_eq!(version_running(&rig).as_deref(), Some("1"));
    host.host.resume("hello", "ada").await.unwrap();
    last(newer).await.unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("3"));
}

#[tokio::test]
async fn pausing_twice_keeps_the_first_and_a_removal_takes_the_pause_along() {
    let rig = Rig::new();
    let host = installed(&rig).await;
    host.host.pause("hello", "ada", "first").await.unwrap();
    let again = host.host.pause("hello", "bob", "second").await.unwrap();
    assert!(again.contains("already") && again.contains("ada"), "{again}");
    assert_eq!(host.host.pause("other", "ada", "").await.unwrap_err().code, codes::NO_DEPLOYMENT);
    last(host.host.remove("hello", false, "").await).await.unwrap();
    assert!(rig.engine.containers().is_empty());
    assert_eq!(host.world.store.get::<PauseRecord>("hello").unwrap(), None);
}

#[tokio::test]
async fn resuming_what_is_not_paused_changes_nothing() {
    let rig = Rig::new();
    let host = installed(&rig).await;
    host.host.pause("hello", "ada", "").await.unwrap();
    host.host.resume("hello", "ada").await.unwrap();
    let said = host.host.resume("hello", "ada").await.unwrap();
    assert!(said.contains("not paused"), "{said}");
    rig.engine.exit("hello-web-1", 1);
    until(&host, "it is started again", |d| d.health() == v1::Health::Healthy).await;
}
