//! An engine in memory, for tests: behaves as Docker does where planning and applying depend on it, fails and
//! dawdles on demand, and remembers what it was asked.
//!
//! Time is tokio's: with a paused clock, latencies and health checks take no time at all.

mod loading;
mod verbs;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use super::error::{Error, Kind, Result};
use super::exec::Finished;
use super::types::{
    Action, Container, EngineEvent, Health, Image, ImageConfig, ImageStore, Network, State, Volume,
};
use world::World;

/// What containers of a service do once started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Run; healthy at once where there is a health check.
    #[default]
    Run,
    /// End with this code after this time.
    Exit(i64, Duration),
    /// Run, healthy after this time.
    HealthyAfter(Duration),
    /// Run, unhealthy after this time.
    UnhealthyAfter(Duration),
    /// Run, with a health that stays unknown.
    NeverHealthy,
    /// Refuse to start.
    FailToStart,
}

/// A failure to come.
#[derive(Debug, Clone)]
struct Failure {
    verb: &'static str,
    about: String,
    kind: Kind,
    times: usize,
}

/// The fake engine. Clones share one world.
#[derive(Debug, Clone)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    events: broadcast::Sender<EngineEvent>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// An empty engine, running, on the classic image store.
    pub fn new() -> Self {
        let (events, _) = broadcast::channel(4096);
        Self { world: Arc::default(), events }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, events: Vec<EngineEvent>) {
        for event in events {
            let _ = self.events.send(event);
        }
    }

    /// Puts an image into the engine under this ID.
    pub fn add_image(&self, id: &str, config: ImageConfig) {
        let image = Image { id: id.to_owned(), config, ..Image::default() };
        self.lock().images.insert(id.to_owned(), image);
    }

    /// Puts an image with layers and tags into the engine.
    pub fn put_image(&self, image: Image) {
        self.lock().images.insert(image.id.clone(), image);
    }

    /// All images, by ID.
    pub fn images(&self) -> Vec<Image> {
        self.lock().images.values().cloned().collect()
    }

    /// Names in each archive that was sent whole, in the order in which they were completed.
    pub fn loads(&self) -> Vec<std::collections::BTreeSet<String>> {
        self.lock().loads.clone()
    }

    /// The containerd store loses its layers, and lists its images all the same.
    pub fn lose_layers(&self) {
        self.lock().layers.clear();
    }

    /// Chooses the image store that `info` reports.
    pub fn set_store(&self, store: ImageStore) {
        self.lock().store = store;
    }

    /// Sets what containers of a service do when they start from now on.
    pub fn behave(&self, service: &str, behaviour: Behaviour) {
        self.lock().behaviours.insert(service.to_owned(), behaviour);
    }

    /// How commands that contain `about` end from now on; `None` is never. Others end well.
    pub fn answer(&self, about: &str, finished: Option<Finished>) {
        self.lock().answers.insert(0, (about.to_owned(), finished));
    }

    /// Commands run so far, oldest first: `web-1: reload now`.
    pub fn execs(&self) -> Vec<String> {
        self.lock().execs.clone()
    }

    /// Lets the next `times` calls of a verb whose object contains `about` fail.
    pub fn fail(&self, verb: &'static str, about: &str, kind: Kind, times: usize) {
        self.lock().failures.push(Failure { verb, about: about.to_owned(), kind, times });
    }

    /// Time that every verb takes.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Stops the engine: verbs fail as unreachable, containers end as on a real stop, which events still tell, event streams end.
    pub fn stop_engine(&self) {
        let events = {
            let mut world = self.lock();
            world.down = true;
            world.stop_all()
        };
        self.emit(events);
        // Listeners of the old stream see its end; see `Fake::events`.
        let _ = self.events.send(EngineEvent {
            attributes: [("fake".into(), "down".into())].into(),
            ..EngineEvent::default()
        });
    }

    /// Starts the engine again; containers with a restart policy run again.
    pub fn start_engine(&self) {
        self.lock().down = false;
        let ids = self.lock().restartable();
        for id in ids {
            let _ = self.start_now(&id);
        }
    }

    /// Verbs called so far that change something, with their object, oldest first: `start web-1`.
    pub fn changes(&self) -> Vec<String> {
        self.lock().calls.iter().filter(|(_, changes)| *changes).map(|(call, _)| call.clone()).collect()
    }

    /// All verbs called so far, oldest first.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.iter().map(|(call, _)| call.clone()).collect()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.lock().calls.clear();
    }

    /// Most containers that were being started at the same moment.
    pub fn widest_start(&self) -> usize {
        self.lock().widest
    }

    /// Ends a container as if its process had, with this code.
    pub fn exit(&self, name: &str, code: i64) {
        let events = self.lock().end(name, code, false);
        self.emit(events);
    }

    /// Ends a container as `docker kill` would.
    pub fn kill(&self, name: &str) {
        let events = self.lock().end(name, 137, true);
        self.emit(events);
    }

    /// Sets a container's health.
    pub fn set_health(&self, name: &str, health: Health) {
        let events = self.lock().set_health(name, health);
        self.emit(events);
    }

    /// Changes a container behind Kedge's back.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Container)) {
        let mut world = self.lock();
        if let Some(container) = world.find_mut(name) {
            change(container);
        }
    }

    /// The same as `docker update` would, with its event.
    pub fn update_by_hand(&self, name: &str, change: impl FnOnce(&mut Container)) {
        self.tamper(name, change);
        let events = self.lock().event_of(name, Action::Update);
        self.emit(events);
    }

    /// Removes a container behind Kedge's back.
    pub fn snatch(&self, name: &str) {
        let events = self.lock().remove(name);
        self.emit(events.unwrap_or_default());
    }

    /// A container by name, with its detail.
    pub fn container(&self, name: &str) -> Option<Container> {
        self.lock().find(name).cloned()
    }

    /// All containers, by name.
    pub fn containers(&self) -> Vec<Container> {
        let mut all: Vec<_> = self.lock().containers.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Names of containers with their states, for assertions.
    pub fn states(&self) -> Vec<(String, State)> {
        self.containers().into_iter().map(|container| (container.name, container.state)).collect()
    }

    /// All networks.
    pub fn networks(&self) -> Vec<Network> {
        self.lock().networks.values().cloned().collect()
    }

    /// All volumes.
    pub fn volumes(&self) -> Vec<Volume> {
        self.lock().volumes.values().cloned().collect()
    }

    /// Puts a network there that somebody else made.
    pub fn put_network(&self, network: Network) {
        self.lock().networks.insert(network.id.clone(), network);
    }

    /// Puts a volume there that somebody else made.
    pub fn put_volume(&self, volume: Volume) {
        self.lock().volumes.insert(volume.name.clone(), volume);
    }

    /// Puts a container there that somebody else made.
    pub fn put_container(&self, container: Container) {
        self.lock().containers.insert(container.id.clone(), container);
    }

    /// Records the call, waits the latency, and fails where that was asked for.
    async fn enter(&self, verb: &'static str, about: &str, changes: bool) -> Result<()> {
        let latency = {
            let mut world = self.lock();
            let name = world.find(about).map_or_else(|| about.to_owned(), |container| container.name.clone());
            world.calls.push((format!("{verb} {name}").trim_end().to_owned(), changes));
            world.latency
        };
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let mut world = self.lock();
        if world.down {
            return Err(Error::new(Kind::Unreachable, verb, "the engine is stopped"));
        }
        let name = world.find(about).map_or_else(|| about.to_owned(), |container| container.name.clone());
        let hit = world
            .failures
            .iter_mut()
            .find(|failure| failure.times > 0 && failure.verb == verb && name.contains(&failure.about));
        match hit {
            Some(failure) => {
                failure.times -= 1;
                Err(Error::new(failure.kind, format!("{verb} {name}"), "as the test asked"))
            }
            None => Ok(()),
        }
    }

    /// Starts a container and sets off what its service does.
    fn start_now(&self, id: &str) -> Result<()> {
        let (events, behaviour) = self.lock().start(id)?;
        self.emit(events);
        let later = |fake: Fake, id: String, after: Duration, then: Action| {
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let events = match then {
                    Action::Die(code) => fake.lock().end(&id, code, false),
                    Action::Health(health) => fake.lock().set_health(&id, health),
                    _ => Vec::new(),
                };
                fake.emit(events);
            });
        };
        match behaviour {
            Behaviour::Exit(code, after) => later(self.clone(), id.to_owned(), after, Action::Die(code)),
            Behaviour::HealthyAfter(after) => {
                later(self.clone(), id.to_owned(), after, Action::Health(Health::Healthy))
            }
            Behaviour::UnhealthyAfter(after) => {
                later(self.clone(), id.to_owned(), after, Action::Health(Health::Unhealthy))
            }
            Behaviour::Run => {
                let events = self.lock().set_health(id, Health::Healthy);
                self.emit(events);
            }
            Behaviour::NeverHealthy | Behaviour::FailToStart => {}
        }
        Ok(())
    }
}
