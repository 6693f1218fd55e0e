//! A few words in which stacks and engines are described.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kedge_compose::model::{
    Attachment, Condition, Dependency, Healthcheck, Mount, MountKind, Network, Port, Project, Restart,
    Service, Volume,
};

use crate::engine::spec::{LABEL_DEPLOYMENT, LABEL_RANGE, LABEL_SPEC};
use crate::engine::types::{Container, Detail, Endpoint, Health, ImageConfig, MountPoint, PortInUse, State};
use crate::engine::types::{Network as SeenNetwork, Volume as SeenVolume};
use crate::plan::desired::{Desired, HostFile, PlacedImage, Placement, Problem};
use crate::plan::{KEPT, Observed};

/// A project in the making; the deployment and the project are called `p`.
#[derive(Clone, Default)]
pub(crate) struct Stack {
    pub(crate) project: Project,
    pub(crate) image: ImageConfig,
    /// Contents of files, by path, for their digests.
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) relabel: bool,
}

impl Stack {
    /// A project with the network `default` and these services, each `name` or `name>other` with conditions `:healthy`,
    /// `:done`, `:restart` on the dependency.
    pub(crate) fn of(services: &[&str]) -> Self {
        let mut stack = Self::default();
        stack.project.name = "p".into();
        stack
            .project
            .networks
            .insert("default".into(), Network { name: "p_default".into(), ..Network::default() });
        for service in services {
            stack = stack.with(service);
        }
        stack
    }

    pub(crate) fn with(mut self, text: &str) -> Self {
        let mut parts = text.split('>');
        let name = parts.next().unwrap().trim();
        let mut service = Service {
            name: name.into(),
            image: "app:1".into(),
            replicas: 1,
            networks: [("default".to_owned(), Attachment::default())].into(),
            ..Service::default()
        };
        for dependency in parts {
            let (on, how) = dependency.split_once(':').unwrap_or((dependency, "started"));
            let condition = match how {
                "healthy" => Condition::ServiceHealthy,
                "done" => Condition::ServiceCompletedSuccessfully,
                _ => Condition::ServiceStarted,
            };
            service.depends_on.insert(
                on.trim().into(),
                Dependency { condition, restart: how == "restart", required: true },
            );
            if condition == Condition::ServiceHealthy {
                self = self.edit(on.trim(), |other| other.healthcheck = Some(check()));
            }
        }
        self.project.services.insert(name.into(), service);
        self
    }

    pub(crate) fn edit(mut self, service: &str, change: impl FnOnce(&mut Service)) -> Self {
        change(self.project.services.get_mut(service).unwrap());
        self
    }

    pub(crate) fn image(self, service: &str, image: &str) -> Self {
        self.edit(service, |service| service.image = image.into())
    }

    pub(crate) fn port(self, service: &str, published: &str) -> Self {
        let port =
            Port { target: 80, protocol: "tcp".into(), published: published.into(), ..Port::default() };
        self.edit(service, |service| service.ports.push(port))
    }

    pub(crate) fn volume(mut self, service: &str, key: &str) -> Self {
        self.project.volumes.insert(key.into(), Volume { name: format!("p_{key}"), ..Volume::default() });
        let mount = Mount { source: Some(key.into()), target: format!("/{key}"), ..Mount::default() };
        self.edit(service, |service| service.volumes.push(mount))
    }

    pub(crate) fn network(mut self, service: &str, key: &str) -> Self {
        self.project.networks.insert(key.into(), Network { name: format!("p_{key}"), ..Network::default() });
        self.edit(service, |service| {
            service.networks.insert(key.into(), Attachment::default());
        })
    }

    pub(crate) fn restart(self, service: &str, restart: Restart) -> Self {
        self.edit(service, |service| service.restart = restart)
    }

    pub(crate) fn replicas(self, service: &str, replicas: u32) -> Self {
        self.edit(service, |service| service.replicas = replicas)
    }

    pub(crate) fn compile(&self) -> Result<Desired, Vec<Problem>> {
        self.compile_as(1)
    }

    pub(crate) fn compile_as(&self, generation: u64) -> Result<Desired, Vec<Problem>> {
        let mut images = BTreeMap::new();
        for reference in ["app:1", "app:2", "tool:1"] {
            images.insert(
                reference.to_owned(),
                PlacedImage { id: format!("sha256:{reference}"), config: self.image.clone() },
            );
        }
        let file = |used: &crate::plan::desired::FileUse<'_>| {
            use crate::plan::desired::FileUse;
            let path = match used {
                FileUse::Bind { path, .. } => *path,
                FileUse::Config { key, .. } | FileUse::Secret { key, .. } => key,
            };
            let digest = self.files.get(path).cloned();
            (path != "/missing").then(|| HostFile {
                path: format!("/host{path}"),
                digest,
                is_ours: path != "/etc/host",
            })
        };
        Desired::compile(
            &self.project,
            &Placement {
                deployment: "p",
                generation,
                images: &images,
                file: &file,
                relabel: self.relabel,
                working_dir: "/work",
                config_files: &["compose.yaml".to_owned()],
                labels: &BTreeMap::new(),
            },
        )
    }

    pub(crate) fn desired(&self) -> Desired {
        self.compile().unwrap()
    }

    /// An engine in which all of this runs and is healthy; jobs have ended well.
    pub(crate) fn running(&self) -> Observed {
        let desired = self.desired();
        let mut observed = Observed::default();
        for (name, spec) in &desired.networks {
            observed.networks.push(SeenNetwork {
                id: format!("id-{name}"),
                name: name.clone(),
                driver: "bridge".into(),
                internal: spec.internal,
                labels: spec.labels.clone(),
                ..SeenNetwork::default()
            });
        }
        for (name, spec) in &desired.volumes {
            observed.volumes.push(SeenVolume {
                name: name.clone(),
                driver: "local".into(),
                labels: spec.labels.clone(),
                ..SeenVolume::default()
            });
        }
        for (name, wanted) in &desired.containers {
            let is_job = desired.services[&wanted.service].is_job;
            let mut spec = wanted.spec.over(&wanted.image);
            for mode in [&mut spec.network_mode, &mut spec.pid, &mut spec.ipc].into_iter().flatten() {
                if let Some(joined) = mode.strip_prefix("container:") {
                    *mode = format!("container:id-{joined}");
                }
            }
            let endpoint = |(network, attachment): (&String, &Attachment)| {
                let endpoint = Endpoint {
                    network_id: format!("id-{network}"),
                    aliases: attachment.aliases.clone(),
                    ..Endpoint::default()
                };
                (network.clone(), endpoint)
            };
            let mount = |mount: &Mount| MountPoint {
                kind: if mount.kind == MountKind::Bind { "bind" } else { "volume" }.into(),
                name: (mount.kind == MountKind::Volume)
                    .then(|| mount.source.clone().unwrap_or_else(|| format!("anonymous-{name}"))),
                source: if mount.kind == MountKind::Bind {
                    mount.source.clone().unwrap()
                } else {
                    String::new()
                },
                target: mount.target.clone(),
                writable: !mount.read_only,
            };
            let mut mounts: Vec<MountPoint> = spec.mounts.iter().map(mount).collect();
            mounts.extend(wanted.image.volumes.iter().map(|target| MountPoint {
                kind: "volume".into(),
                name: Some(format!("anonymous-{name}")),
                target: target.clone(),
                writable: true,
                ..MountPoint::default()
            }));
            let checked = wanted.spec.is_checked(&wanted.image);
            let ports = spec.ports.iter().filter_map(|port| {
                let host_port = port.published.parse().ok()?;
                Some(PortInUse {
                    host_port,
                    target: port.target,
                    protocol: port.protocol.clone(),
                    ..PortInUse::default()
                })
            });
            observed.containers.push(Container {
                id: format!("id-{name}"),
                name: name.clone(),
                image_id: spec.image.clone(),
                state: if is_job { State::Exited } else { State::Running },
                health: if checked && !is_job { Health::Healthy } else { Health::None },
                exit_code: is_job.then_some(0),
                labels: spec.labels.clone(),
                ports: ports.collect(),
                detail: Some(Detail {
                    networks: spec.endpoints.iter().map(endpoint).collect(),
                    mounts,
                    created_at: "2026-01-01T00:00:00Z".parse().ok(),
                    started_at: "2026-01-01T00:00:05Z".parse().ok(),
                    spec,
                    ..Detail::default()
                }),
            });
        }
        observed
    }
}

/// A health check.
pub(crate) fn check() -> Healthcheck {
    Healthcheck {
        test: vec!["CMD".into(), "true".into()],
        interval: Some(Duration::from_secs(1)),
        ..Healthcheck::default()
    }
}

/// Changes to an engine's content, for chaining.
pub(crate) trait Observing: Sized {
    /// Changes a container.
    fn but(self, name: &str, change: impl FnOnce(&mut Container)) -> Self;
    /// Takes a container away.
    fn gone(self, name: &str) -> Self;
    /// Ends a container with this code.
    fn ended(self, name: &str, code: i64) -> Self {
        self.but(name, |container| {
            container.state = State::Exited;
            container.exit_code = Some(code);
            container.ports.clear();
        })
    }
    /// Makes the container look as if it had been made from another spec, by another program.
    fn changed(self, name: &str, change: impl FnOnce(&mut Container)) -> Self {
        self.but(name, |container| {
            container.labels.insert(LABEL_SPEC.into(), "another".into());
            change(container);
        })
    }
    /// Lets containers keep their addresses in every network.
    fn keeping_addresses(self) -> Self;
    /// Makes the container one that was kept.
    fn kept(self, name: &str) -> Self {
        self.ended(name, 0).but(name, |container| {
            container.name = format!("{}{KEPT}id-p-web", container.name);
        })
    }
}

impl Observing for Observed {
    fn but(mut self, name: &str, change: impl FnOnce(&mut Container)) -> Self {
        change(self.containers.iter_mut().find(|container| container.name == name).unwrap());
        self
    }

    fn keeping_addresses(mut self) -> Self {
        for network in &mut self.networks {
            network.labels.insert(LABEL_RANGE.into(), "of the engine".into());
        }
        self
    }

    fn gone(mut self, name: &str) -> Self {
        let before = self.containers.len();
        self.containers.retain(|container| container.name != name);
        assert_ne!(before, self.containers.len());
        self
    }
}

/// A container that is not ours.
pub(crate) fn stranger(name: &str) -> Container {
    Container {
        id: format!("stranger-{name}"),
        name: name.into(),
        state: State::Running,
        ..Container::default()
    }
}

/// Labels of another deployment.
pub(crate) fn of_another() -> BTreeMap<String, String> {
    [(LABEL_DEPLOYMENT.to_owned(), "other".to_owned())].into()
}

/// Names of the containers, for comparing sets.
pub(crate) fn names(observed: &Observed) -> BTreeSet<&str> {
    observed.containers.iter().map(|container| container.name.as_str()).collect()
}
