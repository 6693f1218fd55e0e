//! The archive and the decisions about it, against the fake engine; the real one has its own tests.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Mutex;

use futures_util::TryStreamExt;
use kedge_bundle::layout::{Compression, Layer, Platform, blob_path, media};
use kedge_bundle::tar;

use super::*;
use crate::engine::fake::Fake;
use crate::engine::types::Image as Known;

/// Blobs in memory.
#[derive(Default)]
struct Memory(BTreeMap<Digest, Vec<u8>>);

impl Memory {
    fn put(&mut self, bytes: &[u8]) -> (Digest, u64) {
        self.0.insert(Digest::of(bytes), bytes.to_vec());
        (Digest::of(bytes), bytes.len() as u64)
    }
}

impl Blobs for Memory {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send>> {
        let bytes = self.0.get(digest).ok_or_else(|| io::Error::other(format!("{digest} is not here")))?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

fn image(memory: &mut Memory, reference: &str, layers: &[(&[u8], Compression)]) -> Image {
    let (config, config_size) = memory.put(format!("config of {reference}").as_bytes());
    let (manifest, manifest_size) = memory.put(format!("manifest of {reference}").as_bytes());
    let mut make = |(plain, compression): &(&[u8], Compression)| {
        let stored = match compression {
            Compression::Zstd => zstd::encode_all(*plain, 3).unwrap(),
            _ => plain.to_vec(),
        };
        let (digest, size) = memory.put(&stored);
        Layer { digest, size, diff_id: Digest::of(plain), compression: *compression }
    };
    let layers = layers.iter().map(&mut make).collect();
    Image {
        reference: reference.into(),
        platform: Platform::default(),
        manifest,
        manifest_size,
        manifest_type: media::MANIFEST.into(),
        config,
        config_size,
        layers,
    }
}

fn silent() -> Progress {
    Arc::new(|_, _| {})
}

/// Names and contents of a made archive.
async fn unpack(
    images: &[&Image],
    store: ImageStore,
    known: &BTreeSet<Digest>,
    plain_only: bool,
    blobs: Memory,
) -> BTreeMap<String, Vec<u8>> {
    let entries = archive::entries(images, store, known, plain_only, &blobs).unwrap();
    let totals = Arc::new(Mutex::new((0, 0)));
    let heard = totals.clone();
    let progress: Progress = Arc::new(move |sent, total| *heard.lock().unwrap() = (sent, total));
    let (stream, fault) = archive::stream(entries, Arc::new(blobs), progress);
    let bytes: Vec<u8> = stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .unwrap();
    assert!(fault.take().is_none());
    assert_eq!(
        *totals.lock().unwrap(),
        (bytes.len() as u64, bytes.len() as u64),
        "the total was known beforehand"
    );
    let mut files = BTreeMap::new();
    let mut at = 0;
    while let Some(entry) = tar::parse(bytes[at..at + tar::BLOCK].try_into().unwrap()).unwrap() {
        at += tar::BLOCK;
        let size = entry.size as usize;
        files.insert(entry.name, bytes[at..at + size].to_vec());
        at += size + tar::padding(entry.size);
    }
    files
}

#[tokio::test]
async fn the_classic_archive_leaves_out_known_layers_and_repeats_none() {
    let mut memory = Memory::default();
    let base: (&[u8], Compression) = (b"base", Compression::None);
    let one = image(&mut memory, "shop/one:1", &[base, (b"one", Compression::None)]);
    let two = image(&mut memory, "two@sha256:00", &[base, (b"two", Compression::None)]);
    let known = BTreeSet::from([two.layers[1].digest]);
    let files = unpack(&[&one, &two], ImageStore::Classic, &known, false, memory).await;
    let names: BTreeSet<String> = files.keys().cloned().collect();
    let expected =
        [one.config, two.config, one.layers[0].digest, one.layers[1].digest].map(|digest| blob_path(&digest));
    assert_eq!(names, expected.into_iter().chain(["manifest.json".to_owned()]).collect());
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(manifest[1]["Layers"].as_array().unwrap().len(), 2, "the list is whole");
    let tag = manifest[0]["RepoTags"][0].as_str().unwrap();
    assert!(tag.starts_with("kedge.local/one:"), "{tag}");
}

#[tokio::test]
async fn the_oci_archive_names_manifests_for_containerd() {
    let mut memory = Memory::default();
    let one = image(&mut memory, "one", &[(b"layer", Compression::Gzip)]);
    let files = unpack(&[&one], ImageStore::Containerd, &BTreeSet::new(), false, memory).await;
    assert_eq!(files["oci-layout"], kedge_bundle::layout::OCI_LAYOUT);
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["manifests"][0]["digest"], one.manifest.to_string());
    let name = index["manifests"][0]["annotations"]["io.containerd.image.name"].as_str().unwrap();
    assert!(name.starts_with("kedge.local/one:"));
    assert_eq!(files.len(), 5);
}

#[tokio::test]
async fn an_old_engine_gets_its_layers_unpacked() {
    let mut memory = Memory::default();
    let plain = vec![7_u8; 100_000];
    let one = image(&mut memory, "one", &[(&plain, Compression::Zstd)]);
    let files = unpack(&[&one], ImageStore::Classic, &BTreeSet::new(), true, memory).await;
    assert_eq!(files[&blob_path(&one.layers[0].digest)], plain);
    assert!(!reads_zstd("20.10.24+dfsg1") && reads_zstd("26.1.5"));
}

#[tokio::test]
async fn an_image_that_is_there_is_only_tagged() {
    let mut memory = Memory::default();
    let one = image(&mut memory, "one", &[(b"layer", Compression::None)]);
    let fake = Fake::new();
    let diff_ids = one.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    fake.put_image(Known { id: one.config.to_string(), diff_ids, ..Known::default() });
    let info = fake.info().await.unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(Memory::default());
    let placed = ensure(&fake, &info, std::slice::from_ref(&one), &blobs, &silent()).await.unwrap();
    assert_eq!(placed["one"].id, one.config.to_string());
    assert!(!fake.changes().contains(&"load".to_owned()));
    assert_eq!(fake.changes().len(), 1, "{:?}", fake.changes());
    ensure(&fake, &info, &[one], &blobs, &silent()).await.unwrap();
    assert_eq!(fake.changes().len(), 1, "and only once");
}

#[tokio::test]
async fn an_image_with_other_layers_than_signed_is_refused() {
    let mut memory = Memory::default();
    let one = image(&mut memory, "one", &[(b"layer", Compression::None)]);
    let fake = Fake::new();
    fake.put_image(Known {
        id: one.config.to_string(),
        diff_ids: vec!["sha256:other".into()],
        ..Known::default()
    });
    let info = fake.info().await.unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(memory);
    let error = ensure(&fake, &info, &[one], &blobs, &silent()).await.unwrap_err();
    assert_eq!(error.kind, Kind::WrongImage);
}

#[tokio::test]
async fn a_missing_blob_is_named() {
    let mut memory = Memory::default();
    let one = image(&mut memory, "one", &[(b"layer", Compression::None)]);
    let layer = one.layers[0].digest;
    memory.0.remove(&layer);
    let fake = Fake::new();
    let info = fake.info().await.unwrap();
    let blobs: Arc<dyn Blobs> = Arc::new(memory);
    let error = ensure(&fake, &info, &[one], &blobs, &silent()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Blob);
    assert!(error.cause.contains(&layer.to_string()), "{error}");
}

#[test]
fn private_names_are_acceptable_to_the_engine() {
    let mut memory = Memory::default();
    for (reference, repository) in [
        ("nginx:1", "kedge.local/nginx"),
        ("reg.example:5000/a/My_App.web:2", "kedge.local/y-pp-web"),
        ("@sha256:00", "kedge.local/image"),
        ("a/___", "kedge.local/image"),
    ] {
        let image = image(&mut memory, reference, &[]);
        let (name, tag) = private_name(&image);
        assert_eq!((name.as_str(), tag.len()), (repository, 16), "{reference}");
    }
}
