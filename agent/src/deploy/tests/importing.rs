//! What an import leaves in the engine and in the content store, and what `kedge gc` takes away again.

use kedge_bundle::testing::{file, image, product, tar_of};

use super::*;

/// Release `seq` of two images that share their base, none of which the engine has.
pub(super) fn two_images(rig: &Rig, seq: u64) -> TestBundle {
    let compose = "services:\n  web:\n    image: web:1\n  db:\n    image: db:1\n";
    let base = tar_of("base", 0);
    let images = vec![
        image("web:1", &[base.clone(), tar_of("web", seq)]),
        image("db:1", &[base, tar_of("db", seq), tar_of("more", seq)]),
    ];
    let mut product = product(seq);
    product.gate = Gate { timeout_seconds: 30, soak_seconds: 1 };
    let files = vec![file("compose.yaml", compose.as_bytes())];
    let draft = kedge_bundle::assemble::assemble(&product, files, images).unwrap();
    rig.vendor.bundle_with(draft, |release| release.seq = seq)
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Blobs of layers that are stored, and blobs in the making.
pub(super) fn stored(rig: &Rig, bundle: &TestBundle) -> (usize, usize) {
    let blobs = names(&rig.folder.path().join("content/blobs"));
    let layers: Vec<String> =
        bundle.draft.content.images.iter().flat_map(|i| &i.layers).map(|l| l.digest.hex()).collect();
    let stored = blobs.iter().filter(|name| layers.contains(name)).count();
    (stored, names(&rig.folder.path().join("content/partial")).len())
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_go_straight_into_the_engine_and_come_to_no_disk_of_ours() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = two_images(&rig, 1);
    let staged = ImportOptions {
        root_sha256: Some(rig.vendor.fingerprint().hex()),
        stage_only: true,
        ..ImportOptions::default()
    };
    let dry = ImportOptions { stage_only: false, dry_run: true, ..staged.clone() };
    last(host.import_with(dry, bundle.bytes()).await).await.unwrap();
    assert!(rig.engine.images().is_empty() && stored(&rig, &bundle) == (0, 0), "a dry run changes nothing");
    last(host.import(&rig, bundle.bytes(), &[]).await).await.unwrap();
    assert_eq!((rig.engine.loads().len(), rig.engine.images().len()), (2, 2));
    assert_eq!(stored(&rig, &bundle), (0, 0));
    last(host.import(&rig, bundle.bytes(), &[]).await).await.unwrap();
    assert_eq!(rig.engine.loads().len(), 2, "what is there is not sent again");
    let next = two_images(&rig, 2);
    last(host.import_with(staged, next.bytes()).await).await.unwrap();
    assert_eq!((rig.engine.loads().len(), stored(&rig, &next).0), (2, 4), "what is only stored is stored");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_what_is_here_is_imported_once_more_and_nothing_else_is() {
    let mut rig = Rig::new();
    let host = rig.start().await;
    let root_sha256 = Some(rig.vendor.fingerprint().hex());
    let staged = ImportOptions { root_sha256, stage_only: true, ..ImportOptions::default() };
    let [one, two, three] = [1, 2, 3].map(|seq| two_images(&rig, seq));
    last(host.import(&rig, one.bytes(), &[]).await).await.unwrap();
    last(host.import_with(staged.clone(), two.bytes()).await).await.unwrap();
    host.stop().await;
    rig.reserve = Some(u64::MAX);
    let host = rig.start().await;
    last(host.import(&rig, one.bytes(), &[]).await).await.unwrap();
    last(host.import_with(staged.clone(), two.bytes()).await).await.unwrap();
    let problem = last(host.import_with(staged, three.bytes()).await).await.unwrap_err();
    assert_eq!(problem.code, codes::NO_SPACE);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_release_that_is_refused_the_engine_sees_nothing() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, two_images(&rig, 1).bytes(), &[]).await).await.unwrap();
    rig.engine.forget_calls();
    let beta = {
        let draft = two_images(&rig, 2).draft;
        rig.vendor.bundle_with(draft, |release| (release.seq, release.stream) = (2, "beta".into()))
    };
    let problem = last(host.import(&rig, beta.bytes(), &[]).await).await.unwrap_err();
    assert_eq!(problem.code, kedge_bundle::codes::STREAM);
    assert!(!rig.engine.calls().iter().any(|call| call == "load"), "{:?}", rig.engine.calls());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_a_bundle_that_turns_out_to_be_wrong_are_removed_again() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = two_images(&rig, 1);
    let mut bytes = bundle.bytes();
    // In the last layer, when the first image is complete.
    let at = bytes.len() - 2000;
    bytes[at] ^= 1;
    let problem = last(host.import(&rig, bytes, &[]).await).await.unwrap_err();
    assert_eq!(problem.code, kedge_bundle::codes::CONTENT);
    assert!(rig.engine.images().is_empty(), "{:?}", rig.engine.images());
    assert!(names(&rig.folder.path().join("content/blobs")).is_empty());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_broken_off_is_gone_on_with() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = two_images(&rig, 1);
    let bytes = bundle.bytes();
    let broken = Problem::new(&crate::codes::UNREADABLE, "the client is gone");
    let chunks = [Ok(Bytes::copy_from_slice(&bytes[..bytes.len() - 2000])), Err(broken)];
    let options =
        ImportOptions { root_sha256: Some(rig.vendor.fingerprint().hex()), ..ImportOptions::default() };
    let progress = host.host.import(options, Box::pin(futures_util::stream::iter(chunks))).await;
    assert!(last(progress).await.unwrap_err().code.retry);
    assert_eq!(rig.engine.images().len(), 1, "the one that was whole");
    last(host.import(&rig, bytes, &[]).await).await.unwrap();
    assert_eq!((rig.engine.loads().len(), rig.engine.images().len()), (2, 2));
    assert_eq!(stored(&rig, &bundle), (0, 0));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_what_nobody_goes_back_to_and_no_container_uses() {
    let rig = Rig::new();
    let host = rig.start().await;
    for seq in 1..=4 {
        last(host.import(&rig, two_images(&rig, seq).bytes(), &[]).await).await.unwrap();
    }
    let config =
        |seq: u64, place: usize| two_images(&rig, seq).draft.content.images[place].config.to_string();
    // Somebody else runs something from the first release's image.
    let own = crate::engine::Container {
        id: "x".into(),
        name: "theirs".into(),
        image_id: config(1, 0),
        ..Default::default()
    };
    rig.engine.put_container(own);
    let volumes = rig.engine.volumes().len();
    let all = rig.engine.images().len();
    let would = host.host.collect_garbage(true, "me").await.unwrap();
    assert_eq!((would.images.len(), would.kept.len(), rig.engine.images().len()), (3, 1, all), "{would:?}");
    assert_eq!(would.kept[0].id, config(1, 0));
    let did = host.host.collect_garbage(false, "me").await.unwrap();
    assert_eq!(did.images.len(), 3);
    let left: Vec<String> = rig.engine.images().into_iter().map(|image| image.id).collect();
    for (seq, place, stays) in
        [(1, 0, true), (1, 1, false), (2, 0, false), (3, 0, true), (3, 1, true), (4, 1, true)]
    {
        assert_eq!(left.contains(&config(seq, place)), stays, "image {place} of release {seq}");
    }
    assert_eq!(rig.engine.volumes().len(), volumes);
    assert!(host.host.collect_garbage(false, "me").await.unwrap().images.is_empty());
    host.stop().await;
}
