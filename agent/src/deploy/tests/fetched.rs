//! What was stored and is not whole any more when it is wanted: it is fetched again, and no release is blamed for a disk.

use futures_util::stream;
use kedge_proto::tether::v1::Documents;

use super::importing::{stored, two_images};
use super::offered::offer;
use super::*;
use crate::host::{ByteStream, Courier};
use crate::images::resuming::as_sent;

/// A hub with one release, and the blobs that were asked of it.
#[derive(Clone)]
struct Hub(Arc<TestBundle>, Arc<Mutex<Vec<Digest>>>);

#[tonic::async_trait]
impl Courier for Hub {
    async fn documents(&self, _: &str) -> Result<Documents, Problem> {
        Ok(as_sent(&self.0))
    }

    async fn blob(&self, _: &str, digest: &str, offset: u64) -> Result<ByteStream, Problem> {
        let digest = digest.parse().unwrap();
        self.1.lock().unwrap().push(digest);
        let rest = self.0.blob(&digest).unwrap()[usize::try_from(offset).unwrap()..].to_vec();
        Ok(Box::pin(stream::iter([Ok(Bytes::from(rest))])))
    }
}

/// What to do to a layer on disk.
type Harm = fn(&std::path::Path);

const HARMS: [(&str, Harm); 3] = [
    ("let go", |path| std::fs::remove_file(path).unwrap()),
    ("cut off", |path| std::fs::write(path, b"short").unwrap()),
    ("changed", |path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_layer_that_was_damaged_is_fetched_again_and_its_release_installed() {
    for (what, harm) in HARMS {
        let rig = Rig::new();
        let host = rig.start().await;
        last(host.import(&rig, two_images(&rig, 1).bytes(), &[]).await).await.unwrap();
        let next = Arc::new(two_images(&rig, 2));
        host.stage(&rig, &next).await;
        let hub = Hub(Arc::clone(&next), Arc::default());
        host.world.courier.send_replace(Some(Arc::new(hub.clone())));
        let lost = next.draft.content.images[1].layers[2].digest;
        harm(&rig.folder.path().join("content/blobs").join(lost.hex()));
        host.host.offered(offer(&next, 2)).await;
        host.wait_for(|d| d.operation.is_none() && (d.last_problem.is_some() || is_active(d, 2))).await;
        let status = host.host.status().borrow().clone();
        assert!(is_active(&status.deployments[0], 2), "{what}: {:?}", status.deployments[0].last_problem);
        assert_eq!(*hub.1.lock().unwrap(), [lost], "{what}: nothing else is fetched");
        assert_eq!(stored(&rig, &next), (0, 0), "{what}: the engine has it now");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_line_a_damaged_layer_ends_the_update_and_the_last_release_runs_on() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, two_images(&rig, 1).bytes(), &[]).await).await.unwrap();
    let next = two_images(&rig, 2);
    host.stage(&rig, &next).await;
    let lost = next.draft.content.images[0].layers[1].digest;
    std::fs::remove_file(rig.folder.path().join("content/blobs").join(lost.hex())).unwrap();
    host.host.offered(offer(&next, 2)).await;
    let names = |p: &v1::Problem| p.message.contains(&lost.to_string());
    host.wait_for(|d| d.last_problem.as_ref().is_some_and(names)).await;
    host.wait_for(|d| d.operation.is_none() && is_active(d, 1)).await;
    host.stop().await;
}

fn is_active(status: &v1::DeploymentStatus, seq: u64) -> bool {
    status.active.as_ref().is_some_and(|release| release.seq == seq)
}
