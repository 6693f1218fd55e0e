//! Adopting: taking over a stack that `docker compose` started, without touching what already is as it should be.
//!
//! Labels of a container, a network or a volume cannot be changed while it lives, so what was adopted does not say that it is
//! ours. The store does: a record of IDs (names, for volumes), on disk before anything else happens. Whoever observes the
//! engine for the deployment sees the objects in that record with our label on them ([`Adopted`]), and everything after
//! that, planning, comparing, health, drift, needs to know nothing of adoption. What is made anew later carries the label
//! itself.
//!
//! The deployment keeps the stack's compose project, because networks and volumes are named after it. A removal forgets the
//! record; volumes that it keeps can be adopted again.

use std::collections::{BTreeMap, BTreeSet};

use kedge_compose::model::MountKind;
use serde::{Deserialize, Serialize};

use super::as_it_was::Found;
use crate::codes;
use crate::engine::Container;
use crate::engine::spec::LABEL_DEPLOYMENT;
use crate::engine::types::Filter;
use crate::plan::desired::Wanted;
use crate::plan::{Adopted, Desired, Observed};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, Record, Store};
use crate::world::World;

/// Label of docker compose: `True` on what `docker compose run` made.
const ONEOFF: &str = "com.docker.compose.oneoff";

/// What a deployment has taken over, and from which project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptionRecord {
    /// Deployment.
    pub deployment: String,
    /// Compose project, which the deployment keeps.
    pub project: String,
    /// What is ours though no label says so.
    pub adopted: Adopted,
    /// How its containers were, by ID. What runs again if the adoption fails.
    #[serde(default)]
    pub found: BTreeMap<String, Found>,
    /// RFC 3339.
    pub at: String,
    /// User.
    pub by: String,
}

impl Record for AdoptionRecord {
    const TABLE: &'static str = "adoption";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        self.deployment.clone()
    }
}

/// Compose project of a deployment and what it has adopted.
///
/// # Errors
/// When the store cannot be read.
pub fn load(store: &Store, deployment: &str) -> Result<AdoptionRecord, Problem> {
    let own = || AdoptionRecord {
        deployment: deployment.to_owned(),
        project: deployment.to_owned(),
        ..AdoptionRecord::default()
    };
    Ok(store.get::<AdoptionRecord>(deployment)?.unwrap_or_else(own))
}

impl AdoptionRecord {
    /// Whether anything was adopted.
    pub fn is_adopted(&self) -> bool {
        self.adopted != Adopted::default()
    }

    /// Whether every container that ran when it was adopted is still there: while the new ones have not proven themselves they
    /// are kept, and the stack can run again as it was.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn can_be_undone(&self, engine: &dyn crate::engine::Engine) -> crate::engine::Result<bool> {
        if self.found.is_empty() {
            return Ok(false);
        }
        let there = engine.list_containers(&Filter::project(&self.project)).await?;
        let is_there = |id: &String| there.iter().any(|container| container.id == *id);
        Ok(self.found.iter().all(|(id, found)| !found.ran || is_there(id)))
    }

    /// Containers of the deployment as listed: those that say so and those that it has adopted.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub async fn containers(
        &self,
        engine: &dyn crate::engine::Engine,
    ) -> crate::engine::Result<Vec<Container>> {
        let mut containers = engine.list_containers(&Filter::deployment(&self.deployment)).await?;
        if !self.adopted.containers.is_empty() {
            let of_project = engine.list_containers(&Filter::project(&self.project)).await?;
            let adopted = of_project.into_iter().filter(|c| self.adopted.containers.contains(&c.id));
            containers.extend(adopted);
        }
        Ok(containers)
    }
}

/// What adopting a project as this deployment would take over. Writes nothing.
///
/// # Errors
/// When nothing of it is there, when it is another's, or when the deployment has another project.
pub async fn find(world: &World, deployment: &str, project: &str) -> Result<AdoptionRecord, Problem> {
    super::check_name(project)?;
    if world.store.get::<DeploymentRecord>(deployment)?.is_some() {
        let has = load(&world.store, deployment)?.project;
        if has != project {
            let why = format!("deployment {deployment} has the compose project {has}, not {project}");
            return Err(Problem::new(&codes::OTHER_PROJECT, why));
        }
    }
    let failed = |e: crate::engine::Error| Problem::from_error(e.code(), &e);
    let (engine, filter) = (&world.engine, Filter::project(project));
    let containers = engine.list_containers(&filter).await.map_err(failed)?;
    let networks = engine.list_networks(&filter).await.map_err(failed)?;
    let volumes = engine.list_volumes(&filter).await.map_err(failed)?;
    if containers.is_empty() && networks.is_empty() && volumes.is_empty() {
        let why = format!("no container, network or volume on this host is of the compose project {project}");
        return Err(Problem::new(&codes::NO_PROJECT, why));
    }
    let owners = containers
        .iter()
        .map(|c| (format!("container {}", c.name), c.deployment()))
        .chain(networks.iter().map(|n| (format!("network {}", n.name), n.deployment())))
        .chain(volumes.iter().map(|v| (format!("volume {}", v.name), v.deployment())));
    for (what, owner) in owners {
        if let Some(other) = owner.filter(|owner| *owner != deployment) {
            let why = format!("{what} of the project {project} belongs to the deployment {other}");
            return Err(Problem::new(&codes::OTHERS, why));
        }
    }
    let unlabelled = |owner: Option<&str>| owner.is_none();
    let is_service = |c: &&Container| c.labels.get(ONEOFF).is_none_or(|oneoff| oneoff != "True");
    let adopted = Adopted {
        containers: containers
            .iter()
            .filter(|c| unlabelled(c.deployment()) && is_service(c))
            .map(|c| c.id.clone())
            .collect(),
        networks: networks.iter().filter(|n| unlabelled(n.deployment())).map(|n| n.id.clone()).collect(),
        volumes: volumes.iter().filter(|v| unlabelled(v.deployment())).map(|v| v.name.clone()).collect(),
    };
    not_anothers(&world.store, deployment, project, &adopted)?;
    let mut found = BTreeMap::new();
    for id in &adopted.containers {
        found.insert(id.clone(), Found::of(&engine.inspect_container(id).await.map_err(failed)?));
    }
    Ok(AdoptionRecord {
        deployment: deployment.to_owned(),
        project: project.to_owned(),
        adopted,
        found,
        at: crate::clock::stamp(&*world.clock),
        by: String::new(),
    })
}

/// No other deployment has this project or has adopted any of it.
fn not_anothers(store: &Store, deployment: &str, project: &str, adopted: &Adopted) -> Result<(), Problem> {
    for other in store.scan::<DeploymentRecord>("")?.into_iter().filter(|other| other.name != deployment) {
        let record = load(store, &other.name)?;
        if record.project == project || record.adopted.meets(adopted) {
            let why = format!("the compose project {project} is that of the deployment {}", other.name);
            return Err(Problem::new(&codes::OTHERS, why));
        }
    }
    Ok(())
}

/// Data that the new containers would not see any more, a sentence each: a folder or volume that the old container writes to
/// and that is not mounted at its place any more.
pub fn left_behind(desired: &Desired, observed: &Observed) -> Vec<String> {
    let mut sentences = BTreeSet::new();
    for container in &observed.containers {
        let ours = container.labels.get(LABEL_DEPLOYMENT) == Some(&desired.deployment);
        let place = desired.containers.values().find(|wanted| {
            Some(wanted.service.as_str()) == container.service() && Some(wanted.number) == container.number()
        });
        let (true, Some(wanted), Some(detail)) = (ours, place, &container.detail) else { continue };
        for mount in detail.mounts.iter().filter(|mount| mount.writable) {
            let (now, is_volume) = match mount.kind.as_str() {
                "bind" => (&mount.source, false),
                // Anonymous ones are carried over.
                "volume" => match mount.name.as_ref().filter(|name| !is_anonymous(name)) {
                    Some(name) => (name, true),
                    None => continue,
                },
                _ => continue,
            };
            let next = match at(desired, wanted, &mount.target) {
                Next::Source(next) if next == now => continue,
                // Planning gives the new container the volume that the old one has there.
                Next::Anonymous if is_volume => continue,
                Next::Source(next) => format!("it would use {next}"),
                Next::Anonymous => "it would use a new volume without a name".to_owned(),
                Next::Memory => "it would keep it in memory only".to_owned(),
                Next::Nothing => "nothing would be mounted there".to_owned(),
            };
            sentences.insert(format!(
                "what service {} keeps in {now}, at {} in its container, is not taken along; {next}",
                wanted.service, mount.target
            ));
        }
    }
    sentences.into_iter().collect()
}

/// What a new container has at a place.
enum Next<'a> {
    /// A folder of the host or a named volume.
    Source(&'a String),
    /// A volume that the engine names.
    Anonymous,
    /// A file system in memory.
    Memory,
    /// Its own layer, which goes with it.
    Nothing,
}

fn at<'a>(desired: &'a Desired, wanted: &'a Wanted, target: &str) -> Next<'a> {
    let is_it = |other: &str| other.trim_end_matches('/') == target.trim_end_matches('/');
    if let Some(mount) = wanted.spec.mounts.iter().find(|mount| is_it(&mount.target)) {
        return match (&mount.source, mount.kind) {
            (Some(source), _) => Next::Source(source),
            (None, MountKind::Volume) => Next::Anonymous,
            (None, _) => Next::Memory,
        };
    }
    if wanted.spec.tmpfs.keys().any(|other| is_it(other)) {
        return Next::Memory;
    }
    // What another one mounts there; that one has mounts of its own, or names further ones the engine resolves likewise.
    let others = wanted.spec.volumes_from.iter().filter_map(|from| {
        let name = from.split(':').next().unwrap_or_default();
        desired.containers.get(name)
    });
    let mut lent = others.flat_map(|other| &other.spec.mounts).filter(|mount| is_it(&mount.target));
    match lent.next().map(|mount| &mount.source) {
        Some(Some(source)) => Next::Source(source),
        Some(None) => Next::Anonymous,
        None if wanted.image.volumes.iter().any(|other| is_it(other)) => Next::Anonymous,
        None => Next::Nothing,
    }
}

/// The engine names them with 64 hexadecimal digits.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
