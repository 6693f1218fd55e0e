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

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::codes;
use crate::engine::Container;
use crate::engine::spec::LABEL_DEPLOYMENT;
use crate::engine::types::Filter;
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
    Ok(AdoptionRecord {
        deployment: deployment.to_owned(),
        project: project.to_owned(),
        adopted,
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
/// and that another one takes the place of.
pub fn left_behind(desired: &Desired, observed: &Observed) -> Vec<String> {
    let mut sentences = BTreeSet::new();
    for container in &observed.containers {
        let ours = container.labels.get(LABEL_DEPLOYMENT) == Some(&desired.deployment);
        let place = desired.containers.values().find(|wanted| {
            Some(wanted.service.as_str()) == container.service() && Some(wanted.number) == container.number()
        });
        let (true, Some(wanted), Some(detail)) = (ours, place, &container.detail) else { continue };
        for mount in detail.mounts.iter().filter(|mount| mount.writable) {
            let same_place =
                |target: &str| target.trim_end_matches('/') == mount.target.trim_end_matches('/');
            let now = match mount.kind.as_str() {
                "bind" => Some(&mount.source),
                // Anonymous ones are carried over.
                "volume" => mount.name.as_ref().filter(|name| !is_anonymous(name)),
                _ => None,
            };
            let (Some(now), Some(next)) = (now, wanted.spec.mounts.iter().find(|m| same_place(&m.target)))
            else {
                continue;
            };
            if let Some(next) = next.source.as_ref().filter(|next| *next != now) {
                sentences.insert(format!(
                    "what service {} keeps in {now}, at {} in its container, is not taken along; it would use {next}",
                    wanted.service, mount.target
                ));
            }
        }
    }
    sentences.into_iter().collect()
}

/// The engine names them with 64 hexadecimal digits.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
