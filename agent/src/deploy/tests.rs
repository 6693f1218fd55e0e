//! The life of a deployment against the engine in memory: what a vendor and a customer would see.

mod adopted;
mod crashed;
mod drift;
mod epochs;
mod fetched;
mod importing;
mod licence;
mod offered;
mod paused;
mod started;
mod updates;
mod witness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kedge_bundle::digest::Digest;
use kedge_bundle::product::Gate;
use kedge_bundle::testing::{self, TestBundle, Vendor};
use kedge_proto::v1;
use tokio::sync::{mpsc, watch};

use crate::audit;
use crate::clock::Clock;
use crate::codes;
use crate::config::Config;
use crate::engine::fake::{Behaviour, Fake};
use crate::engine::types::{Action, Image, ImageConfig, State};
use crate::engine::{Engine, EventHub, Signal};
use crate::guard::Rules;
use crate::health::{Board, Journal, Outbox};
use crate::host::{Host, ImportOptions, Progress};
use crate::images::Content;
use crate::problem::Problem;
use crate::store::{DeploymentRecord, Phase, Store, TrustRecord};
use crate::world::{Hooks, World};

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> jiff::Timestamp {
        testing::now()
    }
}

/// Remembers the phases and never comes back from the one where the host is to "crash".
#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<Phase>>,
    crash_in: Mutex<Option<Phase>>,
    crashed: tokio::sync::Notify,
    /// What the old generation starts on is in order again once the new one is being rolled back.
    heal: Mutex<Option<Fake>>,
    /// Nothing is applied before the supervisor has had a look at this.
    look: Mutex<Option<Fake>>,
}

#[tonic::async_trait]
impl Hooks for Recorder {
    async fn entered(&self, _: &str, phase: Phase) {
        self.seen.lock().unwrap().push(phase);
        if let (Phase::RollingBack, Some(engine)) = (phase, self.heal.lock().unwrap().as_ref()) {
            engine.behave("web", Behaviour::Run);
        }
        let look = self.look.lock().unwrap().clone().filter(|_| phase == Phase::Applying);
        if let Some(engine) = look {
            engine.forget_calls();
            while !engine.calls().iter().any(|call| call.starts_with("list networks")) {
                tokio::task::yield_now().await;
            }
        }
        if *self.crash_in.lock().unwrap() == Some(phase) {
            self.crashed.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// One host that can be restarted on the same folder and engine.
struct Rig {
    folder: tempfile::TempDir,
    vendor: Vendor,
    engine: Fake,
    hooks: Arc<Recorder>,
    /// What must stay free on the disks, where it is not the usual.
    reserve: Option<u64>,
}

struct Running {
    host: Host,
    world: Arc<World>,
    kind: watch::Sender<Option<crate::engine::EngineInfo>>,
}

impl Rig {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            vendor: Vendor::new("deploy"),
            engine: Fake::new(),
            hooks: Arc::new(Recorder::default()),
            reserve: None,
        }
    }

    async fn start(&self) -> Running {
        let mut config = Config { state_dir: self.folder.path().to_owned(), ..Config::default() };
        config.limits.reserve_bytes = self.reserve.unwrap_or(config.limits.reserve_bytes);
        let store = self.reopened(&config.state_dir.join("store")).await;
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let (kind, engine_kind) = watch::channel(self.engine.info().await.ok());
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let world = Arc::new(World {
            rules: Rules::default(),
            content: Content::open(config.state_dir.join("content")).unwrap(),
            events: EventHub::spawn(Arc::clone(&engine)),
            engine,
            engine_kind,
            audit: Arc::new(audit::Log::open(&config.state_dir.join("audit.jsonl")).unwrap()),
            time: crate::timekeeper::Timekeeper::open(&store, Arc::clone(&clock)).unwrap(),
            clock: Arc::clone(&clock),
            board: Board::new(v1::HostStatus::default()),
            pulses: crate::watchdog::Registry::default(),
            journal: Arc::new(Journal::open(&store).unwrap()),
            courier: watch::Sender::new(None),
            trust: tokio::sync::Mutex::new(store.get::<TrustRecord>("").unwrap().map(|r| r.0)),
            fresh: watch::Sender::new(None),
            licensing: tokio::sync::Mutex::new(()),
            intake: tokio::sync::Mutex::new(()),
            hooks: Arc::clone(&self.hooks) as Arc<dyn Hooks>,
            store: store.clone(),
            config,
        });
        let outbox = Arc::new(Outbox::open(store, clock, 100).unwrap());
        let host = Host::new(Arc::clone(&world), outbox).unwrap();
        Running { host, world, kind }
    }

    /// The store of a host that was just aborted is free once its tasks have been dropped.
    async fn reopened(&self, folder: &std::path::Path) -> Store {
        loop {
            match Store::open(folder) {
                Ok(store) => return store,
                Err(problem) if problem.message.contains("lock") => tokio::task::yield_now().await,
                Err(problem) => panic!("{problem}"),
            }
        }
    }

    /// Release number `seq`, whose one service is called `web`; its image is in the engine already.
    fn bundle(&self, seq: u64, change: impl FnOnce(&mut kedge_bundle::product::Product)) -> TestBundle {
        let compose = format!(
            "services:\n  web:\n    image: example/hello:1\n    environment: {{V: '{seq}', P: '${{PORT:-1}}'}}\n    \
             healthcheck: {{test: [CMD, check]}}\n    volumes: [data:/data]\nvolumes: {{data: {{}}}}\n"
        );
        self.bundle_of(seq, &compose, change)
    }

    fn bundle_of(
        &self,
        seq: u64,
        compose: &str,
        change: impl FnOnce(&mut kedge_bundle::product::Product),
    ) -> TestBundle {
        let mut product = testing::product(seq);
        product.gate = Gate { timeout_seconds: 30, soak_seconds: 1 };
        change(&mut product);
        let files = vec![testing::file("compose.yaml", compose.as_bytes())];
        let layers = [testing::tar_of("hello", seq)];
        let images = vec![testing::image("example/hello:1", &layers)];
        let draft = kedge_bundle::assemble::assemble(&product, files, images).unwrap();
        let bundle = self.vendor.bundle_with(draft, |release| release.seq = seq);
        let config = bundle.draft.content.images[0].config;
        self.engine.put_image(Image {
            id: config.to_string(),
            diff_ids: layers.iter().map(|layer| Digest::of(layer).to_string()).collect(),
            config: ImageConfig::default(),
            ..Image::default()
        });
        bundle
    }
}

impl Running {
    async fn import(
        &self,
        rig: &Rig,
        bytes: Vec<u8>,
        parameters: &[(&str, &str)],
    ) -> mpsc::Receiver<Progress> {
        let options = ImportOptions {
            parameters: parameters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            root_sha256: Some(rig.vendor.fingerprint().hex()),
            ..ImportOptions::default()
        };
        self.import_with(options, bytes).await
    }

    async fn import_with(&self, options: ImportOptions, bytes: Vec<u8>) -> mpsc::Receiver<Progress> {
        let chunks: Vec<Result<Bytes, Problem>> =
            bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        self.host.import(options, Box::pin(futures_util::stream::iter(chunks))).await
    }

    fn record(&self) -> DeploymentRecord {
        self.world.store.get("hello").unwrap().unwrap()
    }

    async fn stop(self) {
        self.host.drain().await;
    }
}

/// The last word of an operation.
async fn last(mut progress: mpsc::Receiver<Progress>) -> Result<String, Problem> {
    loop {
        match progress.recv().await.expect("an operation ends with Done or Failed") {
            Progress::Step { .. } => {}
            Progress::Done { message, .. } | Progress::Would { message, .. } => return Ok(message),
            Progress::Failed(problem) => return Err(problem),
        }
    }
}

fn version_running(rig: &Rig) -> Option<String> {
    let containers = rig.engine.containers();
    let running = containers.iter().find(|c| c.name == "hello-web-1" && c.state == State::Running)?;
    running.detail.as_ref()?.spec.env.0.get("V")?.clone()
}

#[tokio::test]
async fn a_bundle_from_a_file_is_verified_deployed_and_reported_healthy() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = rig.bundle(1, |_| {});
    last(host.import(&rig, bundle.bytes(), &[]).await).await.unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("1"));
    let record = host.record();
    assert_eq!((record.active, record.operation), (Some(1), None));
    let mut status = host.host.status();
    let healthy = status
        .wait_for(|s| s.deployments.first().is_some_and(|d| d.health() == v1::Health::Healthy))
        .await
        .unwrap();
    assert_eq!(healthy.deployments[0].active.as_ref().unwrap().version, "1.0.1");
    let phases = rig.hooks.seen.lock().unwrap().clone();
    assert_eq!(phases.first(), Some(&Phase::Offered));
    assert_eq!(phases.last(), Some(&Phase::Gating));
}

#[tokio::test]
async fn an_update_replaces_what_runs_and_importing_it_again_does_nothing() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    last(host.import(&rig, rig.bundle(2, |_| {}).bytes(), &[]).await).await.unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("2"));
    assert_eq!((host.record().active, host.record().previous), (Some(2), Some(1)));
    rig.engine.forget_calls();
    let again = last(host.import(&rig, rig.bundle(2, |_| {}).bytes(), &[]).await).await.unwrap();
    assert!(again.contains("already"), "{again}");
    // Letting go of the first generation's container may still be under way; nothing else happens.
    let changes = rig.engine.changes();
    assert!(changes.iter().all(|change| change.contains(".kept-")), "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn the_gate_waits_for_a_service_that_takes_its_time() {
    let rig = Rig::new();
    let host = rig.start().await;
    rig.engine.behave("web", Behaviour::HealthyAfter(Duration::from_secs(5)));
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    assert_eq!(host.record().active, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_does_not_become_healthy_is_rolled_back_and_quarantined() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    *rig.hooks.heal.lock().unwrap() = Some(rig.engine.clone());
    let broken = rig.bundle(2, |_| {});
    let progress = host.import(&rig, broken.bytes(), &[]).await;
    let problem = last(progress).await.unwrap_err();
    assert_eq!(problem.code, codes::ROLLED_BACK, "{problem}");
    let record = host.record();
    assert_eq!((record.active, record.operation), (Some(1), None));
    assert_eq!(version_running(&rig).as_deref(), Some("1"));
    let refused = host.world.store.scan::<crate::store::RefusedRecord>("hello/").unwrap();
    assert_eq!(refused[0].release.digest, broken.digest().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_fails_is_left_for_people_to_look_at() {
    let rig = Rig::new();
    let host = rig.start().await;
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    let problem = last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap_err();
    assert_eq!(problem.code, codes::FAILED, "{problem}");
    assert_eq!(host.record().active, None);
    assert!(rig.engine.container("hello-web-1").is_some());
}

#[tokio::test]
async fn a_tampered_bundle_changes_nothing_and_is_audited() {
    let rig = Rig::new();
    let host = rig.start().await;
    let mut bytes = rig.bundle(1, |_| {}).bytes();
    let middle = bytes.len() - 1500;
    bytes[middle] ^= 1;
    let before = tree(&rig.folder.path().join("content"));
    let problem = last(host.import(&rig, bytes, &[]).await).await.unwrap_err();
    assert_eq!(problem.code.exit, kedge_bundle::codes::exit::UNTRUSTED, "{problem}");
    assert_eq!(tree(&rig.folder.path().join("content")), before);
    assert_eq!(rig.engine.changes(), Vec::<String>::new());
    assert!(host.world.store.get::<TrustRecord>("").unwrap().is_none());
    let log = std::fs::read_to_string(rig.folder.path().join("audit.jsonl")).unwrap();
    assert!(log.contains(problem.code.id) && log.contains("refused"), "{log}");
}

fn tree(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn a_missing_parameter_is_named_and_nothing_runs() {
    let rig = Rig::new();
    let host = rig.start().await;
    let with_port = |product: &mut kedge_bundle::product::Product| {
        let port =
            serde_json::json!({"type": "integer", "required": true, "description": "where it listens"});
        product.parameters = BTreeMap::from([("PORT".to_owned(), serde_json::from_value(port).unwrap())]);
    };
    let bundle = rig.bundle(1, with_port);
    let problem = last(host.import(&rig, bundle.bytes(), &[]).await).await.unwrap_err();
    assert_eq!(problem.code.exit, kedge_bundle::codes::exit::PARAMETER, "{problem}");
    assert!(problem.message.contains("PORT") && problem.message.contains("where it listens"), "{problem}");
    assert!(rig.engine.containers().is_empty());
    assert!(
        host.world.store.scan::<DeploymentRecord>("").unwrap().is_empty(),
        "no deployment is left behind"
    );
    last(host.import(&rig, bundle.bytes(), &[("PORT", "81")]).await).await.unwrap();
    assert_eq!(host.record().parameters["PORT"], "81");
}

#[tokio::test]
async fn a_secret_parameter_reaches_no_record_and_may_not_be_filled_into_a_compose_file() {
    let rig = Rig::new();
    let host = rig.start().await;
    let secret_port = |product: &mut kedge_bundle::product::Product| {
        let port = serde_json::json!({"type": "secret"});
        product.parameters = BTreeMap::from([("PORT".to_owned(), serde_json::from_value(port).unwrap())]);
    };
    let bundle = rig.bundle(1, secret_port).bytes();
    let problem = last(host.import(&rig, bundle, &[("PORT", "hunter2")]).await).await.unwrap_err();
    assert!(problem.message.contains("PORT") && !problem.message.contains("hunter2"), "{problem}");
    for file in tree(rig.folder.path()).into_iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"hunter2"), "{}", file.display());
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_rolled_back_leaves_the_running_one_its_secret() {
    let rig = Rig::new();
    let host = rig.start().await;
    let compose = |seq: u64| {
        format!(
            "services:\n  web:\n    image: example/hello:1\n    environment: {{V: '{seq}'}}\n    \
             healthcheck: {{test: [CMD, check]}}\n    secrets: [pw]\nsecrets: {{pw: {{environment: PW}}}}\n"
        )
    };
    let with_secret = |product: &mut kedge_bundle::product::Product| {
        let secret = serde_json::json!({"type": "secret", "required": true});
        product.parameters = BTreeMap::from([("PW".to_owned(), serde_json::from_value(secret).unwrap())]);
    };
    let mounted = || {
        let web = rig.engine.container("hello-web-1").unwrap();
        let source = web.detail.unwrap().spec.mounts[0].source.clone().unwrap();
        (web.id, std::fs::read_to_string(source).unwrap())
    };
    let first = rig.bundle_of(1, &compose(1), with_secret).bytes();
    last(host.import(&rig, first, &[("PW", "first")]).await).await.unwrap();
    let before = mounted();
    assert_eq!(before.1, "first");
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    *rig.hooks.heal.lock().unwrap() = Some(rig.engine.clone());
    let second = rig.bundle_of(2, &compose(2), with_secret).bytes();
    last(host.import(&rig, second, &[("PW", "second")]).await).await.unwrap_err();
    assert_eq!(mounted(), before, "the very container runs again");
}

#[tokio::test]
async fn a_release_that_this_host_could_not_run_forbids_no_older_one() {
    let rig = Rig::new();
    let host = rig.start().await;
    let with_port = |product: &mut kedge_bundle::product::Product| {
        let port = serde_json::json!({"type": "integer", "required": true});
        product.parameters = BTreeMap::from([("PORT".to_owned(), serde_json::from_value(port).unwrap())]);
    };
    last(host.import(&rig, rig.bundle(5, with_port).bytes(), &[]).await).await.unwrap_err();
    last(host.import(&rig, rig.bundle(4, |_| {}).bytes(), &[]).await).await.unwrap();
    let problem = last(host.import(&rig, rig.bundle(3, |_| {}).bytes(), &[]).await).await.unwrap_err();
    assert_eq!(problem.code.exit, kedge_bundle::codes::exit::OLDER, "{problem}");
}

#[tokio::test]
async fn a_stick_does_not_move_a_deployment_to_another_stream() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    let beta = rig.bundle(2, |_| {}).resigned(
        kedge_bundle::roles::Role::Release,
        &[&rig.vendor.release_key],
        |release| release.stream = "beta".into(),
    );
    let problem = last(host.import(&rig, beta.bytes(), &[]).await).await.unwrap_err();
    assert_eq!(problem.code.exit, kedge_bundle::codes::exit::AUDIENCE, "{problem}");
    assert_eq!(version_running(&rig).as_deref(), Some("1"));
}

#[tokio::test]
async fn removing_twice_says_that_there_is_nothing_to_remove() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    let (one, two) = (host.host.remove("hello", false, "").await, host.host.remove("hello", false, "").await);
    let ends = [last(one).await, last(two).await];
    let good = |end: &Result<String, Problem>| {
        end.as_ref().map_or_else(|problem| problem.code == codes::NO_DEPLOYMENT, |_| true)
    };
    assert!(ends.iter().all(good) && ends.iter().any(Result::is_ok), "{ends:?}");
    let third = last(host.host.remove("hello", false, "").await).await.unwrap_err();
    assert_eq!(third.code, codes::NO_DEPLOYMENT);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let rig = Rig::new();
    let host = rig.start().await;
    let options = ImportOptions {
        dry_run: true,
        root_sha256: Some(rig.vendor.fingerprint().hex()),
        ..ImportOptions::default()
    };
    let before = tree(rig.folder.path());
    let mut progress = host.import_with(options, rig.bundle(1, |_| {}).bytes()).await;
    let diff = loop {
        match progress.recv().await.unwrap() {
            Progress::Would { diff, .. } => break diff,
            Progress::Step { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((diff.services[0].service.as_str(), diff.services[0].action.as_str()), ("web", "create"));
    assert_eq!(diff.to.as_ref().map(|to| to.seq), Some(1));
    assert_eq!(tree(rig.folder.path()), before);
    assert_eq!(rig.engine.changes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_removal_keeps_volumes_and_says_so_unless_told_otherwise() {
    for volumes in [false, true] {
        let rig = Rig::new();
        let host = rig.start().await;
        last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
        let mut progress = host.host.remove("hello", volumes, "").await;
        let kept = loop {
            match progress.recv().await.unwrap() {
                Progress::Done { kept, .. } => break kept,
                Progress::Step { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(rig.engine.containers().is_empty());
        assert_eq!(rig.engine.volumes().len(), usize::from(!volumes));
        assert_eq!(kept.iter().any(|what| what.contains("hello_data")), !volumes, "{kept:?}");
        assert!(host.world.store.get::<DeploymentRecord>("hello").unwrap().is_none());
    }
}

#[tokio::test]
async fn a_killed_container_is_replaced_and_told() {
    let rig = Rig::new();
    let host = rig.start().await;
    last(host.import(&rig, rig.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    let (mut signals, mut news) = (host.world.events.subscribe(), host.world.journal.news());
    rig.engine.snatch("hello-web-1");
    loop {
        match signals.recv().await.unwrap() {
            Signal::Event(event) if event.action == Action::Start => break,
            _ => {}
        }
    }
    let told = |world: &World| {
        let events = world.store.scan::<crate::store::EventRecord>("").unwrap();
        events.iter().any(|record| {
            let bytes = hex::decode(&record.event).unwrap();
            let event: v1::Event = prost::Message::decode(&bytes[..]).unwrap();
            event.kind == "drift" && event.message.contains("hello-web-1")
        })
    };
    while !told(&host.world) {
        news.changed().await.unwrap();
    }
    assert_eq!(version_running(&rig).as_deref(), Some("1"));
}

#[tokio::test]
async fn asking_twice_with_one_id_does_once() {
    let rig = Rig::new();
    let host = rig.start().await;
    let options = ImportOptions {
        request_id: "same".into(),
        root_sha256: Some(rig.vendor.fingerprint().hex()),
        ..ImportOptions::default()
    };
    let bundle = rig.bundle(1, |_| {});
    last(host.import_with(options.clone(), bundle.bytes()).await).await.unwrap();
    let again = last(host.import_with(options, bundle.bytes()).await).await.unwrap();
    assert!(again.contains("carried out before"), "{again}");
}

#[tokio::test]
async fn a_host_without_a_root_or_with_another_refuses() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bytes = rig.bundle(1, |_| {}).bytes();
    let problem = last(host.import_with(ImportOptions::default(), bytes.clone()).await).await.unwrap_err();
    assert_eq!(problem.code, codes::NO_ROOT);
    last(host.import(&rig, bytes.clone(), &[]).await).await.unwrap();
    let other = ImportOptions { root_sha256: Some("0".repeat(64)), ..ImportOptions::default() };
    let problem = last(host.import_with(other, bytes).await).await.unwrap_err();
    assert_eq!(problem.code, codes::OTHER_ROOT);
}
