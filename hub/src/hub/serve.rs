//! Starting and stopping the hub.
//!
//! Everything that can be refused is refused before the port opens. Tasks: accepting connections, the tether's
//! server, the administration's server, the recorder, the renewal of certificate and statements, and the watch
//! over the publish folder. Stopping goes the other way: no new connections, goodbye to every host, a bounded
//! wait, and the recorder last, so that what was received is stored.

use super::bundle;
use super::ca::Authority;
use super::fleet::Fleet;
use super::listener::{self, ServerCertificate};
use super::publish::{self, Publisher};
use super::releases::Releases;
use super::store::Store;
use super::support::Support;
use super::{Clock, Shared, admin, enrolment, fresh, recorder, tether, watch_folder};
use crate::codes;
use crate::error::{Failure, Result};
use kedge_bundle::roles::Root;
use kedge_bundle::sign::Signer;
use kedge_proto::hub::v1::hub_server::HubServer;
use kedge_proto::tether::v1::enrolment_server::EnrolmentServer;
use kedge_proto::tether::v1::tether_server::TetherServer;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{error, info, warn};

/// Pings on an otherwise silent connection, so that a dead one is noticed within a minute.
const PING: Duration = Duration::from_secs(30);
/// Time for the answer to a ping.
const PONG: Duration = Duration::from_secs(20);
/// Time for streams to end when the hub stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Streams of one connection: `Connect`, and blobs side by side.
const STREAMS: u32 = 32;
/// HTTP/2 window of a stream, in bytes: what one host can make the hub hold unread.
const WINDOW: u32 = 64 * 1024;
/// Pieces of blobs read from disk at one time. A host that is slow to take them waits outside.
const READS: usize = 64;

/// What the hub needs to know.
pub struct Config {
    /// The data folder; made if it is not there.
    pub data: PathBuf,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and addresses in the server's certificate, beside `localhost` and the address listened on.
    pub names: Vec<String>,
    /// The vendor's chain of root envelopes, version 1 first. Needed at the first start; later it may be
    /// left out, or be a longer chain.
    pub roots: Vec<Vec<u8>>,
    /// Bundles that appear in this folder are published.
    pub publish: Option<PathBuf>,
    /// Signs statements of what is newest. Without it, hosts are offered releases with no such statement.
    pub fresh_key: Option<Box<dyn Signer>>,
    /// The time.
    pub clock: Clock,
}

/// A hub that is ready: the port is open and nothing is served yet.
pub struct Hub {
    shared: Arc<Shared>,
    listener: TcpListener,
    admin: UnixListener,
    socket: PathBuf,
    address: SocketAddr,
    names: Vec<String>,
    publish: Option<PathBuf>,
    /// Held as long as the hub lives: one hub per folder.
    _lock: File,
}

/// Serves until `shutdown` completes.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    Hub::start(config).await?.run(shutdown).await
}

/// The administration socket of a hub with this data folder.
pub fn admin_socket(data: &Path) -> PathBuf {
    data.join("hub.sock")
}

impl Hub {
    /// Opens everything, or says why it cannot.
    pub async fn start(config: Config) -> Result<Self> {
        let Config { data, listen, mut names, roots, publish, fresh_key, clock } = config;
        raise_file_limit();
        let lock = lock(&data)?;
        let now = clock();
        let store = Arc::new(Store::open(&data.join("hub.redb"))?);
        let root = adopt_roots(&store, roots)?;
        if let Some(key) = &fresh_key {
            fresh::check_key(&root, key.as_ref())?;
        }
        let authority = Authority::open(&data, now)?;
        let bundles = data.join("bundles");
        std::fs::create_dir_all(&bundles).map_err(|error| {
            Failure::new(codes::DATA_FOLDER, format!("{} cannot be made", bundles.display())).because(error)
        })?;
        let releases = Releases::open(store.clone(), bundles, fresh_key)?;
        let publisher = Publisher::new(store.clone(), data.join("incoming"))?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            Failure::new(codes::LISTEN, format!("{listen} cannot be listened on")).because(error)
        })?;
        let address = listener.local_addr().map_err(|error| {
            Failure::new(codes::LISTEN, "the port's number cannot be read").because(error)
        })?;
        names.extend(["localhost".to_owned(), address.ip().to_string()]);
        names.sort();
        names.dedup();
        let socket = admin_socket(&data);
        let admin = open_socket(&socket)?;
        let shared = Arc::new(Shared {
            store,
            fleet: Fleet::default(),
            support: Support::default(),
            releases,
            authority,
            publisher,
            clock,
            attempts: std::sync::Mutex::default(),
            reads: Arc::new(Semaphore::new(READS)),
        });
        Ok(Hub { shared, listener, admin, socket, address, names, publish, _lock: lock })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Hub { shared, listener, admin, socket, address, names, publish, _lock } = self;
        let stop = CancellationToken::new();
        // Whatever way this function ends, nothing that it started goes on.
        let _stop_all = stop.clone().drop_guard();

        let certificate = Arc::new(ServerCertificate::new(&shared.authority, &names, shared.now())?);
        let tls = listener::tls(&shared.authority, certificate.clone())?;
        let (ready, incoming) = mpsc::channel(64);
        let accepting = tokio::spawn(listener::accept(listener, tls, ready));
        let (recorder, recording) = recorder::start(shared.store.clone(), shared.fleet.clone());
        let tether = tokio::spawn(tether_server(shared.clone(), recorder, incoming, stop.clone()));
        let admin = tokio::spawn(admin_server(shared.clone(), admin, stop.clone()));
        let chores = tokio::spawn(renewals(shared.clone(), certificate, names, stop.clone()));
        let folder =
            publish.map(|folder| tokio::spawn(watch_folder::run(shared.clone(), folder, stop.clone())));

        info!(%address, "The hub listens on {address}.");
        let (mut tether, mut admin) = (tether, admin);
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut tether => Err(unexpected_end("tether", ended)),
            ended = &mut admin => Err(unexpected_end("administration", ended)),
        };
        info!(hosts = shared.fleet.connected(), "The hub stops.");
        shared.fleet.stop();
        stop.cancel();
        finish("tether", tether).await;
        finish("administration", admin).await;
        accepting.abort();
        finish("renewal", chores).await;
        if let Some(folder) = folder {
            finish("publish folder", folder).await;
        }
        // Its senders are gone with the streams: it ends when all is written.
        finish("recorder", recording).await;
        // Nobody answers there any more; the next hub would replace it.
        let _ = std::fs::remove_file(socket);
        info!("The hub has stopped.");
        ended
    }
}

async fn tether_server(
    shared: Arc<Shared>,
    recorder: mpsc::Sender<recorder::Entry>,
    incoming: mpsc::Receiver<std::io::Result<listener::Connection>>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let enrolment = EnrolmentServer::new(enrolment::Service(shared.clone()))
        .max_decoding_message_size(enrolment::MAX_MESSAGE);
    let tether = TetherServer::new(tether::Service { shared, recorder })
        .max_decoding_message_size(tether::MAX_MESSAGE);
    Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .http2_max_header_list_size(8 * 1024)
        .add_service(enrolment)
        .add_service(tether)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.cancelled_owned())
        .await
}

async fn admin_server(
    shared: Arc<Shared>,
    socket: UnixListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = admin::Service { shared, stop: stop.clone() };
    Server::builder()
        .add_service(HubServer::new(service).max_decoding_message_size(admin::MAX_MESSAGE))
        .serve_with_incoming_shutdown(UnixListenerStream::new(socket), stop.cancelled_owned())
        .await
}

/// Makes statements of what is newest every hour, and the server's certificate when half of its life is over.
async fn renewals(
    shared: Arc<Shared>,
    certificate: Arc<ServerCertificate>,
    names: Vec<String>,
    stop: CancellationToken,
) {
    let mut hourly = tokio::time::interval(fresh::RENEWAL);
    let mut renewal = tokio::time::interval(ServerCertificate::renewal());
    // The first tick of both is now, when both are new.
    hourly.tick().await;
    renewal.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hourly.tick() => shared.releases.renew_statements(),
            _ = renewal.tick() => match certificate.renew(&shared.authority, &names, shared.now()) {
                Ok(()) => info!("The server's certificate was renewed."),
                Err(failure) => error!(code = failure.code.id, "The server's certificate was not renewed: {}.", failure.chain()),
            },
        }
    }
}

async fn finish<T>(what: &str, mut task: JoinHandle<T>) {
    if task.is_finished() {
        return;
    }
    if tokio::time::timeout(DRAIN, &mut task).await.is_err() {
        info!("The {what} did not end within {} s and is cut off.", DRAIN.as_secs());
        task.abort();
        let _ = task.await;
    }
}

fn unexpected_end(
    what: &str,
    ended: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
) -> Failure {
    let failure = Failure::new(codes::UNEXPECTED, format!("the {what} server ended by itself"));
    match ended {
        Ok(Ok(())) => failure,
        Ok(Err(error)) => failure.because(error),
        Err(error) => failure.because(error),
    }
}

/// Every connected host is an open file. What the system allows is taken; the usual soft limit is 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        warn!("The limit of open files stays at {:?}: {error}.", limit.current);
    }
}

/// Makes the folder, private to its owner, and takes its lock.
fn lock(data: &Path) -> Result<File> {
    let unusable = |error: std::io::Error| {
        Failure::new(codes::DATA_FOLDER, format!("{} cannot be used", data.display())).because(error)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(unusable)?;
    let path = data.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Failure::new(codes::RUNNING, format!("another hub uses {}", data.display())))
        }
        Err(error) => Err(unusable(error.into())),
    }
}

/// A socket that only this user may use; one left by a hub that died is replaced (the lock is ours).
fn open_socket(path: &Path) -> Result<UnixListener> {
    let open = || -> std::io::Result<UnixListener> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    open().map_err(|error| {
        Failure::new(codes::DATA_FOLDER, format!("{} cannot be opened", path.display())).because(error)
    })
}

/// Checks the chains of roots given and held, keeps the longer one, and returns the newest root.
fn adopt_roots(store: &Store, given: Vec<Vec<u8>>) -> Result<Root> {
    let held = store.roots()?;
    if given.is_empty() && held.is_empty() {
        let message = "the hub does not know the vendor's root document: give it with --root";
        return Err(Failure::new(codes::CONFIG, message));
    }
    if let (Some(first_held), Some(first_given)) = (held.first(), given.first())
        && bundle::fingerprint(first_held)? != bundle::fingerprint(first_given)?
    {
        let message = "this data folder belongs to another root of trust than the one given with --root";
        return Err(Failure::new(codes::CONFIG, message));
    }
    let root = publish::trust_of(if given.len() > held.len() { &given } else { &held })?.1;
    if given.len() > held.len() {
        store.set_roots(&given)?;
    }
    Ok(root)
}
