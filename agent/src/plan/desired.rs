//! From a compose project to what the engine should hold: containers, networks and volumes by name, every
//! reference resolved.
//!
//! Nothing here depends on a generation: the same project with the same images and files compiles to the same
//! specs, so an update that changes one service disturbs one service. For that, [`Placement::file`] has to name files by
//! their content, not by the generation that brought them.

mod hooks;
mod labels;
mod mounts;
mod problem;

use std::collections::{BTreeMap, BTreeSet};

use kedge_compose::model::{Attachment, Condition, Dependency, Project, Restart, Service};

use crate::engine::spec::{
    ContainerSpec, Environment, LABEL_DEPLOYMENT, LABEL_FILES, NetworkSpec, VolumeSpec,
};
use crate::engine::types::ImageConfig;
use crate::plan::rollout::{OnFailure, Rollout};
use crate::plan::{Adopted, Scope};

pub use hooks::{Hooks, PreStart};
pub use mounts::{FileUse, HostFile};
pub use problem::Problem;

/// An image as this host has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlacedImage {
    /// ID in the engine, `sha256:…`, the one that the signed manifest leads to.
    pub id: String,
    /// What containers take from it.
    pub config: ImageConfig,
}

/// What the host adds to a project.
pub struct Placement<'a> {
    /// Name of the deployment.
    pub deployment: &'a str,
    /// Generation that new objects are labelled with; no reason to make anything anew.
    pub generation: u64,
    /// Images by reference, as the services write them.
    pub images: &'a BTreeMap<String, PlacedImage>,
    /// Where a file of the project lies on this host; `None` if there is no such file. Paths should depend on the
    /// content alone, so that an unchanged file does not change a container.
    pub file: &'a dyn Fn(&FileUse<'_>) -> Option<HostFile>,
    /// The engine confines containers by SELinux: what is made for them is labelled so that they may use it.
    pub relabel: bool,
    /// Folder shown by `docker compose ls`.
    pub working_dir: &'a str,
    /// Compose files shown by `docker compose ls`.
    pub config_files: &'a [String],
    /// Labels for every object.
    pub labels: &'a BTreeMap<String, String>,
}

/// What the engine should hold for one deployment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// Name of the deployment, which marks what is ours.
    pub deployment: String,
    /// Compose project.
    pub project: String,
    /// Services by name.
    pub services: BTreeMap<String, WantedService>,
    /// Containers by name.
    pub containers: BTreeMap<String, Wanted>,
    /// Networks by engine name.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Volumes by engine name.
    pub volumes: BTreeMap<String, VolumeSpec>,
    /// What is ours though its labels do not say so.
    pub adopted: Adopted,
}

/// A service as the planner sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WantedService {
    /// Names of its containers, by number.
    pub containers: Vec<String>,
    /// What others must have reached before its containers start.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Meant to end: another service waits for its success, or it says so itself.
    pub is_job: bool,
    /// Meant to keep running, though its restart policy does not say so: others rely on it, it publishes ports, or it has
    /// a health check.
    pub is_server: bool,
    /// How its containers are replaced.
    pub update: Rollout,
    /// The same for going back to this from a newer generation.
    pub rollback: Rollout,
}

impl WantedService {
    /// How its containers are replaced: on the way forward, or going back to this from a newer generation.
    pub fn rollout(&self, going_back: bool) -> &Rollout {
        if going_back { &self.rollback } else { &self.update }
    }

    /// Whether a clean end is no failure: it is a job, or nobody relies on it.
    pub fn may_end(&self, wanted: &Wanted) -> bool {
        self.is_job || !self.is_server && !wanted.engine_restarts(0)
    }
}

/// A container that should be there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Service.
    pub service: String,
    /// Number within the service, from 1.
    pub number: u32,
    /// Its name is the file's choice (`container_name`).
    pub fixed_name: bool,
    /// What to create.
    pub spec: ContainerSpec,
    /// [`ContainerSpec::digest`] of `spec`.
    pub digest: String,
    /// What it takes from its image.
    pub image: ImageConfig,
}

impl Desired {
    /// A deployment that should hold nothing: planning towards it removes containers and networks, never volumes.
    pub fn nothing(deployment: &str, project: &str) -> Self {
        Self { deployment: deployment.to_owned(), project: project.to_owned(), ..Self::default() }
    }

    /// Resolves a project for this host, or says everything that is in the way.
    pub fn compile(project: &Project, placement: &Placement<'_>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut desired = Self::nothing(placement.deployment, &project.name);
        for (key, network) in &project.networks {
            let mut spec = network.clone();
            if !spec.external {
                labels::network(&mut spec.labels, project, placement, key);
            }
            desired.networks.insert(spec.name.clone(), spec);
        }
        for (key, volume) in &project.volumes {
            let mut spec = volume.clone();
            if !spec.external {
                labels::volume(&mut spec.labels, project, placement, key);
            }
            desired.volumes.insert(spec.name.clone(), spec);
        }
        for service in project.services.values() {
            let Some(image) = placement.images.get(&service.image) else {
                problems
                    .push(Problem::NoImage { service: service.name.clone(), image: service.image.clone() });
                continue;
            };
            if service.container_name.is_some() && service.replicas > 1 {
                problems
                    .push(Problem::FixedName { service: service.name.clone(), replicas: service.replicas });
                continue;
            }
            let mut names = Vec::new();
            for number in 1..=service.replicas {
                let name = container_name(project, service, number);
                let spec = container(project, service, number, image, placement, &mut problems);
                let digest = spec.digest();
                let wanted = Wanted {
                    service: service.name.clone(),
                    number,
                    fixed_name: service.container_name.is_some(),
                    digest,
                    spec,
                    image: image.config.clone(),
                };
                if let Some(other) = desired.containers.insert(name.clone(), wanted) {
                    problems.push(Problem::SameName {
                        service: service.name.clone(),
                        other: other.service,
                        name: name.clone(),
                    });
                }
                names.push(name);
            }
            desired.services.insert(service.name.clone(), wanted_service(project, service, image, names));
        }
        check_conditions(&desired, &mut problems);
        if let Some(circle) = circle(&desired.services) {
            problems.push(Problem::Circle(circle));
        }
        if problems.is_empty() { Ok(desired) } else { Err(problems) }
    }

    /// What to look for in the engine in order to plan towards this.
    pub fn scope(&self) -> Scope {
        Scope {
            deployment: self.deployment.clone(),
            project: self.project.clone(),
            containers: self.containers.keys().cloned().collect(),
            networks: self.networks.keys().cloned().collect(),
            volumes: self.volumes.keys().cloned().collect(),
            adopted: self.adopted.clone(),
        }
    }
}

/// `container_name`, else `project-service-number` as docker compose does.
fn container_name(project: &Project, service: &Service, number: u32) -> String {
    service.container_name.clone().unwrap_or_else(|| format!("{}-{}-{number}", project.name, service.name))
}

fn wanted_service(
    project: &Project,
    service: &Service,
    image: &PlacedImage,
    containers: Vec<String>,
) -> WantedService {
    let conditions = || {
        project
            .services
            .values()
            .filter_map(|other| other.depends_on.get(&service.name))
            .map(|on| on.condition)
    };
    let is_job = conditions().any(|condition| condition == Condition::ServiceCompletedSuccessfully)
        || service.extensions.contains_key("x-omnistrate-job-config");
    let spec = ContainerSpec { healthcheck: service.healthcheck.clone(), ..ContainerSpec::default() };
    let is_needed = conditions().next().is_some() || !service.ports.is_empty();
    let is_server = !is_job && (is_needed || spec.is_checked(&image.config));
    let known = |on: &&String| project.services.contains_key(*on);
    let depends_on = service
        .depends_on
        .iter()
        .filter(|(on, _)| known(on))
        .map(|(on, how)| (on.clone(), how.clone()))
        .collect();
    let update = Rollout::from(service.update_config.as_ref());
    // What a release bears on the way forward says nothing of the way back, after which there is none.
    let inherited = || Rollout { on_failure: OnFailure::default(), ..update.clone() };
    let rollback = service.rollback_config.as_ref().map_or_else(inherited, |config| Some(config).into());
    WantedService { containers, depends_on, is_job, is_server, update, rollback }
}

/// Waiting for the health of something that has no health check would never end.
fn check_conditions(desired: &Desired, problems: &mut Vec<Problem>) {
    for (name, service) in &desired.services {
        for (on, dependency) in &service.depends_on {
            let unchecked = |container: &String| {
                desired.containers.get(container).is_some_and(|wanted| !wanted.spec.is_checked(&wanted.image))
            };
            if dependency.condition == Condition::ServiceHealthy
                && desired.services.get(on).is_some_and(|service| service.containers.iter().any(unchecked))
            {
                problems.push(Problem::NeverHealthy { service: name.clone(), on: on.clone() });
            }
        }
    }
}

/// A circle of dependencies, as `a, b, a`, if there is one.
fn circle(services: &BTreeMap<String, WantedService>) -> Option<String> {
    let known = |service: &WantedService| -> BTreeSet<String> {
        service.depends_on.keys().filter(|on| services.contains_key(*on)).cloned().collect()
    };
    let mut open: BTreeMap<&str, BTreeSet<String>> =
        services.iter().map(|(name, service)| (name.as_str(), known(service))).collect();
    // Whatever depends on nothing that is left is not part of a circle.
    while let Some(free) = open.iter().find(|(_, on)| on.is_empty()).map(|(name, _)| *name) {
        open.remove(free);
        open.values_mut().for_each(|on| {
            on.remove(free);
        });
    }
    let start = *open.keys().next()?;
    let (mut path, mut at) = (vec![start], start);
    while let Some(next) = open.get(at).and_then(|on| on.first()) {
        at = next;
        if let Some(position) = path.iter().position(|seen| *seen == at) {
            path.drain(..position);
            path.push(at);
            break;
        }
        path.push(at);
    }
    Some(path.join(", "))
}

fn container(
    project: &Project,
    service: &Service,
    number: u32,
    image: &PlacedImage,
    placement: &Placement<'_>,
    problems: &mut Vec<Problem>,
) -> ContainerSpec {
    let name = container_name(project, service, number);
    let mut unresolved =
        |what: String| problems.push(Problem::Unresolved { service: service.name.clone(), what });
    // Namespaces of another service are those of its first container.
    let mut namespace =
        |mode: &Option<String>| match mode.as_deref().and_then(|mode| mode.strip_prefix("service:")) {
            None => mode.clone(),
            Some(other) => match project.services.get(other) {
                Some(other) => Some(format!("container:{}", container_name(project, other, 1))),
                None => {
                    unresolved(format!("there is no service {other} whose namespace could be joined"));
                    None
                }
            },
        };
    let (network_mode, pid, ipc) =
        (namespace(&service.network_mode), namespace(&service.pid), namespace(&service.ipc));
    let volumes_from = service.volumes_from.iter().map(|from| resolve_volumes_from(project, from)).collect();
    let links = service
        .links
        .iter()
        .map(|link| resolve_link(project, link))
        .chain(service.external_links.iter().cloned());
    let links = links.collect();
    let mut endpoints = BTreeMap::new();
    if network_mode.is_none() {
        for (key, attachment) in &service.networks {
            match project.networks.get(key) {
                Some(network) => {
                    endpoints.insert(network.name.clone(), endpoint(attachment, &service.name, &name));
                }
                None => unresolved(format!("there is no network {key}")),
            }
        }
    }
    let (mounts, files) = mounts::resolve(project, service, placement, problems);
    let mut labels = service.labels.clone();
    labels::container(&mut labels, project, service, number, &image.id, placement);
    if let Some(files) = files {
        labels.insert(LABEL_FILES.to_owned(), files);
    }
    hooks::label(&mut labels, service, image, placement, problems);
    let mut spec = ContainerSpec {
        image: image.id.clone(),
        command: service.command.clone(),
        entrypoint: service.entrypoint.clone(),
        env: Environment(service.environment.clone()),
        labels,
        annotations: service.annotations.clone(),
        user: service.user.clone(),
        group_add: service.group_add.clone(),
        working_dir: service.working_dir.clone(),
        hostname: service.hostname.clone(),
        domainname: service.domainname.clone(),
        init: service.init,
        tty: service.tty,
        stdin_open: service.stdin_open,
        stdin_once: false,
        stop_signal: service.stop_signal.clone(),
        stop_grace: service.stop_grace_period,
        read_only: service.read_only,
        privileged: service.privileged,
        cap_add: service.cap_add.clone(),
        cap_drop: service.cap_drop.clone(),
        security_opt: service.security_opt.clone(),
        ulimits: service.ulimits.clone(),
        sysctls: service.sysctls.clone(),
        extra_hosts: extra_hosts(service),
        dns: service.dns.clone(),
        dns_search: service.dns_search.clone(),
        dns_opt: service.dns_opt.clone(),
        logging: service.logging.clone(),
        restart: service.restart,
        resources: service.resources.clone(),
        healthcheck: service.healthcheck.clone(),
        expose: service
            .expose
            .iter()
            .map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") })
            .collect(),
        ports: service.ports.clone(),
        mounts,
        tmpfs: service.tmpfs.iter().map(|entry| split_pair(entry)).collect(),
        volumes_from,
        network_mode: network_mode.or_else(|| endpoints.is_empty().then(|| "none".to_owned())),
        endpoints,
        links,
        mac_address: service.mac_address.clone(),
        devices: service.devices.clone(),
        device_cgroup_rules: service.device_cgroup_rules.clone(),
        device_requests: service.device_requests.clone(),
        shm_size: service.shm_size,
        pid,
        ipc,
        uts: service.uts.clone(),
        userns: service.userns_mode.clone(),
        cgroupns: service.cgroup.clone(),
        cgroup_parent: service.cgroup_parent.clone(),
        runtime: service.runtime.clone(),
        isolation: service.isolation.clone(),
        storage_opt: service.storage_opt.clone(),
        platform: service.platform.clone(),
    };
    labels::seal(&mut spec);
    spec
}

/// The containers' own names on a network: service, container, and what the file adds.
fn endpoint(attachment: &Attachment, service: &str, container: &str) -> Attachment {
    let mut endpoint = attachment.clone();
    endpoint.aliases.insert(service.to_owned());
    endpoint.aliases.insert(container.to_owned());
    endpoint
}

fn extra_hosts(service: &Service) -> Vec<String> {
    service
        .extra_hosts
        .iter()
        .flat_map(|(host, addresses)| addresses.iter().map(move |address| format!("{host}:{address}")))
        .collect()
}

fn split_pair(entry: &str) -> (String, String) {
    let (path, options) = entry.split_once(':').unwrap_or((entry, ""));
    (path.to_owned(), options.to_owned())
}

/// `service[:mode]` or `container:name[:mode]` to `name[:mode]`.
fn resolve_volumes_from(project: &Project, from: &str) -> String {
    if let Some(container) = from.strip_prefix("container:") {
        return container.to_owned();
    }
    let (service, mode) = from.split_once(':').map_or((from, None), |(service, mode)| (service, Some(mode)));
    let name = project
        .services
        .get(service)
        .map_or_else(|| service.to_owned(), |service| container_name(project, service, 1));
    mode.map_or_else(|| name.clone(), |mode| format!("{name}:{mode}"))
}

/// `service[:alias]` to `container:alias`.
fn resolve_link(project: &Project, link: &str) -> String {
    let (service, alias) = link.split_once(':').unwrap_or((link, link));
    let name = project
        .services
        .get(service)
        .map_or_else(|| service.to_owned(), |service| container_name(project, service, 1));
    format!("{name}:{alias}")
}

impl Wanted {
    /// Whether the engine itself starts it again after an end with this code.
    pub fn engine_restarts(&self, code: i64) -> bool {
        match self.spec.restart {
            Restart::No => false,
            Restart::Always | Restart::UnlessStopped => true,
            Restart::OnFailure { .. } => code != 0,
        }
    }
}

/// Whether an object of these labels belongs to the deployment.
pub(crate) fn is_owned(labels: &BTreeMap<String, String>, deployment: &str) -> bool {
    labels.get(LABEL_DEPLOYMENT).is_some_and(|owner| owner == deployment)
}
