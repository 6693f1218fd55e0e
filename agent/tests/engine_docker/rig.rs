//! A project of the test's own, images made of busybox, and an end to all of it.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use kedge::engine::docker::Docker;
use kedge::engine::observe::observe;
use kedge::engine::types::{EngineInfo, Filter};
use kedge::engine::{Engine, EventHub};
use kedge::images::load::{Blobs, Progress, ensure};
use kedge::plan::desired::{HostFile, PlacedImage, Placement};
use kedge::plan::{Desired, Memory, Plan, Policy, plan};
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Compression, Image, Layer, Platform, media};
use kedge_bundle::tar;
use kedge_compose::model::{Attachment, Network, Project, Service};

const SOCKET: &str = "/var/run/docker.sock";

/// Blobs in memory.
#[derive(Clone, Default)]
pub(crate) struct Store(pub(crate) BTreeMap<Digest, Vec<u8>>);

impl Store {
    pub(crate) fn put(&mut self, bytes: Vec<u8>) -> (Digest, u64) {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.0.insert(digest, bytes);
        (digest, size)
    }
}

impl Blobs for Store {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn io::Read + Send>> {
        let bytes = self.0.get(digest).ok_or_else(|| io::Error::other("no such blob"))?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }

    fn forget(&self, _: &Digest) {}
}

/// A layer with one file.
fn layer(path: &str, content: &[u8], mode: &[u8; 7]) -> Vec<u8> {
    let mut header = tar::header(path, content.len() as u64);
    header[100..107].copy_from_slice(mode);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content);
    tar.resize(tar.len() + tar::padding(content.len() as u64) + 2 * tar::BLOCK, 0);
    tar
}

/// A project of one test.
pub(crate) struct Rig {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) hub: EventHub,
    pub(crate) info: EngineInfo,
    pub(crate) name: String,
    pub(crate) store: Store,
    busybox: Vec<u8>,
}

impl Rig {
    /// `None`, with a message, where the tests cannot run.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let engine: Arc<dyn Engine> = Arc::new(Docker::at(SOCKET));
        let info = match engine.info().await {
            Ok(info) => info,
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let Some(busybox) =
            ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok())
        else {
            eprintln!("skipped: there is no static busybox on this machine (apt-get install busybox-static)");
            return None;
        };
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() % 1_000_000_000;
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kt-{test}-{}-{now}-{count}", std::process::id());
        let hub = EventHub::spawn(engine.clone());
        hub.up().wait_for(|up| *up).await.unwrap();
        Some(Self { engine, hub, info, name, store: Store::default(), busybox })
    }

    /// An image of busybox with one more file whose content is `version`.
    pub(crate) fn image(&mut self, version: &str) -> Image {
        let base = layer("bin/busybox", &self.busybox.clone(), b"0000755");
        // The project's name makes the image this test's own.
        let own = layer("etc/version", format!("{} {version}", self.name).as_bytes(), b"0000644");
        let diff_ids: Vec<String> = [&base, &own].iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": { "Cmd": ["/bin/busybox", "sleep", "600"], "Env": ["PATH=/bin", "FROM_IMAGE=1"], "StopSignal": "SIGKILL",
                "Labels": { "made-by": "kedge tests" } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        self.image_of(&format!("{}:{version}", self.name), config.to_string().into_bytes(), vec![base, own])
    }

    /// An image of these parts.
    pub(crate) fn image_of(&mut self, reference: &str, config: Vec<u8>, layers: Vec<Vec<u8>>) -> Image {
        let (config, config_size) = self.store.put(config);
        let layers: Vec<Layer> = layers
            .into_iter()
            .map(|bytes| {
                let (digest, size) = self.store.put(bytes);
                Layer { digest, size, diff_id: digest, compression: Compression::None }
            })
            .collect();
        let descriptor = |kind: &str, digest: &Digest, size: u64| serde_json::json!({ "mediaType": kind, "digest": digest.to_string(), "size": size });
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::MANIFEST,
            "config": descriptor(media::CONFIG, &config, config_size),
            "layers": layers.iter().map(|layer| descriptor(media::LAYER, &layer.digest, layer.size)).collect::<Vec<_>>(),
        });
        let (manifest, manifest_size) = self.store.put(manifest.to_string().into_bytes());
        Image {
            reference: reference.into(),
            platform: Platform { architecture: "amd64".into(), os: "linux".into(), variant: None },
            manifest,
            manifest_size,
            manifest_type: media::MANIFEST.into(),
            config,
            config_size,
            layers,
        }
    }

    /// Loads images and says how many bytes were sent.
    pub(crate) async fn load(
        &self,
        images: &[Image],
    ) -> (kedge::engine::Result<BTreeMap<String, PlacedImage>>, u64) {
        let blobs: Arc<dyn Blobs> = Arc::new(self.store.clone());
        let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let heard = sent.clone();
        let progress: Progress = Arc::new(move |bytes, _| heard.store(bytes, Ordering::Relaxed));
        let placed = ensure(&self.engine, &self.info, images, &blobs, &progress).await;
        (placed, sent.load(Ordering::Relaxed))
    }

    /// A project with a network and these services.
    pub(crate) fn project(&self, services: Vec<Service>) -> Project {
        let network = Network { name: format!("{}_default", self.name), ..Network::default() };
        let mut project = Project {
            name: self.name.clone(),
            networks: [("default".to_owned(), network)].into(),
            ..Project::default()
        };
        for mut service in services {
            service.networks.insert("default".into(), Attachment::default());
            service.replicas = 1;
            project.services.insert(service.name.clone(), service);
        }
        project
    }

    pub(crate) fn desired(&self, project: &Project, images: &BTreeMap<String, PlacedImage>) -> Desired {
        let file = |used: &kedge::plan::desired::FileUse<'_>| match used {
            kedge::plan::desired::FileUse::Bind { path, .. } => {
                Some(HostFile { path: (*path).to_owned(), ..HostFile::default() })
            }
            _ => None,
        };
        let placement = Placement {
            deployment: &self.name,
            generation: 1,
            images,
            file: &file,
            relabel: false,
            working_dir: "/",
            config_files: &[],
            labels: &BTreeMap::new(),
        };
        Desired::compile(project, &placement).unwrap()
    }

    pub(crate) async fn plan(&self, desired: &Desired) -> Plan {
        let observed = observe(self.engine.as_ref(), &desired.scope()).await.unwrap();
        plan(desired, &observed, &Memory::default(), Policy::default())
    }

    pub(crate) async fn apply(&self, plan: &Plan) {
        let cancel = tokio_util::sync::CancellationToken::new();
        let options = kedge::apply::Options::default();
        let outcome = kedge::apply::apply(&self.engine, &self.hub, plan, options, &cancel, &mut |_| {}).await;
        assert!(outcome.is_done(), "{:?}", outcome.failures().map(ToString::to_string).collect::<Vec<_>>());
    }
}

/// Within this time, or the test fails rather than hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("took longer than a minute")
}

impl Drop for Rig {
    fn drop(&mut self) {
        let name = self.name.clone();
        // Dropping cannot wait; a thread with a runtime of its own can.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clean(&Docker::at(SOCKET), &name));
        });
        let _ = cleaner.join();
    }
}

async fn clean(engine: &Docker, name: &str) {
    for filter in [Filter::deployment(name), Filter::project(name)] {
        for container in engine.list_containers(&filter).await.unwrap_or_default() {
            let inspected = engine.inspect_container(&container.id).await;
            let _ = engine.remove_container(&container.id).await;
            // Anonymous volumes carry no label that would tell whose they are.
            let mounts = inspected.ok().and_then(|container| container.detail).map(|detail| detail.mounts);
            let volumes = mounts.unwrap_or_default().into_iter().filter(|mount| mount.kind == "volume");
            for name in volumes.filter_map(|mount| mount.name) {
                let _ = engine.remove_volume(&name).await;
            }
        }
        for network in engine.list_networks(&filter).await.unwrap_or_default() {
            let _ = engine.remove_network(&network.id).await;
        }
        for volume in engine.list_volumes(&filter).await.unwrap_or_default() {
            let _ = engine.remove_volume(&volume.name).await;
        }
    }
    for image in engine.list_images().await.unwrap_or_default() {
        for tag in image.tags.iter().filter(|tag| tag.contains(name)) {
            let _ = engine.remove_image(tag).await;
        }
    }
}
