//! An agent that ends in the middle of an operation, and the one that comes after it.

use super::*;

#[tokio::test]
async fn whatever_phase_it_crashes_in_a_restart_brings_it_to_the_target() {
    let phases = [
        Phase::Offered,
        Phase::Fetching,
        Phase::Verified,
        Phase::Preflight,
        Phase::AwaitingApproval,
        Phase::AwaitingWindow,
        Phase::Snapshotting,
        Phase::Applying,
        Phase::Gating,
    ];
    futures_util::future::join_all(phases.map(crash_in)).await;
}

async fn crash_in(phase: Phase) {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    *rig.hooks.crash_in.lock().unwrap() = Some(phase);
    let progress = host.import(&rig, rig.bundle(2, |_| {}).bytes(), &[]).await;
    rig.hooks.crashed.notified().await;
    assert_eq!(host.record().operation.map(|o| o.phase), Some(phase), "written before its effect");
    drop(progress);
    *rig.hooks.crash_in.lock().unwrap() = None;
    // The task never sees its hook return, as after `kill -9`.
    host.host.abort();
    drop(host);
    let host = rig.start().await;
    let mut status = host.host.status();
    status
        .wait_for(|s| {
            s.deployments
                .first()
                .is_some_and(|d| d.operation.is_none() && d.active.as_ref().is_some_and(|r| r.seq == 2))
        })
        .await
        .unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("2"), "after a crash in {phase:?}");
    host.stop().await;
}

#[tokio::test]
async fn an_operation_found_at_the_start_waits_for_an_engine_that_has_not_answered_yet() {
    let rig = Rig::new();
    let host = rig.start().await;
    *rig.hooks.crash_in.lock().unwrap() = Some(Phase::Preflight);
    let progress = host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await;
    rig.hooks.crashed.notified().await;
    drop(progress);
    *rig.hooks.crash_in.lock().unwrap() = None;
    host.host.abort();
    drop(host);
    rig.engine.stop_engine();
    let host = rig.start().await;
    let mut status = host.host.status();
    // Whoever asked is gone: there is nobody to tell that it did not work, and ask again.
    let waits = |s: &Arc<v1::HostStatus>| {
        s.deployments.first().and_then(|d| d.operation.as_ref()).is_some_and(|o| o.step.contains("waiting"))
    };
    status.wait_for(waits).await.unwrap();
    rig.engine.start_engine();
    host.kind.send_replace(rig.engine.info().await.ok());
    let active = |s: &Arc<v1::HostStatus>| s.deployments.first().is_some_and(|d| d.active.is_some());
    status.wait_for(active).await.unwrap();
    host.stop().await;
}
