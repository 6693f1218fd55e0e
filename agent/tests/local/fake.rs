//! A daemon that remembers what it was asked, behind a real socket; and `kedge` run against it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use futures_util::StreamExt;
use kedge::codes;
use kedge::config::Config;
use kedge::host::{ByteStream, DeployOptions, ImportOptions, LogLine, LogOptions, Progress};
use kedge::local::{Operations, serve, socket::Socket};
use kedge::problem::Problem;
use kedge_proto::local::v1 as local;
use kedge_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};

/// A bundle of so many bytes is refused as unsigned.
pub(crate) const UNSIGNED_SIZE: usize = 13;

/// What it was asked, in words.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) status: watch::Sender<Arc<v1::HostStatus>>,
    /// Grows with everything asked or ended.
    pub(crate) asked: watch::Sender<Vec<String>>,
    /// Holds every operation before its end.
    pub(crate) hold: watch::Sender<bool>,
}

impl Fake {
    fn new() -> Self {
        let deployment = v1::DeploymentStatus {
            name: "shop".into(),
            product: "acme-shop".into(),
            phase: v1::Phase::Active.into(),
            health: v1::Health::Healthy.into(),
            ..v1::DeploymentStatus::default()
        };
        let status = v1::HostStatus {
            hostname: "test".into(),
            agent_version: "9.8.7".into(),
            deployments: vec![deployment],
            ..v1::HostStatus::default()
        };
        Self {
            status: watch::channel(Arc::new(status)).0,
            asked: watch::channel(Vec::new()).0,
            hold: watch::channel(false).0,
        }
    }

    fn note(&self, text: String) {
        self.asked.send_modify(|asked| asked.push(text));
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    async fn end(&self, sender: &mpsc::Sender<Progress>, message: &str) {
        let _ = self.hold.subscribe().wait_for(|held| !held).await;
        let kept = vec!["volume shop_data".into()];
        let done = Progress::Done { message: message.into(), deployment: None, plan: vec![], kept };
        let _ = sender.send(done).await;
        self.note("ended".into());
    }

    fn operation(&self, phase: v1::Phase, end: &'static str) -> mpsc::Receiver<Progress> {
        let (sender, receiver) = mpsc::channel(8);
        let fake = self.clone();
        tokio::spawn(async move {
            let _ = sender.send(step(phase, "working")).await;
            fake.end(&sender, end).await;
        });
        receiver
    }
}

fn step(phase: v1::Phase, message: &str) -> Progress {
    Progress::Step { phase, message: message.into(), done_bytes: 0, total_bytes: 0 }
}

#[tonic::async_trait]
impl Operations for Fake {
    fn status(&self) -> watch::Receiver<Arc<v1::HostStatus>> {
        self.status.subscribe()
    }

    async fn import(&self, options: ImportOptions, mut bytes: ByteStream) -> mpsc::Receiver<Progress> {
        let (sender, receiver) = mpsc::channel(8);
        let fake = self.clone();
        tokio::spawn(async move {
            let _ = sender.send(step(v1::Phase::Fetching, "reading the bundle")).await;
            let mut count = 0;
            while let Some(chunk) = bytes.next().await {
                match chunk {
                    Ok(chunk) => count += chunk.len(),
                    Err(problem) => return fake.note(format!("import broke: {}", problem.code.id)),
                }
            }
            let ImportOptions { deployment, parameters, .. } = options;
            fake.note(format!("import {count} bytes as {deployment:?} {parameters:?}"));
            if count == UNSIGNED_SIZE {
                let problem = Problem::new(&kedge_bundle::codes::UNSIGNED, "release: 0 of 1 signatures");
                let _ = sender.send(Progress::Failed(problem)).await;
                return;
            }
            let _ = sender.send(step(v1::Phase::Applying, "starting web")).await;
            fake.end(&sender, "shop 1.0 runs").await;
        });
        receiver
    }

    async fn deploy(&self, options: DeployOptions) -> mpsc::Receiver<Progress> {
        self.note(format!("deploy {} {:?} {:?}", options.product, options.stream, options.deployment));
        self.operation(v1::Phase::Offered, "deployed")
    }

    async fn remove(&self, deployment: &str, volumes: bool, request_id: &str) -> mpsc::Receiver<Progress> {
        assert!(!request_id.is_empty());
        self.note(format!("remove {deployment} volumes={volumes}"));
        self.operation(v1::Phase::Removing, "removed")
    }

    async fn pause(&self, deployment: &str, by: &str, reason: &str) -> Result<String, Problem> {
        self.note(format!("pause {deployment} {reason:?}"));
        Ok(format!("{deployment} is paused by {by}"))
    }

    async fn resume(&self, deployment: &str, _by: &str) -> Result<String, Problem> {
        self.note(format!("resume {deployment}"));
        Ok(format!("{deployment} is resumed"))
    }

    async fn install_licence(&self, file: &[u8]) -> Result<local::Licence, Problem> {
        self.note(format!("licence of {} bytes", file.len()));
        Ok(local::Licence { product: "shop".into(), id: "north-1".into(), ..local::Licence::default() })
    }

    async fn licences(&self) -> Result<Vec<local::Licence>, Problem> {
        Ok(vec![local::Licence { product: "shop".into(), id: "north-1".into(), ..local::Licence::default() }])
    }

    async fn inventory(&self, deployment: Option<&str>) -> Result<local::Inventory, Problem> {
        self.note(format!("inventory {deployment:?}"));
        let agrees = local::InventoryContainer {
            service: "web".into(),
            number: 1,
            state: "running".into(),
            image: "shop/web:1".into(),
            image_id: "sha256:aa".into(),
            agrees: true,
            ..local::InventoryContainer::default()
        };
        let differs = local::InventoryContainer {
            number: 2,
            agrees: false,
            why: "signed is sha256:aa".into(),
            image_id: "sha256:bb".into(),
            ..agrees.clone()
        };
        let shop = local::InventoryDeployment {
            name: "shop".into(),
            product: "shop".into(),
            containers: vec![agrees, differs],
            ..local::InventoryDeployment::default()
        };
        Ok(local::Inventory { deployments: vec![shop], ..local::Inventory::default() })
    }

    async fn diff(&self, deployment: &str) -> Result<local::Diff, Problem> {
        Ok(local::Diff { deployment: deployment.into(), ..local::Diff::default() })
    }

    async fn export(&self, _: &str, _: bool, _: &str) -> Result<local::ExportReply, Problem> {
        Ok(local::ExportReply::default())
    }

    async fn logs(&self, options: LogOptions) -> Result<mpsc::Receiver<Result<LogLine, Problem>>, Problem> {
        if options.deployment != "shop" {
            return Err(Problem::new(&codes::NO_DEPLOYMENT, format!("no `{}`", options.deployment)));
        }
        self.note(format!("logs {:?} {:?}", options.services, options.tail));
        let (sender, receiver) = mpsc::channel(8);
        for text in ["one", "two"] {
            let line = LogLine {
                service: "web".into(),
                number: 1,
                stderr: false,
                line: text.into(),
                at: "2026-01-01T00:00:00Z".into(),
            };
            sender.send(Ok(line)).await.unwrap();
        }
        Ok(receiver)
    }

    async fn collect_garbage(&self, dry_run: bool, _by: &str) -> Result<local::Garbage, Problem> {
        self.note(format!("collect garbage dry_run={dry_run}"));
        Ok(local::Garbage { dry_run, blobs: 2, blob_bytes: 4096, ..local::Garbage::default() })
    }

    async fn enroll(&self, hub: &str, token: &str, root: &str) -> Result<local::EnrollReply, Problem> {
        self.note(format!("enroll {hub} {token} {root}"));
        Ok(local::EnrollReply { host_id: "h-1".into(), site: "here".into(), hub: hub.into() })
    }
}

/// The fake behind a socket in a folder of its own.
pub(crate) struct Daemon {
    pub(crate) fake: Fake,
    pub(crate) config: Config,
    pub(crate) folder: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), Problem>>,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { run_dir: folder.path().join("run"), ..Config::default() };
        let socket = Socket::bind(&config).unwrap();
        let fake = Fake::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(fake.clone(), socket, shutdown));
        Self { fake, config, folder, stop, task }
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(&self.config.run_dir, args)
    }

    pub(crate) async fn kedge(&self, args: &[&str]) -> Output {
        output_of(self.command(args)).await
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        assert!(!self.config.socket().exists(), "the socket's file goes with the daemon");
    }
}

pub(crate) fn command(run_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kedge"));
    command.args(args).env("KEDGE_RUN_DIR", run_dir).env_remove("KEDGE_TOKEN").stdin(Stdio::null());
    command
}

pub(crate) async fn output_of(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
