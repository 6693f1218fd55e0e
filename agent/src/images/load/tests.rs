//! What is sent to the engine and when, against the fake one; the real ones have their own tests.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Mutex;

use kedge_bundle::assemble::{ImageInput, LayerInput, Source, plain_layer};
use kedge_bundle::layout::blob_path;
use kedge_bundle::testing::{Vendor, file, product, tar_of};

use super::*;
use crate::engine::fake::Fake;

/// Blobs in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<Digest, Vec<u8>>>);

impl Blobs for Memory {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send>> {
        let all = self.0.lock().unwrap();
        let bytes = all.get(digest).ok_or_else(|| io::Error::other(format!("{digest} is not here")))?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }

    fn forget(&self, digest: &Digest) {
        self.0.lock().unwrap().remove(digest);
    }
}

fn zstd_layer(plain: &[u8]) -> LayerInput {
    let stored = zstd::encode_all(plain, 3).unwrap();
    LayerInput {
        media_type: "application/vnd.oci.image.layer.v1.tar+zstd".into(),
        digest: Digest::of(&stored),
        size: stored.len() as u64,
        unpacked: plain.len() as u64,
        source: Source::Bytes(stored),
    }
}

fn image_of(reference: &str, plain: &[Vec<u8>], layers: Vec<LayerInput>) -> ImageInput {
    let diff_ids: Vec<_> = plain.iter().map(|layer| Digest::of(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    ImageInput::new(reference, config.to_string().into_bytes(), layers)
}

/// An image of plain layers, by their names.
fn plain(reference: &str, layers: &[&str]) -> ImageInput {
    let plain: Vec<_> = layers.iter().map(|name| tar_of(name, 0)).collect();
    image_of(reference, &plain, plain.iter().cloned().map(plain_layer).collect())
}

struct Rig {
    fake: Fake,
    engine: Arc<dyn Engine>,
    images: Vec<Image>,
    memory: Arc<Memory>,
}

impl Rig {
    fn new(store: ImageStore, images: Vec<ImageInput>) -> Self {
        let fake = Fake::new();
        fake.set_store(store);
        let mut rig =
            Self { engine: Arc::new(fake.clone()), fake, images: Vec::new(), memory: Arc::default() };
        rig.next(images);
        rig
    }

    /// The next release: other images, the same engine.
    fn next(&mut self, images: Vec<ImageInput>) {
        let compose = file("compose.yaml", b"services:\n  web:\n    image: one\n");
        let draft = kedge_bundle::assemble::assemble(&product(1), vec![compose], images).unwrap();
        let bundle = Vendor::new("load").bundle_with(draft, |_| {});
        self.images = bundle.draft.content.images.clone();
        let blobs = bundle.draft.blobs.iter().map(|(blob, _)| blob.digest);
        let all = blobs.map(|digest| (digest, bundle.blob(&digest).unwrap()));
        self.memory.0.lock().unwrap().extend(all);
    }

    async fn ensure(&self) -> Result<BTreeMap<String, PlacedImage>> {
        let info = self.fake.info().await.unwrap();
        let blobs: Arc<dyn Blobs> = self.memory.clone();
        let silent: Progress = Arc::new(|_, _| {});
        ensure(&self.engine, &info, &self.images, &blobs, &silent).await
    }

    /// Feeds the layers as a bundle that is read does; `corrupt` is one that turns out to be wrong.
    async fn stream(&self, corrupt: Option<Digest>) -> std::result::Result<Vec<String>, Vec<String>> {
        let info = self.fake.info().await.unwrap();
        let blobs: Arc<dyn Blobs> = self.memory.clone();
        let mut streamed = stream(&self.engine, &info, &self.images, &blobs).await.unwrap();
        let memory = Arc::clone(&self.memory);
        let layers: BTreeSet<_> = self.images.iter().flat_map(|i| &i.layers).map(|l| l.digest).collect();
        tokio::task::spawn_blocking(move || {
            for digest in layers {
                if !streamed.loading.needs(&digest) {
                    continue;
                }
                let bytes = memory.0.lock().unwrap()[&digest].clone();
                streamed.loading.layer(&digest, bytes.len() as u64).unwrap();
                for piece in bytes.chunks(100) {
                    streamed.loading.bytes(bytes::Bytes::copy_from_slice(piece)).unwrap();
                }
                if corrupt == Some(digest) {
                    return Err(streamed.loading.break_off());
                }
                streamed.loading.end(&digest).unwrap();
            }
            streamed.loading.finish().map_err(|(error, _)| panic!("{error}"))
        })
        .await
        .unwrap()
    }

    /// Layers that were sent, with each completed archive.
    fn sent(&self) -> Vec<Vec<Digest>> {
        let layers: BTreeSet<_> = self.images.iter().flat_map(|i| &i.layers).map(|l| l.digest).collect();
        let of = |names: BTreeSet<String>| {
            layers.iter().filter(|digest| names.contains(&blob_path(digest))).copied().collect()
        };
        self.fake.loads().into_iter().map(of).collect()
    }
}

const STORES: [ImageStore; 2] = [ImageStore::Classic, ImageStore::Containerd];

#[tokio::test(flavor = "multi_thread")]
async fn every_layer_is_sent_once_however_it_comes() {
    for store in STORES {
        for streamed in [false, true] {
            let images = vec![plain("one", &["base", "a"]), plain("shop/two:1", &["base", "b", "c"])];
            let rig = Rig::new(store, images);
            if streamed {
                let names = rig.stream(None).await.unwrap();
                assert_eq!(names.len(), 2, "{names:?}");
                assert!(names.iter().all(|name| name.starts_with("kedge.local/")), "{names:?}");
            }
            let placed = rig.ensure().await.unwrap();
            assert_eq!(placed["one"].id, id(&rig.images[0], store));
            let all: Vec<_> = rig.sent().concat();
            assert_eq!((all.len(), rig.sent().len()), (4, 2), "{store:?} streamed: {streamed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_one_of_ten_layers_sends_one() {
    let names: Vec<String> = (0..10).map(|n| format!("layer{n}")).collect();
    let before: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut after = before.clone();
    after[9] = "changed";
    for store in STORES {
        for streamed in [false, true] {
            let mut rig = Rig::new(store, vec![plain("one", &before)]);
            rig.ensure().await.unwrap();
            rig.next(vec![plain("one", &after)]);
            if streamed {
                rig.stream(None).await.unwrap();
            }
            rig.ensure().await.unwrap();
            let sent = rig.sent();
            assert_eq!(sent[1], [Digest::of(&tar_of("changed", 0))], "{store:?} streamed: {streamed}");
            assert_eq!(sent.len(), 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_image_with_a_wrong_layer_the_engine_takes_nothing() {
    for store in STORES {
        let rig = Rig::new(store, vec![plain("one", &["a", "b", "c"])]);
        let last = rig.images[0].layers.iter().map(|layer| layer.digest).max();
        assert_eq!(rig.stream(last).await.unwrap_err(), Vec::<String>::new());
        assert!(rig.fake.images().is_empty() && rig.sent().is_empty(), "{store:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_relies_on_a_wrong_one_is_not_taken_either() {
    let rig = Rig::new(ImageStore::Classic, vec![plain("one", &["a", "b"]), plain("two", &["a"])]);
    assert_eq!(rig.stream(Some(rig.images[0].layers[1].digest)).await.unwrap_err(), Vec::<String>::new());
    assert!(rig.fake.images().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_engine_gets_its_layers_unpacked_from_the_store() {
    let content = vec![7_u8; 100_000];
    let image = image_of("one", std::slice::from_ref(&content), vec![zstd_layer(&content)]);
    let rig = Rig::new(ImageStore::Classic, vec![image, plain("two", &["a"])]);
    rig.stream(None).await.unwrap();
    assert_eq!(rig.fake.images().len(), 1, "that one is not streamed");
    rig.ensure().await.unwrap();
    assert_eq!(rig.fake.images().len(), 2, "and the engine has checked what it unpacked");
    assert!(!reads_zstd("20.10.24+dfsg1") && reads_zstd("26.1.5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_there_is_only_tagged() {
    let rig = Rig::new(ImageStore::Classic, vec![plain("one", &["a"])]);
    let image = &rig.images[0];
    let diff_ids = image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let known = crate::engine::types::Image { id: image.config.to_string(), diff_ids, ..Default::default() };
    rig.fake.put_image(known);
    let placed = rig.ensure().await.unwrap();
    assert_eq!(placed["one"].id, image.config.to_string());
    assert_eq!(rig.fake.changes().len(), 1, "{:?}", rig.fake.changes());
    rig.ensure().await.unwrap();
    assert_eq!(rig.fake.changes().len(), 1, "and only once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_other_layers_than_signed_is_refused() {
    let rig = Rig::new(ImageStore::Classic, vec![plain("one", &["a"])]);
    rig.fake.put_image(crate::engine::types::Image {
        id: rig.images[0].config.to_string(),
        diff_ids: vec!["sha256:other".into()],
        ..Default::default()
    });
    assert_eq!(rig.ensure().await.unwrap_err().kind, Kind::WrongImage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_blob_is_named_and_a_damaged_one_let_go_of() {
    let rig = Rig::new(ImageStore::Classic, vec![plain("one", &["a"])]);
    let layer = rig.images[0].layers[0].digest;
    rig.memory.0.lock().unwrap().get_mut(&layer).unwrap()[700] ^= 1;
    let error = rig.ensure().await.unwrap_err();
    assert_eq!(error.kind, Kind::Blob);
    assert!(error.cause.contains(&layer.to_string()), "{error}");
    assert!(rig.fake.images().is_empty() && !rig.memory.0.lock().unwrap().contains_key(&layer));
    let error = rig.ensure().await.unwrap_err();
    assert!(error.kind == Kind::Blob && error.cause.contains("is not here"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_the_engine_only_seemed_to_have_are_sent_after_all() {
    let mut rig = Rig::new(ImageStore::Containerd, vec![plain("one", &["a", "b"])]);
    rig.ensure().await.unwrap();
    rig.fake.lose_layers();
    rig.next(vec![plain("one", &["a", "c"])]);
    rig.ensure().await.unwrap();
    assert_eq!(rig.sent().last().unwrap().len(), 2);
}

#[test]
fn private_names_are_acceptable_to_the_engine() {
    for (reference, repository) in [
        ("nginx:1", "kedge.local/nginx"),
        ("reg.example:5000/a/My_App.web:2", "kedge.local/y-pp-web"),
        ("@sha256:00", "kedge.local/image"),
        ("a/___", "kedge.local/image"),
    ] {
        let image = Rig::new(ImageStore::Classic, vec![plain(reference, &[])]).images.remove(0);
        let (name, tag) = private_name(&image);
        assert_eq!((name.as_str(), tag.len()), (repository, 16), "{reference}");
    }
}
