//! gRPC over the unix socket, for `kedge` on this host.
//!
//! One way in: the socket, mode 0660, and every call's peer credentials checked on top (`peer`). Nothing in
//! here decides anything: a call is turned into one of [`Operations`], which [`Daemon`] answers with the
//! [`Host`]'s functions. `remove_volumes` exists in this protocol alone, so only a local caller can ask for it.
//!
//! Messages are at most [`MAX_MESSAGE`] bytes. Open streams (`Watch`, followed logs) end when the daemon
//! does, so that they never hold up its end.

pub mod client;
mod peer;
mod service;
pub mod socket;
mod support;
pub mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kedge_proto::local::v1::local_server::LocalServer;
use kedge_proto::local::v1::{Diff, EnrollReply, ExportReply, Garbage, Inventory, Licence};
use kedge_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::codes;
use crate::config::Config;
use crate::host::{ByteStream, DeployOptions, Host, ImportOptions, LogLine, LogOptions, Progress};
use crate::problem::Problem;

/// Bytes of an import under way between the two ends of the socket, and of one piece of them: with HTTP/2's defaults, 64 KiB and
/// 16 KiB, a bundle spends its time waiting for permission.
const WINDOW: u32 = 2 << 20;
const FRAME: u32 = 512 << 10;
/// Largest message accepted from the command line, bytes: a chunk of 1 MiB and its frame.
pub const MAX_MESSAGE: usize = 1024 * 1024 + 64 * 1024;

/// How long calls under way may take once the daemon is asked to end.
const DRAIN: Duration = Duration::from_secs(3);

/// What can be asked through the socket. [`Daemon`] is the real one; tests use a smaller one.
#[tonic::async_trait]
pub trait Operations: Send + Sync + 'static {
    /// See [`Host::status`].
    fn status(&self) -> watch::Receiver<Arc<v1::HostStatus>>;
    /// See [`Host::import`].
    async fn import(&self, options: ImportOptions, bytes: ByteStream) -> mpsc::Receiver<Progress>;
    /// See [`Host::deploy`].
    async fn deploy(&self, options: DeployOptions) -> mpsc::Receiver<Progress>;
    /// See [`Host::remove`].
    async fn remove(&self, deployment: &str, volumes: bool, request_id: &str) -> mpsc::Receiver<Progress>;
    /// See [`Host::pause`].
    async fn pause(&self, deployment: &str, by: &str, reason: &str) -> Result<String, Problem>;
    /// See [`Host::resume`].
    async fn resume(&self, deployment: &str, by: &str) -> Result<String, Problem>;
    /// See [`Host::diff`].
    async fn diff(&self, deployment: &str) -> Result<Diff, Problem>;
    /// See [`Host::export`].
    async fn export(&self, deployment: &str, secrets: bool, by: &str) -> Result<ExportReply, Problem>;
    /// See [`Host::logs`].
    async fn logs(&self, options: LogOptions) -> Result<mpsc::Receiver<Result<LogLine, Problem>>, Problem>;
    /// See [`crate::licence::install`].
    async fn install_licence(&self, file: &[u8]) -> Result<Licence, Problem>;
    /// See [`crate::licence::all`].
    async fn licences(&self) -> Result<Vec<Licence>, Problem>;
    /// See [`Host::inventory`].
    async fn inventory(&self, deployment: Option<&str>) -> Result<Inventory, Problem>;
    /// What answers about support sessions; nothing where there are none.
    fn support(&self) -> Option<Host> {
        None
    }
    /// See [`Host::collect_garbage`].
    async fn collect_garbage(&self, dry_run: bool, by: &str) -> Result<Garbage, Problem>;
    /// See [`crate::tether::enroll`].
    async fn enroll(&self, hub: &str, token: &str, root_sha256: &str) -> Result<EnrollReply, Problem>;
}

/// [`Operations`] on the real host.
#[derive(Clone)]
pub struct Daemon {
    /// The host.
    pub host: Host,
    /// Its configuration; enrolment needs the proxy and the state folder.
    pub config: Arc<Config>,
}

#[tonic::async_trait]
impl Operations for Daemon {
    fn status(&self) -> watch::Receiver<Arc<v1::HostStatus>> {
        self.host.status()
    }

    async fn import(&self, options: ImportOptions, bytes: ByteStream) -> mpsc::Receiver<Progress> {
        self.host.import(options, bytes).await
    }

    async fn deploy(&self, options: DeployOptions) -> mpsc::Receiver<Progress> {
        self.host.deploy(options).await
    }

    async fn remove(&self, deployment: &str, volumes: bool, request_id: &str) -> mpsc::Receiver<Progress> {
        self.host.remove(deployment, volumes, request_id).await
    }

    async fn pause(&self, deployment: &str, by: &str, reason: &str) -> Result<String, Problem> {
        self.host.pause(deployment, by, reason).await
    }

    async fn resume(&self, deployment: &str, by: &str) -> Result<String, Problem> {
        self.host.resume(deployment, by).await
    }

    async fn diff(&self, deployment: &str) -> Result<Diff, Problem> {
        self.host.diff(deployment).await
    }

    async fn export(&self, deployment: &str, secrets: bool, by: &str) -> Result<ExportReply, Problem> {
        self.host.export(deployment, secrets, by).await
    }

    async fn logs(&self, options: LogOptions) -> Result<mpsc::Receiver<Result<LogLine, Problem>>, Problem> {
        self.host.logs(options).await
    }

    async fn install_licence(&self, file: &[u8]) -> Result<Licence, Problem> {
        self.host.install_licence(file).await.map(|judged| wire::licence(&judged))
    }

    async fn licences(&self) -> Result<Vec<Licence>, Problem> {
        Ok(self.host.licences().await?.iter().map(wire::licence).collect())
    }

    async fn inventory(&self, deployment: Option<&str>) -> Result<Inventory, Problem> {
        self.host.inventory(deployment).await
    }

    fn support(&self) -> Option<Host> {
        Some(self.host.clone())
    }

    async fn collect_garbage(&self, dry_run: bool, by: &str) -> Result<Garbage, Problem> {
        self.host.collect_garbage(dry_run, by).await
    }

    async fn enroll(&self, hub: &str, token: &str, root_sha256: &str) -> Result<EnrollReply, Problem> {
        crate::tether::enroll(&self.host, &self.config, hub, token, root_sha256).await
    }
}

/// Serves `operations` on `socket` until `shutdown`, then gives calls under way a moment to end. The socket's
/// file is removed last.
///
/// # Errors
/// [`codes::INTERNAL`] when accepting connections failed for good.
pub async fn serve(
    operations: impl Operations,
    socket: socket::Socket,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Problem> {
    let ending = CancellationToken::new();
    let service = LocalServer::new(service::Service::new(operations, ending.clone()))
        .max_decoding_message_size(MAX_MESSAGE);
    let allowed = socket.allowed();
    let guarded = InterceptedService::new(service, move |request| peer::check(allowed, request));
    let (listener, _remove_file) = socket.into_listener();
    let stopped = ending.clone();
    let builder = Server::builder()
        .max_concurrent_streams(64)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_frame_size(FRAME);
    let server = builder.serve_with_incoming_shutdown(
        guarded,
        UnixListenerStream::new(listener),
        stopped.cancelled_owned(),
    );
    tokio::pin!(server, shutdown);
    // Both arms are cancel safe: the server is polled by reference, shutdown is over once it fired.
    let outcome = tokio::select! {
        outcome = &mut server => outcome,
        () = &mut shutdown => {
            tracing::debug!("the local socket closes: the daemon ends");
            ending.cancel();
            tokio::time::timeout(DRAIN, server).await.unwrap_or(Ok(()))
        }
    };
    outcome.map_err(|e| Problem::from_error(&codes::INTERNAL, &e).at("local socket"))
}
