//! The state of the fake engine and the rules by which it changes; no time, no tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kedge_compose::model::{Attachment, MountKind, Restart};

use super::super::error::{Error, Kind, Result};
use super::super::exec::Finished;
use super::super::spec::{ContainerSpec, LABEL_HOOK, LABEL_SERVICE};
use super::super::types::{
    Action, Container, Detail, Endpoint, EngineEvent, Health, Image, ImageStore, MountPoint, Network,
    PortInUse, State, Subject, Volume,
};
use super::{Behaviour, Failure};

/// Everything the fake engine holds.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) networks: BTreeMap<String, Network>,
    pub(super) volumes: BTreeMap<String, Volume>,
    pub(super) images: BTreeMap<String, Image>,
    /// Layers of the containerd store.
    pub(super) layers: BTreeSet<kedge_bundle::digest::Digest>,
    /// What each archive held that was loaded.
    pub(super) loads: Vec<BTreeSet<String>>,
    pub(super) behaviours: BTreeMap<String, Behaviour>,
    pub(super) failures: Vec<Failure>,
    pub(super) calls: Vec<(String, bool)>,
    /// How commands end, by a part of them.
    pub(super) answers: Vec<(String, Option<Finished>)>,
    pub(super) execs: Vec<String>,
    pub(super) latency: Duration,
    pub(super) down: bool,
    pub(super) store: ImageStore,
    pub(super) starting: usize,
    pub(super) widest: usize,
    /// Containers stopped on request: an engine restart leaves those with `unless-stopped` alone.
    stopped_on_request: BTreeSet<String>,
    next: u64,
    clock: i64,
}

fn missing(what: &str) -> Error {
    Error::new(Kind::NotFound, what, "No such container")
}

impl World {
    fn fresh_id(&mut self) -> String {
        self.next += 1;
        // As with the real ones, the first digits tell them apart.
        format!("{0:08x}{0:056x}", self.next)
    }

    /// A clock that only goes on when something happens.
    fn now(&mut self) -> Option<Timestamp> {
        self.clock += 1;
        Timestamp::from_second(self.clock).ok()
    }

    pub(super) fn find(&self, reference: &str) -> Option<&Container> {
        self.containers
            .get(reference)
            .or_else(|| self.containers.values().find(|container| container.name == reference))
    }

    pub(super) fn find_mut(&mut self, reference: &str) -> Option<&mut Container> {
        let id = self.find(reference)?.id.clone();
        self.containers.get_mut(&id)
    }

    pub(super) fn network(&self, reference: &str) -> Option<&Network> {
        self.networks
            .get(reference)
            .or_else(|| self.networks.values().find(|network| network.name == reference))
    }

    fn event(&mut self, id: &str, action: Action) -> Vec<EngineEvent> {
        let container = self.find(id);
        let mut attributes = container.map(|container| container.labels.clone()).unwrap_or_default();
        attributes.extend(container.map(|container| ("name".to_owned(), container.name.clone())));
        vec![EngineEvent {
            at: super::super::events::now_nanos(),
            subject: Subject::Container,
            action,
            id: id.to_owned(),
            attributes,
        }]
    }

    /// An event about a container by name; none where there is none.
    pub(super) fn event_of(&mut self, name: &str, action: Action) -> Vec<EngineEvent> {
        let id = self.find(name).map(|container| container.id.clone());
        id.map(|id| self.event(&id, action)).unwrap_or_default()
    }

    pub(super) fn create(&mut self, name: &str, spec: &ContainerSpec) -> Result<(String, Vec<EngineEvent>)> {
        let what = format!("create container {name}");
        if self.find(name).is_some() {
            return Err(Error::new(Kind::NameTaken, what, "the name is already in use by container"));
        }
        let image = self
            .images
            .get(&spec.image)
            .ok_or_else(|| Error::new(Kind::NoImage, what.as_str(), "No such image"))?;
        let (config, image_id) = (image.config.clone(), image.id.clone());
        let mut whole = spec.over(&config);
        if let Some(joined) = spec.network_mode.as_deref().and_then(|mode| mode.strip_prefix("container:")) {
            let joined = self.find(joined).ok_or_else(|| missing(&what))?;
            whole.network_mode = Some(format!("container:{}", joined.id));
        }
        let id = self.fresh_id();
        let mut mounts: Vec<MountPoint> = Vec::new();
        for mount in &spec.mounts {
            if mount.kind == MountKind::Volume {
                let source = mount.source.clone().unwrap_or_else(|| self.fresh_id());
                self.volumes.entry(source.clone()).or_insert_with(|| Volume {
                    name: source.clone(),
                    driver: "local".into(),
                    ..Volume::default()
                });
                mounts.push(MountPoint {
                    kind: "volume".into(),
                    name: Some(source),
                    target: mount.target.clone(),
                    writable: !mount.read_only,
                    ..MountPoint::default()
                });
            }
        }
        for target in &config.volumes {
            if !spec.mounts.iter().any(|mount| &mount.target == target) {
                let source = self.fresh_id();
                self.volumes.insert(
                    source.clone(),
                    Volume { name: source.clone(), driver: "local".into(), ..Volume::default() },
                );
                mounts.push(MountPoint {
                    kind: "volume".into(),
                    name: Some(source),
                    target: target.clone(),
                    writable: true,
                    ..MountPoint::default()
                });
            }
        }
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            image_id,
            labels: whole.labels.clone(),
            detail: Some(Detail { spec: whole, mounts, created_at: self.now(), ..Detail::default() }),
            ..Container::default()
        };
        self.containers.insert(id.clone(), container);
        for (network, attachment) in &spec.endpoints {
            if let Err(error) = self.connect(network, &id, attachment) {
                self.containers.remove(&id);
                return Err(error);
            }
        }
        let events = self.event(&id, Action::Create);
        Ok((id, events))
    }

    pub(super) fn connect(&mut self, network: &str, container: &str, attachment: &Attachment) -> Result<()> {
        let what = format!("connect {container} to {network}");
        let network = self
            .network(network)
            .ok_or_else(|| Error::new(Kind::NotFound, what.as_str(), "network not found"))?;
        let (id, name, keeps) = (network.id.clone(), network.name.clone(), network.keeps_addresses());
        if attachment.ipv4_address.is_some() && !keeps {
            let why = "user specified IP address is supported only when connecting to networks with user configured subnets";
            return Err(Error::new(Kind::Refused, what, why));
        }
        self.next += 1;
        let fresh = format!("10.0.{}.{}", self.next / 256 % 256, self.next % 256);
        let container = self.find_mut(container).ok_or_else(|| missing(&what))?;
        let detail = container.detail.get_or_insert_default();
        if detail.networks.contains_key(&name) {
            return Err(Error::new(Kind::NameTaken, what, "endpoint with name already exists in network"));
        }
        let endpoint = Endpoint {
            network_id: id,
            aliases: attachment.aliases.clone(),
            ip: attachment.ipv4_address.clone().or(Some(fresh)),
            ipv4_address: attachment.ipv4_address.clone(),
            ipv6_address: attachment.ipv6_address.clone(),
        };
        detail.networks.insert(name.clone(), endpoint);
        detail.spec.endpoints.insert(name, attachment.clone());
        Ok(())
    }

    pub(super) fn disconnect(&mut self, network: &str, container: &str) -> Result<()> {
        let name = self.network(network).map_or_else(|| network.to_owned(), |network| network.name.clone());
        let what = format!("disconnect {container} from {network}");
        let detail = self.find_mut(container).ok_or_else(|| missing(&what))?.detail.get_or_insert_default();
        detail.networks.remove(&name);
        detail.spec.endpoints.remove(&name);
        Ok(())
    }

    pub(super) fn start(&mut self, reference: &str) -> Result<(Vec<EngineEvent>, Behaviour)> {
        let what = format!("start container {reference}");
        let container = self.find(reference).ok_or_else(|| missing(&what))?.clone();
        let id = container.id.clone();
        match container.state {
            State::Running | State::Restarting => return Ok((Vec::new(), Behaviour::NeverHealthy)),
            State::Paused | State::Removing | State::Dead => {
                return Err(Error::new(Kind::Conflict, what, "its state does not allow that"));
            }
            State::Created | State::Exited => {}
        }
        let detail = container.detail.clone().unwrap_or_default();
        for (name, endpoint) in &detail.networks {
            if !self.networks.contains_key(&endpoint.network_id) {
                return Err(Error::new(Kind::NotFound, what, format!("network {name} not found")));
            }
        }
        if let Some(joined) =
            detail.spec.network_mode.as_deref().and_then(|mode| mode.strip_prefix("container:"))
            && self.containers.get(joined).is_none_or(|joined| joined.state != State::Running)
        {
            return Err(Error::new(
                Kind::StartFailed,
                what,
                "cannot join network of a non running container",
            ));
        }
        let ports: Vec<PortInUse> = detail
            .spec
            .ports
            .iter()
            .filter_map(|port| {
                let host_port = port.published.parse().ok()?;
                Some(PortInUse {
                    host_ip: port.host_ip.clone(),
                    host_port,
                    target: port.target,
                    protocol: port.protocol.clone(),
                })
            })
            .collect();
        let taken = |port: &PortInUse| {
            self.containers.values().any(|other| {
                other.state == State::Running
                    && other
                        .ports
                        .iter()
                        .any(|used| used.host_port == port.host_port && used.protocol == port.protocol)
            })
        };
        if ports.iter().any(taken) {
            return Err(Error::new(Kind::PortTaken, what, "port is already allocated"));
        }
        // A hook's container ends, and is told what to do by the name of its hook.
        let hook = container.labels.get(LABEL_HOOK);
        let service = hook.or(container.labels.get(LABEL_SERVICE)).cloned().unwrap_or_default();
        let otherwise = hook.map(|_| Behaviour::Exit(0, Duration::ZERO)).unwrap_or_default();
        let behaviour = self.behaviours.get(&service).copied().unwrap_or(otherwise);
        if behaviour == Behaviour::FailToStart {
            return Err(Error::new(Kind::StartFailed, what, "OCI runtime create failed"));
        }
        let checked = detail
            .spec
            .healthcheck
            .as_ref()
            .is_some_and(|check| !check.test.is_empty() && check.test != ["NONE"]);
        let now = self.now();
        if let Some(container) = self.containers.get_mut(&id) {
            container.detail.get_or_insert_default().started_at = now;
            container.state = State::Running;
            container.ports = ports;
            container.exit_code = None;
            container.health = if checked { Health::Starting } else { Health::None };
        }
        self.stopped_on_request.remove(&id);
        Ok((self.event(&id, Action::Start), behaviour))
    }

    /// Ends a container; with a restart policy that applies, it is at once running again.
    pub(super) fn end(&mut self, reference: &str, code: i64, on_request: bool) -> Vec<EngineEvent> {
        let Some(container) = self.find_mut(reference) else { return Vec::new() };
        if !matches!(container.state, State::Running | State::Paused) {
            return Vec::new();
        }
        let id = container.id.clone();
        container.state = State::Exited;
        container.exit_code = Some(code);
        container.ports.clear();
        container.health = if container.health == Health::None { Health::None } else { Health::Unhealthy };
        let policy = container.detail.as_ref().map(|detail| detail.spec.restart).unwrap_or_default();
        let mut events = if on_request { self.event(&id, Action::Kill) } else { Vec::new() };
        events.extend(self.event(&id, Action::Die(code)));
        if on_request {
            self.stopped_on_request.insert(id.clone());
            events.extend(self.event(&id, Action::Stop));
            return events;
        }
        let again = match policy {
            Restart::No => false,
            Restart::Always | Restart::UnlessStopped => true,
            Restart::OnFailure { max_retries } => {
                let detail = self.find_mut(&id).map(|container| container.detail.get_or_insert_default());
                code != 0
                    && detail.is_some_and(|detail| {
                        detail.restarts += 1;
                        max_retries.is_none_or(|most| detail.restarts <= u64::from(most))
                    })
            }
        };
        if again && let Ok((started, behaviour)) = self.start(&id) {
            events.extend(started);
            if behaviour == Behaviour::Run {
                events.extend(self.set_health(&id, Health::Healthy));
            }
        }
        events
    }

    pub(super) fn set_health(&mut self, reference: &str, health: Health) -> Vec<EngineEvent> {
        let Some(container) = self.find_mut(reference) else { return Vec::new() };
        if container.state != State::Running || container.health == Health::None || container.health == health
        {
            return Vec::new();
        }
        container.health = health;
        let id = container.id.clone();
        self.event(&id, Action::Health(health))
    }

    pub(super) fn remove(&mut self, reference: &str) -> Result<Vec<EngineEvent>> {
        let Some(container) = self.find(reference) else { return Ok(Vec::new()) };
        let id = container.id.clone();
        let events = self.event(&id, Action::Destroy);
        self.containers.remove(&id);
        Ok(events)
    }

    pub(super) fn rename(&mut self, reference: &str, name: &str) -> Result<Vec<EngineEvent>> {
        let what = format!("rename container {reference} to {name}");
        if self.find(name).is_some() {
            return Err(Error::new(Kind::NameTaken, what, "the name is already in use by container"));
        }
        let container = self.find_mut(reference).ok_or_else(|| missing(&what))?;
        container.name = name.to_owned();
        let id = container.id.clone();
        Ok(self.event(&id, Action::Rename))
    }

    pub(super) fn create_network(&mut self, network: Network) -> Result<String> {
        if self.network(&network.name).is_some() {
            return Err(Error::new(
                Kind::NameTaken,
                format!("create network {}", network.name),
                "network already exists",
            ));
        }
        let id = self.fresh_id();
        self.networks.insert(id.clone(), Network { id: id.clone(), ..network });
        Ok(id)
    }

    pub(super) fn remove_network(&mut self, reference: &str) -> Result<()> {
        let Some(network) = self.network(reference) else { return Ok(()) };
        let id = network.id.clone();
        let used = self.containers.values().any(|container| {
            container.state == State::Running
                && container
                    .detail
                    .as_ref()
                    .is_some_and(|detail| detail.networks.values().any(|endpoint| endpoint.network_id == id))
        });
        if used {
            return Err(Error::new(
                Kind::Conflict,
                format!("remove network {reference}"),
                "network has active endpoints",
            ));
        }
        self.networks.remove(&id);
        Ok(())
    }

    /// Ends all containers as the engine's own stop does.
    pub(super) fn stop_all(&mut self) -> Vec<EngineEvent> {
        let mut ended = Vec::new();
        for container in self.containers.values_mut().filter(|container| container.state == State::Running) {
            container.state = State::Exited;
            container.exit_code = Some(0);
            container.ports.clear();
            ended.push(container.id.clone());
        }
        let mut events = Vec::new();
        for id in ended {
            let mut kill = self.event(&id, Action::Kill);
            kill.iter_mut().for_each(|event| {
                event.attributes.insert("signal".into(), "15".into());
            });
            events.extend(kill);
            events.extend(self.event(&id, Action::Die(0)));
        }
        events
    }

    /// Containers the engine starts by itself when it starts.
    pub(super) fn restartable(&self) -> Vec<String> {
        let again = |container: &&Container| {
            let policy = container.detail.as_ref().map(|detail| detail.spec.restart).unwrap_or_default();
            container.state == State::Exited
                && match policy {
                    Restart::Always => true,
                    Restart::UnlessStopped => !self.stopped_on_request.contains(&container.id),
                    Restart::No | Restart::OnFailure { .. } => false,
                }
        };
        self.containers.values().filter(again).map(|container| container.id.clone()).collect()
    }
}
