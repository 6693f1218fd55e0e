//! Numbers of releases mean something within an epoch only: after a compromise the vendor counts anew, and nothing that was
//! counted before stands in the way.

use super::offered::offer;
use super::paused::{installed, until};
use super::*;

fn runs(seq: u64) -> impl Fn(&v1::DeploymentStatus) -> bool {
    move |d| d.operation.is_none() && d.active.as_ref().is_some_and(|release| release.seq == seq)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_under_an_older_epoch_counts_for_nothing_in_the_new_one() {
    let mut rig = Rig::new();
    let host = installed(&rig).await;
    let old = rig.bundle(9, |_| {});
    host.stage(&rig, &old).await;
    host.host.pause("hello", "ada", "month end").await.unwrap();
    host.host.offered(offer(&old, 9)).await;
    until(&host, "it is accepted and waits", |d| d.phase() == v1::Phase::Preflight).await;
    rig.vendor.rotate(&[], |root| root.epoch = 2);
    let new = rig.bundle(2, |_| {});
    host.stage(&rig, &new).await;
    host.host.resume("hello", "ada").await.unwrap();
    until(&host, "the old one runs", runs(9)).await;
    last(host.import(&rig, new.bytes(), &[]).await).await.unwrap();
    until(&host, "the new one runs", runs(2)).await;
    let back = last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap_err();
    assert_eq!(back.code.id, "KE-2112", "and from there it counts");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_stored_the_newest_of_the_newest_epoch_is_kept() {
    let mut rig = Rig::new();
    let host = installed(&rig).await;
    let old = rig.bundle(9, |_| {});
    host.stage(&rig, &old).await;
    rig.vendor.rotate(&[], |root| root.epoch = 2);
    let new = rig.bundle(2, |_| {});
    host.stage(&rig, &new).await;
    host.host.collect_garbage(false, "ada").await.unwrap();
    let stored = host.world.content.releases();
    assert!(stored.contains(&new.digest()) && !stored.contains(&old.digest()), "{stored:?}");
    host.stop().await;
}
