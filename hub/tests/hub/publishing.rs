//! What may be published, and the life of the hub itself.

use crate::common::{Stream, TestHub, bundle, code, config, hello, soon, vendor};
use kedge_bundle::codes as bundle_codes;
use kedge_bundle::testing::ThinBundle;
use kedge_proto::hub::v1 as admin;
use kedge_proto::tether::v1 as tether;
use kedgectl::codes;
use kedgectl::hub::{Config, Hub};
use std::sync::Arc;

async fn published(hub: &TestHub) -> Vec<u64> {
    let reply = hub.admin().await.list_releases(admin::ListReleasesRequest {}).await.unwrap().into_inner();
    reply.releases.into_iter().map(|release| release.seq).collect()
}

#[tokio::test]
async fn only_what_the_vendor_signed_is_published_and_a_refusal_leaves_nothing() {
    let hub = TestHub::start().await;
    let good = bundle(&hub.vendor, 1, &[]).bytes();
    let stranger = bundle(&kedge_bundle::testing::Vendor::new("stranger"), 1, &[]).bytes();
    let mut tampered = good.clone();
    let position = tampered.len() - 2000;
    tampered[position] ^= 1;
    let expired = hub.vendor.bundle_with(kedge_bundle::testing::sample(1), |release| {
        release.expires = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1);
    });
    let cases = [
        ("another vendor's", stranger.as_slice(), "", bundle_codes::UNSIGNED),
        ("cut short", &good[..good.len() / 2], "", bundle_codes::TRUNCATED),
        ("not a bundle", b"not a bundle", "", bundle_codes::TRUNCATED),
        ("expired", &expired.bytes(), "", bundle_codes::RELEASE_EXPIRED),
        ("for another stream", &good, "beta", codes::STREAM_DIFFERS),
    ];
    for (name, bytes, stream, expected) in cases {
        assert_eq!(code(&hub.publish(bytes, stream).await.unwrap_err()), expected.id, "{name}");
    }
    assert!(hub.publish(&tampered, "").await.is_err());
    assert_eq!(published(&hub).await, [0; 0]);
    let left = |folder: &str| std::fs::read_dir(hub.folder.path().join(folder)).unwrap().count();
    assert_eq!((left("incoming"), left("bundles")), (0, 0));
}

#[tokio::test]
async fn publishing_again_changes_nothing_and_one_number_is_one_release() {
    let hub = TestHub::start().await;
    let first = bundle(&hub.vendor, 1, &[]);
    assert!(!hub.publish(&first.bytes(), "").await.unwrap().already);
    assert!(hub.publish(&first.bytes(), "").await.unwrap().already);
    let other = bundle(&hub.vendor, 1, &["acme"]);
    let refusal = hub.publish(&other.bytes(), "").await.unwrap_err();
    assert_eq!(code(&refusal), bundle_codes::EQUIVOCATION.id);
    assert_eq!(published(&hub).await, [1]);
}

#[tokio::test]
async fn an_upload_that_is_not_what_it_announced_is_refused() {
    use admin::publish_request::Body;
    let hub = TestHub::start().await;
    let options = |total_bytes| Body::Options(admin::PublishOptions { stream: String::new(), total_bytes });
    let data = |n: usize| Body::Data(vec![0; n].into());
    let cases = [
        ("nothing", vec![], codes::UPLOAD),
        ("no options", vec![data(1)], codes::UPLOAD),
        ("too little", vec![options(2), data(1)], codes::UPLOAD),
        ("too much", vec![options(2), data(3)], codes::TOO_LARGE),
        ("options twice", vec![options(2), options(2)], codes::UPLOAD),
        ("more than the disk has", vec![options(u64::MAX)], codes::NO_SPACE),
    ];
    for (name, bodies, expected) in cases {
        let pieces: Vec<_> =
            bodies.into_iter().map(|body| admin::PublishRequest { body: Some(body) }).collect();
        let refusal = hub.admin().await.publish(tokio_stream::iter(pieces)).await.unwrap_err();
        assert_eq!(code(&refusal), expected.id, "{name}");
    }
}

#[tokio::test]
async fn releases_are_there_again_after_a_restart_with_the_longer_chain_of_roots() {
    let (folder, vendor) = (Arc::new(tempfile::tempdir().unwrap()), vendor());
    let mut newer = vendor.clone();
    newer.rotate(&[], |_| {});
    let hub = TestHub::start_in(folder, vendor, None).await;
    hub.publish(&bundle(&newer, 1, &[]).bytes(), "").await.unwrap();
    let hub = hub.restart().await;
    assert_eq!(published(&hub).await, [1]);
    assert_eq!(hub.enrol("acme").await.answer.roots, newer.envelopes, "new hosts get the whole chain");
}

#[tokio::test]
async fn a_bundle_that_appears_in_the_publish_folder_is_published() {
    let publish = tempfile::tempdir().unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let hub = TestHub::start_in(folder, vendor(), Some(publish.path().to_owned())).await;
    let host = hub.enrol("acme").await;
    let (mut stream, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    assert!(stream.offers().await.releases.is_empty());
    std::fs::write(publish.path().join("one.kedge"), bundle(&hub.vendor, 1, &[]).bytes()).unwrap();
    assert_eq!(stream.offers().await.releases[0].seq, 1);
    assert!(publish.path().join("one.kedge").exists(), "the file stays where it is");
}

#[tokio::test]
async fn a_second_hub_on_the_same_folder_is_refused_until_the_first_has_stopped() {
    let mut hub = TestHub::start().await;
    let second = || Hub::start(config(hub.folder.path(), &hub.vendor));
    assert_eq!(second().await.err().unwrap().code, codes::RUNNING);
    let (folder, vendor) = (hub.folder.clone(), hub.vendor.clone());
    hub.stop().await;
    Hub::start(config(folder.path(), &vendor)).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_lacks_what_it_needs_does_not_start() {
    let vendor = vendor();
    let stranger = kedge_bundle::testing::Vendor::new("stranger");
    let folder = tempfile::tempdir().unwrap();
    let start = async |change: &dyn Fn(&mut Config)| {
        let mut config = config(folder.path(), &vendor);
        change(&mut config);
        Hub::start(config).await.err().map(|failure| failure.code)
    };
    assert_eq!(start(&|config| config.roots.clear()).await, Some(codes::CONFIG));
    assert_eq!(start(&|config| config.roots = vec![b"{}".to_vec()]).await, Some(bundle_codes::DOCUMENT));
    let foreign_key = stranger.fresh_key.clone();
    assert_eq!(
        start(&|config| config.fresh_key = Some(Box::new(foreign_key.clone()))).await,
        Some(codes::FRESH_KEY)
    );
    assert_eq!(start(&|_| {}).await, None);
    assert_eq!(start(&|config| config.roots.clear()).await, None, "the root is remembered");
    assert_eq!(start(&|config| config.roots = stranger.envelopes.clone()).await, Some(codes::CONFIG));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert_eq!(start(&|config| config.listen = address).await, Some(codes::LISTEN));
}

#[tokio::test]
async fn a_hub_that_stops_says_goodbye_and_stores_what_it_received() {
    let mut hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let (mut stream, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    stream.offers().await;
    stream.report(1, true, &["shop"]).await;
    stream.acked(1).await;
    let (reason, ()) = tokio::join!(stream.goodbye(), hub.stop());
    assert!(reason.contains("stopping"));
    let hub = hub.restart().await;
    let host = soon("the host", hub.host(&host.id)).await;
    assert_eq!(host.status.unwrap().deployments[0].name, "shop");
}

#[tokio::test]
async fn the_folder_the_socket_and_the_key_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let vendor = vendor();
    let _hub = Hub::start(config(&data, &vendor)).await.unwrap();
    let mode = |name: &str| std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("hub.sock"), mode("authority.pem")), (0o700, 0o600, 0o600));
}

/// A delta is found by whoever fetches the release, with its patches; it tells nobody and stands for no release.
#[tokio::test]
async fn a_delta_lies_beside_its_release_whichever_comes_first() {
    let hub = TestHub::start().await;
    let (old, new) = (bundle(&hub.vendor, 1, &[]), bundle(&hub.vendor, 2, &[]));
    let (full, digest) = (new.bytes(), new.digest().to_string());
    let thin = ThinBundle::new(new, &old);
    let reply = hub.publish(&thin.bytes(&hub.vendor), "").await.unwrap();
    assert!(reply.delta && !reply.already && reply.hosts_told == 0);
    assert_eq!(published(&hub).await, [0; 0], "a delta alone is no release");
    assert!(!hub.publish(&full, "").await.unwrap().delta);
    assert!(hub.publish(&thin.bytes(&hub.vendor), "").await.unwrap().already);
    assert_eq!(published(&hub).await, [2]);

    let host = hub.enrol("acme").await;
    let mut client = hub.tether(&host).await;
    let request = tether::FetchDocumentsRequest { release_digest: digest.clone() };
    let documents = client.fetch_documents(request).await.unwrap().into_inner();
    assert_eq!(documents.deltas, [thin.envelope(&[&hub.vendor.release_key])]);
    for (patch, bytes) in &thin.patches {
        let request =
            tether::FetchBlobRequest { release_digest: digest.clone(), digest: patch.to_string(), offset: 3 };
        let mut chunks = client.fetch_blob(request).await.unwrap().into_inner();
        let mut found = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            found.extend_from_slice(&chunk.data);
        }
        assert_eq!(found, bytes[3..]);
    }
}
