//! Everything that can be asked of this host, in one place.
//!
//! The command line (through the local socket) and the tether call these functions and no others, so
//! that nothing is possible in one that the other's audit entry would miss. A [`Host`] is a cheap handle;
//! the work happens in the deployments' own tasks.

mod adopt;
mod diff;
mod export;
pub mod garbage;
mod import;
mod inventory;
mod licences;
mod logs;
mod offers;
mod support;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::Stream;
use kedge_proto::local::v1::Diff;
use kedge_proto::tether::v1::{ReleaseOffer, Subscription};
use kedge_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::codes;
use crate::deploy::{self, Command};
use crate::health::Outbox;
use crate::problem::Problem;
use crate::store::{DeploymentRecord, GenerationRecord, generation_key};
use crate::support::Support;
use crate::world::World;

pub(crate) use logs::parse_time;

/// Steps that may wait for a caller who reads slowly.
const PROGRESS: usize = 64;
/// Longest reason for a pause, characters.
const MOST_REASON: usize = 200;
/// The stream that is meant when none is named.
const DEFAULT_STREAM: &str = "stable";

/// Bytes from outside, in order, in bounded chunks. An error ends the import.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>;

/// One step of an operation's course, as the caller sees it. `Done`, `Would` or `Failed` is the last.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Something is being done.
    Step {
        /// Phase of the deployment.
        phase: v1::Phase,
        /// A sentence.
        message: String,
        /// Bytes handled so far; 0 where it does not apply.
        done_bytes: u64,
        /// Bytes in all; 0 where it is not known.
        total_bytes: u64,
    },
    /// The operation ended as asked.
    Done {
        /// A sentence.
        message: String,
        /// The deployment after it.
        deployment: Option<Box<v1::DeploymentStatus>>,
        /// For a dry run: what would be done, a sentence each.
        plan: Vec<String>,
        /// For a removal: what was left on purpose.
        kept: Vec<String>,
    },
    /// A dry run ended: this would be done.
    Would {
        /// A sentence.
        message: String,
        /// What would be done.
        diff: Box<Diff>,
    },
    /// The operation did not succeed.
    Failed(Problem),
}

/// How a bundle is to be taken from the command line.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Name of the deployment; the product's name by default.
    pub deployment: Option<String>,
    /// Parameters given now; others keep their last value.
    pub parameters: BTreeMap<String, String>,
    /// SHA-256 (hex) of the root document to trust, when this host trusts none yet.
    pub root_sha256: Option<String>,
    /// Verify and plan, change nothing.
    pub dry_run: bool,
    /// Verify and store, deploy nothing.
    pub stage_only: bool,
    /// Asking twice with the same ID does once. Empty: a fresh one.
    pub request_id: String,
    /// Take over a compose project that runs.
    pub adopt: Option<Adopt>,
}

/// How a compose project is to be taken over.
#[derive(Debug, Clone, Default)]
pub struct Adopt {
    /// The project.
    pub project: String,
    /// Digest of the diff that a person has seen; another one now is refused. Empty: none was shown.
    pub agreed: String,
    /// Data in folders or volumes that the new containers do not use may be left behind.
    pub leave_binds: bool,
    /// User.
    pub by: String,
}

/// How a product that the hub offers is to be taken.
#[derive(Debug, Clone, Default)]
pub struct DeployOptions {
    /// Product.
    pub product: String,
    /// Stream; `stable` by default.
    pub stream: Option<String>,
    /// Name of the deployment; the product's name by default.
    pub deployment: Option<String>,
    /// Parameters given now; others keep their last value.
    pub parameters: BTreeMap<String, String>,
    /// Plan only.
    pub dry_run: bool,
    /// Asking twice with the same ID does once. Empty: a fresh one.
    pub request_id: String,
}

/// Which logs.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Deployment.
    pub deployment: String,
    /// Services; empty means all.
    pub services: Vec<String>,
    /// Go on as lines come.
    pub follow: bool,
    /// Lines per container from the end; `None` means all.
    pub tail: Option<u64>,
    /// Only lines from then on, RFC 3339.
    pub since: Option<String>,
}

/// One line of a container's output.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// Service.
    pub service: String,
    /// Number of the container within its service, from 1.
    pub number: u32,
    /// From standard error.
    pub stderr: bool,
    /// Without its newline; at most 64 KiB.
    pub line: Bytes,
    /// When the engine received it, RFC 3339.
    pub at: String,
}

/// A report or event that must reach the hub, kept until acknowledged.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Rising by one within a session.
    pub number: u64,
    /// The encoded `kedge.tether.v1.Report`.
    pub report: Bytes,
}

/// What the hub offers, after the signed `fresh` statement was verified as far as there is one.
#[derive(Debug, Clone)]
pub struct Offers {
    /// DSSE envelope of the `fresh` role, empty where the hub has none.
    pub fresh: Bytes,
    /// Newest release of each stream.
    pub releases: Vec<kedge_proto::tether::v1::ReleaseOffer>,
}

/// Fetches documents and blobs of a release. The tether implements it; a deployment's fetcher calls it.
#[tonic::async_trait]
pub trait Courier: Send + Sync {
    /// The signed documents of the release with this payload digest (`sha256:…`).
    async fn documents(&self, release: &str) -> Result<kedge_proto::tether::v1::Documents, Problem>;
    /// The bytes of a blob from `offset` on.
    async fn blob(&self, release: &str, digest: &str, offset: u64) -> Result<ByteStream, Problem>;
}

/// Membership of a fleet: what enrolment gave this host. The private key is a file of `identity/`, not in here.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Enrolment {
    /// `https://host:port`.
    pub hub: String,
    /// The hub's name for this host.
    pub host_id: String,
    /// The customer's site.
    pub site: String,
    /// DER, leaf first.
    pub certificate_chain: Vec<Vec<u8>>,
    /// DER of the authority that the hub's own certificate must lead to.
    pub hub_ca: Vec<u8>,
}

/// Handle on the host.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    world: Arc<World>,
    support: Support,
    outbox: Arc<Outbox>,
    enrolment: watch::Sender<Option<Arc<Enrolment>>>,
    deployments: Mutex<BTreeMap<String, (deploy::Handle, AbortHandle)>>,
    tasks: TaskTracker,
    offered: Mutex<Vec<ReleaseOffer>>,
    offers_changed: watch::Sender<u64>,
}

impl Host {
    /// The host in these surroundings, with a task for every deployment that the store knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(world: Arc<World>, outbox: Arc<Outbox>) -> Result<Self, Problem> {
        let enrolment = world.store.get::<Enrolment>("")?.map(Arc::new);
        let inner = Inner {
            support: Support::open(Arc::clone(&world))?,
            outbox,
            enrolment: watch::Sender::new(enrolment),
            deployments: Mutex::default(),
            tasks: TaskTracker::new(),
            offered: Mutex::default(),
            offers_changed: watch::Sender::new(0),
            world,
        };
        let host = Self { inner: Arc::new(inner) };
        for record in host.inner.world.store.scan::<DeploymentRecord>("")? {
            host.start(record);
        }
        Ok(host)
    }

    /// The status now and after every change. One place builds it; everyone shows this one.
    pub fn status(&self) -> watch::Receiver<Arc<v1::HostStatus>> {
        self.inner.world.board.subscribe()
    }

    /// Takes a bundle as it comes: verifies, stores and, unless told otherwise, deploys it.
    pub async fn import(&self, options: ImportOptions, bytes: ByteStream) -> mpsc::Receiver<Progress> {
        let (progress, receiver) = mpsc::channel(PROGRESS);
        let host = self.clone();
        self.inner.tasks.spawn(async move { host.run_import(options, bytes, progress).await });
        receiver
    }

    /// Takes a product that the hub offers as a deployment, or gives new parameters to one that is there.
    pub async fn deploy(&self, options: DeployOptions) -> mpsc::Receiver<Progress> {
        let (progress, receiver) = mpsc::channel(PROGRESS);
        let host = self.clone();
        self.inner.tasks.spawn(async move { host.run_deploy(options, progress).await });
        receiver
    }

    /// Removes a deployment. Volumes stay unless `remove_volumes` says so: only a local caller may.
    pub async fn remove(
        &self,
        deployment: &str,
        remove_volumes: bool,
        request_id: &str,
    ) -> mpsc::Receiver<Progress> {
        let (progress, receiver) = mpsc::channel(PROGRESS);
        let command = Command::Remove {
            volumes: remove_volumes,
            id: request_or_fresh(request_id),
            watcher: Some(progress.clone()),
        };
        let sent = match self.handle(deployment) {
            Ok(handle) => handle.send(command).await.map_err(|_| no_deployment(deployment)),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = sent {
            let _ = progress.send(Progress::Failed(problem)).await;
        }
        receiver
    }

    /// From when this returns nothing of the deployment is changed, until [`Host::resume`]. Gives a sentence.
    ///
    /// # Errors
    /// [`codes::NO_DEPLOYMENT`], or when it cannot be written down.
    pub async fn pause(&self, deployment: &str, by: &str, reason: &str) -> Result<String, Problem> {
        let (answer, said) = oneshot::channel();
        let reason = reason.chars().filter(|c| !c.is_control()).take(MOST_REASON).collect();
        self.ask(deployment, Command::Pause { by: by.to_owned(), reason, answer }, said).await
    }

    /// The deployment is kept as it should be again. Gives a sentence.
    ///
    /// # Errors
    /// As [`Host::pause`].
    pub async fn resume(&self, deployment: &str, by: &str) -> Result<String, Problem> {
        let (answer, said) = oneshot::channel();
        self.ask(deployment, Command::Resume { by: by.to_owned(), answer }, said).await
    }

    async fn ask<T>(
        &self,
        deployment: &str,
        command: Command,
        said: oneshot::Receiver<Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let sent = self.handle(deployment)?.send(command).await;
        sent.map_err(|_| no_deployment(deployment))?;
        said.await.unwrap_or_else(|_| Err(no_deployment(deployment)))
    }

    /// Lines of the containers of a deployment, oldest first per container.
    ///
    /// # Errors
    /// [`codes::NO_DEPLOYMENT`], or the engine's.
    pub async fn logs(
        &self,
        options: LogOptions,
    ) -> Result<mpsc::Receiver<Result<LogLine, Problem>>, Problem> {
        self.handle(&options.deployment)?;
        let world = &self.inner.world;
        let adoption = deploy::adoption::load(&world.store, &options.deployment)?;
        logs::follow(Arc::clone(&world.engine), adoption, options).await
    }

    /// For the tether's `Hello`: what runs here and which streams it follows.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let records = self.inner.world.store.scan::<DeploymentRecord>("").unwrap_or_default();
        let installed = |record: &DeploymentRecord| {
            let key = generation_key(&record.name, record.active?);
            Some(self.inner.world.store.get::<GenerationRecord>(&key).ok()??.release.seq)
        };
        let mut subscriptions: Vec<Subscription> = records
            .iter()
            .map(|record| Subscription {
                product: record.product.clone(),
                stream: record.stream.clone(),
                seq: installed(record).unwrap_or_default(),
            })
            .collect();
        for deployment in self.inner.world.config.deployment.values() {
            let stream = deployment.stream.clone().unwrap_or_else(|| DEFAULT_STREAM.to_owned());
            if !subscriptions.iter().any(|s| s.product == deployment.product && s.stream == stream) {
                subscriptions.push(Subscription { product: deployment.product.clone(), stream, seq: 0 });
            }
        }
        subscriptions
    }

    /// The enrolment, if there is one.
    pub fn enrolment(&self) -> watch::Receiver<Option<Arc<Enrolment>>> {
        self.inner.enrolment.subscribe()
    }

    /// From the tether: the way to fetch while connected, `None` when the line is down.
    pub fn set_courier(&self, courier: Option<Arc<dyn Courier>>) {
        self.inner.world.courier.send_replace(courier);
    }

    /// From the tether: how the line is, for the status. What is offered and what waits to be sent is known here.
    pub fn set_tether_status(&self, mut status: v1::TetherStatus) {
        let before = self.inner.world.board.subscribe().borrow().tether.clone().unwrap_or_default();
        status.offers = before.offers;
        self.inner.world.board.tether(status);
    }

    /// Reports waiting for the hub, oldest first, from `after` on; at most `most`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outbox_after(&self, after: u64, most: usize) -> Result<Vec<OutboxEntry>, Problem> {
        self.inner.outbox.after(after, most)
    }

    /// Changes whenever a report was added to the outbox; its value is the highest number.
    pub fn outbox_changed(&self) -> watch::Receiver<u64> {
        self.inner.outbox.changed()
    }

    /// The outbox session and the last acknowledged number, for `Hello`.
    pub fn outbox_session(&self) -> (String, u64) {
        self.inner.outbox.session()
    }

    /// The hub has these for good.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn outbox_acked(&self, up_to: u64) -> Result<(), Problem> {
        self.inner.outbox.acked(up_to).await
    }

    /// The hub holds nothing of this host: the next report says everything.
    pub async fn report_everything(&self) {
        self.inner.outbox.forget_told().await;
        let status = Arc::clone(&self.status().borrow());
        if let Err(problem) = self.inner.outbox.report(&status).await {
            tracing::warn!(%problem, "a full report could not be written");
        }
    }

    /// Waits until everything that was begun has come to a point where it can be left; deployments' tasks end as
    /// soon as their handles are dropped.
    pub async fn drain(&self) {
        self.deployments().clear();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Ends every deployment's task where it is, as a crash would: the next start takes everything up from the store.
    pub fn abort(&self) {
        for (_, task) in std::mem::take(&mut *self.deployments()).values() {
            task.abort();
        }
    }

    fn start(&self, record: DeploymentRecord) -> deploy::Handle {
        let name = record.name.clone();
        let (handle, task) = deploy::spawn(Arc::clone(&self.inner.world), record);
        self.deployments().insert(name.clone(), (handle.clone(), task.abort_handle()));
        let (inner, id) = (Arc::downgrade(&self.inner), task.abort_handle().id());
        self.inner.tasks.spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(deployment = name, "the deployment's task ended unexpectedly");
            }
            if let Some(inner) = inner.upgrade() {
                // Unless another one of this name was started meanwhile.
                let mut deployments = inner.deployments.lock().unwrap_or_else(PoisonError::into_inner);
                if deployments.get(&name).is_some_and(|(_, task)| task.id() == id) {
                    deployments.remove(&name);
                }
            }
        });
        handle
    }

    fn handle(&self, deployment: &str) -> Result<deploy::Handle, Problem> {
        self.deployments()
            .get(deployment)
            .map(|(handle, _)| handle.clone())
            .ok_or_else(|| no_deployment(deployment))
    }

    fn deployments(&self) -> MutexGuard<'_, BTreeMap<String, (deploy::Handle, AbortHandle)>> {
        // A poisoned map is a whole map: every change to it is one call.
        self.inner.deployments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_deployment(name: &str) -> Problem {
    Problem::new(&codes::NO_DEPLOYMENT, format!("there is no deployment {name:.80}"))
}

fn request_or_fresh(id: &str) -> String {
    if id.is_empty() { format!("{:032x}", rand::random::<u128>()) } else { id.chars().take(64).collect() }
}
