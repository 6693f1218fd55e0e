//! Docker, through its API on a unix socket: Engine 20.10 (API 1.41) and newer.
//!
//! The API version is negotiated at the first request and again whenever events are subscribed to, which is what happens after
//! every restart of the engine, so that an engine upgraded underneath is spoken to as it wants.

mod containers;
mod convert;
mod create;
mod errors;
mod images;
mod inspect;
mod networks;
mod streams;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::ClientVersion;
use bollard::models::SystemInfo;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use kedge_compose::model::Attachment;

use super::attach::{Attached, Output};
use super::error::{Error, Kind, Result};
use super::exec::{Exec, Finished};
use super::spec::{ContainerSpec, NetworkSpec, Update, VolumeSpec};
use super::types::{
    Container, EngineEvent, EngineInfo, Filter, Image, ImageStore, Loaded, LogLine, LogQuery, Network, Volume,
};
use super::{Engine, TarStream};
use errors::Context;

/// Newest API version whose answers we know; engines speak it or older.
const NEWEST_API: ClientVersion = ClientVersion { major_version: 1, minor_version: 48 };

/// Time for an engine that is there to say so.
const PING: Duration = Duration::from_secs(5);
/// Time for an ordinary request: engines on slow disks take their time to remove and to create.
const ORDINARY: Duration = Duration::from_secs(120);
/// Time for requests that last as long as something else does: a container's end, an image's unpacking.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// A Docker engine.
#[derive(Debug)]
pub struct Docker {
    socket: String,
    client: Mutex<Option<bollard::Docker>>,
}

impl Docker {
    /// The engine behind this socket, `/var/run/docker.sock`. Nothing is asked yet, so an engine that is down
    /// is no error here.
    pub fn at(socket: impl Into<String>) -> Self {
        let socket = socket.into();
        let socket = socket.strip_prefix("unix://").map(str::to_owned).unwrap_or(socket);
        Self { socket, client: Mutex::new(None) }
    }

    /// The socket's path.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    async fn client(&self) -> Result<bollard::Docker> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(client) => Ok(client),
            None => self.negotiate().await,
        }
    }

    /// Connects and agrees on a version, anew.
    async fn negotiate(&self) -> Result<bollard::Docker> {
        let what = || format!("connect to the engine at {}", self.socket);
        let client =
            bollard::Docker::connect_with_unix(&self.socket, PING.as_secs(), &NEWEST_API).context(what)?;
        let client = client.negotiate_version().await.context(what)?.with_timeout(ORDINARY);
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    async fn patient(&self) -> Result<bollard::Docker> {
        Ok(self.client().await?.with_timeout(LONG))
    }
}

/// Whether a client speaks at least this version of the API.
fn speaks(client: &bollard::Docker, minor: usize) -> bool {
    client.client_version() >= ClientVersion { major_version: 1, minor_version: minor }
}

/// Docker's filters: values of one key are alternatives. Names are matched as patterns and compared again by the caller.
fn filters(filter: &Filter) -> HashMap<String, Vec<String>> {
    let mut filters = HashMap::new();
    if !filter.labels.is_empty() {
        filters.insert("label".to_owned(), filter.labels.clone());
    }
    if !filter.names.is_empty() {
        let pattern = |name: &String| format!("^/?{}$", name.replace('.', "\\."));
        filters.insert("name".to_owned(), filter.names.iter().map(pattern).collect());
    }
    filters
}

#[async_trait]
impl Engine for Docker {
    async fn ping(&self) -> Result<()> {
        let client = match self.client().await {
            Ok(client) => client.with_timeout(PING),
            Err(error) => return Err(error),
        };
        client.ping().await.map(|_| ()).context(|| format!("ping the engine at {}", self.socket))
    }

    async fn info(&self) -> Result<EngineInfo> {
        let client = self.client().await?;
        let info = client.info().await.context(|| "ask the engine about itself".to_owned())?;
        let version = client.client_version();
        Ok(engine_info(info, format!("{}.{}", version.major_version, version.minor_version)))
    }

    async fn list_containers(&self, filter: &Filter) -> Result<Vec<Container>> {
        containers::list(&self.client().await?, filter).await
    }

    async fn list_networks(&self, filter: &Filter) -> Result<Vec<Network>> {
        networks::list(&self.client().await?, filter).await
    }

    async fn list_volumes(&self, filter: &Filter) -> Result<Vec<Volume>> {
        networks::list_volumes(&self.client().await?, filter).await
    }

    async fn inspect_container(&self, id: &str) -> Result<Container> {
        containers::inspect(&self.client().await?, id).await
    }

    async fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<String> {
        containers::create(&self.client().await?, name, spec).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        containers::start(&self.client().await?, id).await
    }

    async fn stop_container(&self, id: &str, grace: Option<Duration>) -> Result<()> {
        containers::stop(&self.patient().await?, id, grace).await
    }

    async fn kill_container(&self, id: &str, signal: &str) -> Result<()> {
        containers::kill(&self.client().await?, id, signal).await
    }

    async fn unpause_container(&self, id: &str) -> Result<()> {
        containers::unpause(&self.client().await?, id).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        containers::remove(&self.client().await?, id).await
    }

    async fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        containers::rename(&self.client().await?, id, name).await
    }

    async fn update_container(&self, id: &str, update: &Update) -> Result<()> {
        containers::update(&self.client().await?, id, update).await
    }

    async fn wait_container(&self, id: &str) -> Result<i64> {
        containers::wait(&self.patient().await?, id).await
    }

    async fn logs(&self, id: &str, query: &LogQuery) -> Result<BoxStream<'static, Result<LogLine>>> {
        Ok(streams::logs(&self.client().await?, id, query))
    }

    async fn log_output(
        &self,
        id: &str,
        query: &LogQuery,
        timestamps: bool,
    ) -> Result<BoxStream<'static, Result<Output>>> {
        Ok(streams::log_output(&self.client().await?, id, query, timestamps))
    }

    async fn exec(&self, id: &str, command: &Exec) -> Result<Finished> {
        containers::exec(&self.patient().await?, id, command).await
    }

    async fn attach(&self, id: &str) -> Result<Attached> {
        streams::attach(&self.patient().await?, id).await
    }

    async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        containers::resize(&self.client().await?, id, rows, columns).await
    }

    async fn put_archive(&self, id: &str, folder: &str, tar: Bytes) -> Result<()> {
        containers::put_archive(&self.client().await?, id, folder, tar).await
    }

    async fn get_archive(&self, id: &str, path: &str) -> Result<TarStream> {
        Ok(containers::get_archive(&self.patient().await?, id, path))
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        networks::create(&self.client().await?, spec).await
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        networks::remove(&self.client().await?, id).await
    }

    async fn connect(&self, network: &str, container: &str, endpoint: &Attachment) -> Result<()> {
        networks::connect(&self.client().await?, network, container, endpoint, &[]).await
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        networks::disconnect(&self.client().await?, network, container).await
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        networks::create_volume(&self.client().await?, spec).await
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        networks::remove_volume(&self.client().await?, name).await
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        images::list(&self.client().await?).await
    }

    async fn inspect_image(&self, reference: &str) -> Result<Image> {
        images::inspect(&self.client().await?, reference).await
    }

    async fn tag_image(&self, reference: &str, repository: &str, tag: &str) -> Result<()> {
        images::tag(&self.client().await?, reference, repository, tag).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        images::remove(&self.client().await?, reference).await
    }

    async fn save(&self, reference: &str) -> Result<TarStream> {
        Ok(images::save(&self.patient().await?, reference))
    }

    async fn load(&self, tar: TarStream) -> Result<Loaded> {
        images::load(&self.patient().await?, tar).await
    }

    async fn events(&self, since: i64) -> Result<BoxStream<'static, Result<EngineEvent>>> {
        let client = self.negotiate().await?;
        Ok(streams::events(&client, since))
    }
}

fn engine_info(info: SystemInfo, api: String) -> EngineInfo {
    let driver_status = info.driver_status.unwrap_or_default();
    let is_containerd =
        |pair: &Vec<String>| pair.iter().any(|word| word.starts_with("io.containerd.snapshotter"));
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    let architecture = match info.architecture.as_deref() {
        Some("x86_64") => "amd64",
        Some("aarch64") => "arm64",
        other => other.unwrap_or_default(),
    };
    EngineInfo {
        version: info.server_version.unwrap_or_default(),
        api,
        store: if driver_status.iter().any(is_containerd) {
            ImageStore::Containerd
        } else {
            ImageStore::Classic
        },
        storage_driver: info.driver.unwrap_or_default(),
        root_dir: info.docker_root_dir.unwrap_or_default(),
        cgroup_version: info
            .cgroup_version
            .map(|version| version.to_string())
            .and_then(|version| version.parse().ok())
            .unwrap_or(1),
        cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
        os: info.operating_system.unwrap_or_default(),
        platform: format!("{}/{architecture}", info.os_type.unwrap_or_default()),
        runtimes: {
            let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
            runtimes.sort();
            runtimes
        },
        log_drivers: info.plugins.and_then(|plugins| plugins.log).unwrap_or_default(),
        cpus: number(info.ncpu),
        memory: number(info.mem_total),
        security: info.security_options.unwrap_or_default(),
        warnings: info.warnings.unwrap_or_default(),
    }
}

/// Refuses what an older engine would silently ignore.
fn needs(client: &bollard::Docker, minor: usize, what: &str, engine: &str) -> Result<()> {
    if speaks(client, minor) {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, what, format!("needs Docker Engine {engine} or newer")))
}
