//! The daemon: every task on one host, from start to drain.
//!
//! ```text
//!  engine events ─▶ EventHub ─▶ supervisors, apply        kind ─▶ what the engine is
//!  local socket ──▶ Host ◀── tether                       reporter ─▶ outbox ─▶ tether
//!                    └─▶ one task per deployment ─▶ board ─▶ everyone who shows a status
//! ```
//!
//! Configuration is read and the state folder locked before any socket is opened. At the end everything gets a bounded
//! time to come to a point where it can be left; the workload runs on.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kedge_proto::v1::{EngineStatus, HostStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::clock::{Clock, SystemClock};
use crate::codes;
use crate::config::Config;
use crate::deploy::secrets::private_folder;
use crate::engine::docker::Docker;
use crate::engine::types::{EngineInfo, ImageStore};
use crate::engine::{Engine, EventHub};
use crate::guard::Rules;
use crate::health::{Board, Journal, Outbox, reporter};
use crate::host::garbage::Watermark;
use crate::host::{Enrolment, Host};
use crate::images::{Content, room};
use crate::problem::Problem;
use crate::service_manager;
use crate::store::{FolderLock, Store, TrustRecord};
use crate::tether::credential::Credential;
use crate::timekeeper::{self, Timekeeper};
use crate::watchdog::{self, Pulse};
use crate::world::{Hooks, NoHooks, World};

/// Time for everything to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How soon an engine that is up and did not answer is asked again.
const ENGINE_AGAIN: Duration = Duration::from_secs(1);
/// How often free disk is looked at.
const DISK: Duration = Duration::from_secs(10);
/// How often the reports say where the audit log ends, if it has grown.
const AUDIT_HEAD_EVERY: Duration = Duration::from_secs(900);

/// Runs until `shutdown`.
///
/// # Errors
/// What kept it from starting, or ended it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()> + Send) -> Result<(), Problem> {
    let engine = Arc::new(Docker::at(config.engine.clone()));
    run_with(config, engine, Arc::new(SystemClock), Arc::new(NoHooks), shutdown).await
}

/// The same with engine, clock and hooks passed in.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    hooks: Arc<dyn Hooks>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Problem> {
    private_folder(&config.state_dir)?;
    let _lock = FolderLock::take(&config.state_dir)?;
    let rules = read_rules(&config.guard)?;
    let credential = Credential::of_process()?;
    let store = Store::open(&config.state_dir.join("store"))?;
    let socket = crate::local::socket::Socket::open(&config)?;
    let audit = Arc::new(audit::Log::open(&config.state_dir.join("audit/log.jsonl"))?);
    audit.append(&audit::Event::AgentStarted { version: env!("CARGO_PKG_VERSION").to_owned() })?;
    let enrolment = store.get::<Enrolment>("")?;
    let board = Board::new(host_status(&config, enrolment.as_ref()));
    let (kind, engine_kind) = watch::channel(None);
    let world = Arc::new(World {
        rules,
        content: Content::open(config.state_dir.join("content"))?,
        events: EventHub::spawn(Arc::clone(&engine)),
        engine_kind,
        audit: Arc::clone(&audit),
        board: board.clone(),
        pulses: watchdog::Registry::default(),
        journal: Arc::new(Journal::open(&store)?),
        courier: watch::Sender::new(None),
        trust: tokio::sync::Mutex::new(store.get::<TrustRecord>("")?.map(|record| record.0)),
        fresh: watch::Sender::new(None),
        licensing: tokio::sync::Mutex::new(()),
        intake: tokio::sync::Mutex::new(()),
        hooks,
        time: Timekeeper::open(&store, Arc::clone(&clock))?,
        clock: Arc::clone(&clock),
        engine,
        store: store.clone(),
        config,
    });
    let outbox = Arc::new(Outbox::open(store, clock, world.config.limits.outbox_reports)?);
    let host = Host::new(Arc::clone(&world), Arc::clone(&outbox))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state = %world.config.state_dir.display(), "ready");

    let ending = CancellationToken::new();
    let reports = reporter::run(outbox, Arc::clone(&world.journal), host.status(), host.enrolment());
    let pulse = |name: &str| world.pulses.pulse(name);
    let tasks = [
        tokio::spawn(while_polled(pulse("reporter"), reports)),
        tokio::spawn(service_manager::say_status(host.status())),
        tokio::spawn(service_manager::feed_watchdog(world.pulses.clone())),
        tokio::spawn(while_polled(pulse("engine's version"), know_the_engine(Arc::clone(&world), kind))),
        tokio::spawn(while_polled(pulse("disk"), watch_the_disk(Arc::clone(&world)))),
        tokio::spawn(while_polled(pulse("time"), timekeeper::keep(Arc::clone(&world)))),
        tokio::spawn(while_polled(pulse("audit head"), tell_the_audit_head(Arc::clone(&world)))),
        tokio::spawn({
            let (pulse, support) = (pulse("support"), host.support().clone());
            async move { while_polled(pulse, support.keep()).await }
        }),
    ];
    let config = Arc::new(world.config.clone());
    let enrolling = match (&enrolment, credential) {
        (None, Some(credential)) => Some(tokio::spawn(credential.enrol(host.clone(), Arc::clone(&config)))),
        _ => None,
    };
    let local = crate::local::serve(
        crate::local::Daemon { host: host.clone(), config: Arc::clone(&config) },
        socket,
        ending.clone().cancelled_owned(),
    );
    let tether = crate::tether::run(host.clone(), config, ending.clone().cancelled_owned());
    let local = tokio::spawn(while_polled(pulse("local socket"), local));
    let tether = tokio::spawn(while_polled(pulse("tether"), tether));
    service_manager::ready();

    // What can end before it is told to is the socket's server; an agent that nobody can talk to must be restarted.
    tokio::pin!(local);
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        ended = &mut local => match ended {
            Ok(result) => result,
            Err(error) => Err(Problem::from_error(&codes::INTERNAL, &error).at("local socket")),
        },
    };
    tracing::info!("ending; what runs goes on running");
    service_manager::stopping();
    ending.cancel();
    let drained = tokio::time::timeout(DRAIN, async {
        host.support().stop().await;
        let _ = tether.await;
        host.drain().await;
    });
    if drained.await.is_err() {
        tracing::warn!("not everything ended in time; it is taken up where it was at the next start");
        host.abort();
    }
    for task in tasks.into_iter().chain(enrolling) {
        task.abort();
    }
    if let Err(problem) = timekeeper::end(&world).await {
        tracing::warn!(%problem, "the last time seen could not be written");
    }
    audit.append(&audit::Event::AgentStopped)?;
    outcome
}

/// Runs a task that waits for outside parties without a limit of its own: it is alive while it is polled.
async fn while_polled<T>(mut pulse: Pulse, task: impl Future<Output = T>) -> T {
    pulse.work(Duration::MAX, task).await
}

/// Has the reports say now and then where the audit log ends: whoever rewrites it later contradicts what the hub holds.
async fn tell_the_audit_head(world: Arc<World>) {
    let mut due = tokio::time::interval(AUDIT_HEAD_EVERY);
    loop {
        due.tick().await;
        world.show_audit_head();
    }
}

/// The customer's rules; none are the strictest.
pub(crate) fn read_rules(path: &Path) -> Result<Rules, Problem> {
    let failed = |why: String| Problem::new(&codes::CONFIG, format!("{}: {why}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let rules: Rules =
                toml::from_str(&text).map_err(|e| failed(e.to_string().trim_end().to_owned()))?;
            rules.support.check().map_err(failed)?;
            Ok(rules)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Rules::default()),
        Err(e) => Err(failed(e.to_string())),
    }
}

/// What is known of the host before anything was asked.
fn host_status(config: &Config, enrolment: Option<&Enrolment>) -> HostStatus {
    let memory_bytes = sysinfo::System::new()
        .map(|mut system| {
            system.refresh_memory();
            system.total_memory()
        })
        .unwrap_or_default();
    let (disk_free_bytes, disk_total_bytes) = room::usage(&config.state_dir);
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    HostStatus {
        host_id: enrolment.map(|e| e.host_id.clone()).unwrap_or_default(),
        site: enrolment.map(|e| e.site.clone()).or_else(|| config.site.clone()).unwrap_or_default(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: sysinfo::System::host_name().unwrap_or_default(),
        os: sysinfo::System::long_os_version().unwrap_or_default(),
        arch: std::env::consts::ARCH.to_owned(),
        engine: Some(EngineStatus { problem: "not asked yet".to_owned(), ..EngineStatus::default() }),
        memory_bytes,
        disk_free_bytes,
        disk_total_bytes,
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        ..HostStatus::default()
    }
}

/// Asks the engine what it is whenever it comes back, until it has said so: an engine that has just come up may answer
/// one question and not the next.
async fn know_the_engine(world: Arc<World>, kind: watch::Sender<Option<EngineInfo>>) {
    let mut up = world.events.up();
    loop {
        let is_up = *up.borrow_and_update();
        let info =
            if is_up { world.engine.info().await.map_err(|e| e.to_string()) } else { Err(away(&world)) };
        let asks_again = is_up && info.is_err();
        match info {
            Ok(info) => {
                world.board.engine(EngineStatus {
                    reachable: true,
                    version: info.version.clone(),
                    api_version: info.api.clone(),
                    image_store: match info.store {
                        ImageStore::Classic => "classic",
                        ImageStore::Containerd => "containerd",
                    }
                    .to_owned(),
                    problem: String::new(),
                });
                kind.send_replace(Some(info));
            }
            Err(problem) => {
                world.board.host(|host| {
                    let engine = host.engine.get_or_insert_default();
                    engine.reachable = false;
                    engine.problem = problem;
                });
            }
        }
        // Cancel safe, both.
        tokio::select! {
            changed = up.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ENGINE_AGAIN), if asks_again => {}
        }
    }
}

fn away(world: &World) -> String {
    format!("{} does not answer", world.config.engine)
}

async fn watch_the_disk(world: Arc<World>) {
    let mut watermark = Watermark::default();
    loop {
        tokio::time::sleep(DISK).await;
        watermark.look(&world).await;
        let (free, total) = room::usage(&world.config.state_dir);
        world.board.host(|host| (host.disk_free_bytes, host.disk_total_bytes) = (free, total));
    }
}
