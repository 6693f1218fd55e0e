//! The container engine: the only module that speaks to Docker.
//!
//! [`Engine`] is a trait of narrow verbs, so that everything above can be tested against [`fake::Fake`], with
//! failures, slowness and restarts on demand; [`docker::Docker`] is the real one. Verbs name objects by ID or
//! name, and are as idempotent as the engine allows: callers treat "already so" as success.
//!
//! An engine that is away is an error ([`Error::is_engine_away`]) that callers turn into "unknown", never into
//! "gone". [`wait_until_back`] awaits its return. [`EventHub`] reads the engine's one event stream for all
//! deployments; [`observe::Watcher`] keeps an observed state fresh with it, so that a pass with nothing to do
//! asks the engine nothing.

pub mod attach;
pub mod codes;
pub mod docker;
pub mod error;
pub mod events;
pub mod exec;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod observe;
pub mod spec;
pub mod types;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use attach::{Attached, Output};
pub use error::{Error, Kind, Result};
pub use events::{EventHub, Signal};
pub use exec::{Exec, Finished};
pub use spec::{ContainerSpec, NetworkSpec, Update, VolumeSpec};
pub use types::{
    Action, Container, EngineEvent, EngineInfo, Filter, Health, Image, ImageStore, Loaded, LogLine, LogQuery,
    Network, State, Subject, Volume,
};

/// A tar archive as it is produced; an error in it ends the request.
pub type TarStream = BoxStream<'static, std::io::Result<Bytes>>;

/// What Kedge asks of a container engine.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Whether it answers, within seconds.
    async fn ping(&self) -> Result<()>;
    /// Version, store, capacity.
    async fn info(&self) -> Result<EngineInfo>;

    /// Containers in any state, without [`types::Detail`].
    async fn list_containers(&self, filter: &Filter) -> Result<Vec<Container>>;
    /// Networks.
    async fn list_networks(&self, filter: &Filter) -> Result<Vec<Network>>;
    /// Volumes.
    async fn list_volumes(&self, filter: &Filter) -> Result<Vec<Volume>>;
    /// One container with its detail.
    async fn inspect_container(&self, id: &str) -> Result<Container>;

    /// Makes a container and gives its ID. Every network of the spec is attached when this returns; when an attachment
    /// fails, the container is removed again.
    async fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<String>;
    /// Starts it; success if it runs already.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Asks it to end, kills it after the grace (`None`: its own); success if it has ended already.
    async fn stop_container(&self, id: &str, grace: Option<Duration>) -> Result<()>;
    /// Sends a signal.
    async fn kill_container(&self, id: &str, signal: &str) -> Result<()>;
    /// Thaws it; success if it is not frozen.
    async fn unpause_container(&self, id: &str) -> Result<()>;
    /// Removes it, by force if it runs; its volumes, anonymous ones too, stay. Success if it is gone already.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// Renames it.
    async fn rename_container(&self, id: &str, name: &str) -> Result<()>;
    /// Changes limits and restart policy in place.
    async fn update_container(&self, id: &str, update: &Update) -> Result<()>;
    /// Waits for its end and gives the exit code; at once if it has ended.
    async fn wait_container(&self, id: &str) -> Result<i64>;
    /// Its log, decoded into lines.
    async fn logs(&self, id: &str, query: &LogQuery) -> Result<BoxStream<'static, Result<LogLine>>>;
    /// Its log as the engine gives it: every line with its end, cut where the engine cuts long ones. With `timestamps`, each
    /// piece begins with when it was said and a space.
    async fn log_output(
        &self,
        id: &str,
        query: &LogQuery,
        timestamps: bool,
    ) -> Result<BoxStream<'static, Result<Output>>>;
    /// Runs a command in a running container and waits for its end. Dropping the future stops waiting; the command goes on
    /// until its container ends, because Docker cannot end it.
    async fn exec(&self, id: &str, command: &Exec) -> Result<Finished>;
    /// What a container's process says from now on, and what it is told. Attach before it starts, and nothing is missed.
    /// Dropping it leaves the container alone.
    async fn attach(&self, id: &str) -> Result<Attached>;
    /// Sets the size of a container's terminal.
    async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<()>;
    /// Unpacks a tar archive into a folder of the container, running or not.
    async fn put_archive(&self, id: &str, folder: &str, tar: Bytes) -> Result<()>;
    /// A file or folder of a container, as a tar.
    async fn get_archive(&self, id: &str, path: &str) -> Result<TarStream>;

    /// Makes a network and gives its ID.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String>;
    /// Removes a network; success if it is gone already.
    async fn remove_network(&self, id: &str) -> Result<()>;
    /// Attaches a container to a network.
    async fn connect(
        &self,
        network: &str,
        container: &str,
        endpoint: &kedge_compose::model::Attachment,
    ) -> Result<()>;
    /// Detaches it, by force; success if it is not attached.
    async fn disconnect(&self, network: &str, container: &str) -> Result<()>;

    /// Makes a volume; success if one of this name and driver exists.
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()>;
    /// Removes a volume and its data. Only the customer's explicit local removal calls this; no plan ever does.
    async fn remove_volume(&self, name: &str) -> Result<()>;

    /// All images, without [`Image::diff_ids`] and [`Image::config`].
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// One image by ID or reference, with everything.
    async fn inspect_image(&self, reference: &str) -> Result<Image>;
    /// Gives an image another name.
    async fn tag_image(&self, reference: &str, repository: &str, tag: &str) -> Result<()>;
    /// Removes a name, or with its last name the image. Success if it is gone already.
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// An image as a tar archive, as `docker save` writes it. Errors on the way end the stream.
    async fn save(&self, reference: &str) -> Result<TarStream>;
    /// Loads images from a tar archive.
    async fn load(&self, tar: TarStream) -> Result<Loaded>;

    /// Events of containers, networks and volumes since a time (nanoseconds since 1970), then as they happen.
    /// The stream ends or fails when the engine stops.
    async fn events(&self, since: i64) -> Result<BoxStream<'static, Result<EngineEvent>>>;
}

/// First and longest pause between pings of [`wait_until_back`].
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Returns once the engine answers. Pauses double up to 5 s, each jittered by up to half, so that a
/// host's agents and tools do not knock in step.
pub async fn wait_until_back(engine: &dyn Engine) {
    let mut pause = PAUSES.0;
    while engine.ping().await.is_err() {
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
