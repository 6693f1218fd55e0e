//! What a host says that has just been started, before anything in it has had its turn.

use kedge_proto::tether::v1::Report;
use prost::Message as _;

use super::*;

#[tokio::test]
async fn the_first_report_after_a_start_has_every_deployment() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    host.stop().await;

    let host = rig.start().await;
    host.host.report_everything().await;
    let reports = host.host.outbox_after(0, 100).await.unwrap();
    let first = Report::decode(reports[0].report.clone()).unwrap();
    assert!(first.full);
    let deployments = first.host.unwrap().deployments;
    let said: Vec<_> = deployments.iter().map(|d| (d.name.as_str(), d.phase(), d.health())).collect();
    // Nobody has looked at its containers yet: that they run is as little known as that they do not.
    assert_eq!(said, [("hello", v1::Phase::Active, v1::Health::Unknown)]);
    assert_eq!(deployments[0].active.as_ref().unwrap().version, "1.0.1");

    let mut status = host.host.status();
    status
        .wait_for(|s| s.deployments.first().is_some_and(|d| d.health() == v1::Health::Healthy))
        .await
        .unwrap();
}
