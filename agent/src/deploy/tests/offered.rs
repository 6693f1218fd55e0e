//! What a hub offers of what is here already: a courier's word moves no host backwards, and its numbers are only a hint.

use kedge_proto::tether::v1::ReleaseOffer;

use super::*;
use crate::host::Offers;

pub(super) fn offer(bundle: &TestBundle, seq: u64) -> Offers {
    let (signed, digest) = (&bundle.release, bundle.digest());
    let offer = ReleaseOffer {
        product: signed.product.clone(),
        stream: signed.stream.clone(),
        seq,
        version: "what it likes".into(),
        release_digest: digest.to_string(),
        ..ReleaseOffer::default()
    };
    Offers { fresh: Bytes::new(), releases: vec![offer] }
}

impl Running {
    pub(super) async fn stage(&self, rig: &Rig, bundle: &TestBundle) {
        let options = ImportOptions {
            root_sha256: Some(rig.vendor.fingerprint().hex()),
            stage_only: true,
            ..ImportOptions::default()
        };
        last(self.import_with(options, bundle.bytes()).await).await.unwrap();
    }

    pub(super) async fn wait_for(&self, wanted: impl Fn(&v1::DeploymentStatus) -> bool) {
        let mut status = self.host.status();
        let seen = status.wait_for(|s| s.deployments.first().is_some_and(&wanted));
        if tokio::time::timeout(Duration::from_secs(30), seen).await.is_err() {
            panic!("it does not come to that: {:#?}", self.host.status().borrow().deployments);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_release_that_is_still_here_is_not_installed_because_a_hub_offers_it() {
    for claimed in [1, 9] {
        let rig = Rig::new();
        let host = rig.start().await;
        let bundles = [rig.bundle(1, |_| {}), rig.bundle(2, |_| {})];
        for bundle in &bundles {
            last(host.import(&rig, bundle.bytes(), &[]).await).await.unwrap();
        }
        host.host.offered(offer(&bundles[0], claimed)).await;
        host.wait_for(|d| d.last_problem.as_ref().is_some_and(|p| p.code == "KE-2112")).await;
        host.wait_for(|d| d.operation.is_none() && d.active.as_ref().is_some_and(|r| r.seq == 2)).await;
        assert_eq!(version_running(&rig).as_deref(), Some("2"), "offered as {claimed}");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_counts_as_the_number_it_was_signed_with_whatever_the_hub_calls_it() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    let (two, three) = (rig.bundle(2, |_| {}), rig.bundle(3, |_| {}));
    host.stage(&rig, &two).await;
    host.host.offered(offer(&two, u64::MAX)).await;
    host.wait_for(|d| d.operation.is_none() && d.active.as_ref().is_some_and(|r| r.seq == 2)).await;
    last(host.import(&rig, three.bytes(), &[]).await).await.unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("3"));
    let again = last(host.import(&rig, two.bytes(), &[]).await).await.unwrap_err();
    assert_eq!(again.code.id, "KE-2112", "an older one is a step back, whatever it was called");
    host.stop().await;
}
