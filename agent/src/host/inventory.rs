//! What runs on this host and what is kept here, by digest: every container beside the image that was signed for its
//! service. The answer to "which bytes are these", for an auditor or after an alarm.

use std::collections::BTreeMap;
use std::sync::Arc;

use kedge_bundle::layout::Image;
use kedge_proto::local::v1::{Inventory, InventoryContainer, InventoryDeployment, StoredRelease};
use kedge_proto::v1;

use super::{Host, no_deployment};
use crate::clock::stamp;
use crate::codes;
use crate::deploy::adoption;
use crate::engine::types::{ImageStore, State};
use crate::engine::{self, Container};
use crate::images::{Content, Loaded, load, release};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, GenerationRecord, ReleaseRef, generation_key};

impl Host {
    /// Takes the inventory of one deployment, or of all. A host without any has an inventory too.
    ///
    /// # Errors
    /// [`codes::NO_DEPLOYMENT`], or when the store cannot be read. What concerns one deployment or one release alone is said
    /// there.
    pub async fn inventory(&self, deployment: Option<&str>) -> Result<Inventory, Problem> {
        let world = &self.inner.world;
        let records = world.store.scan::<DeploymentRecord>("")?;
        if let Some(name) = deployment.filter(|name| !records.iter().any(|record| record.name == *name)) {
            return Err(no_deployment(name));
        }
        let releases = self.stored().await?;
        let status = Arc::clone(&self.status().borrow());
        let store = world.engine_kind.borrow().as_ref().map(|engine| engine.store);
        let mut inventory = Inventory {
            host_id: status.host_id.clone(),
            hostname: status.hostname.clone(),
            at: stamp(world.clock.as_ref()),
            image_store: store.map(name_of).unwrap_or_default().to_owned(),
            stored: releases.iter().map(|(digest, loaded)| stored(digest, loaded)).collect(),
            ..Inventory::default()
        };
        for record in &records {
            let generation = |number: Option<u64>| -> Result<Option<GenerationRecord>, Problem> {
                let key = number.map(|number| generation_key(&record.name, number));
                Ok(key.map(|key| world.store.get::<GenerationRecord>(&key)).transpose()?.flatten())
            };
            let (active, previous) = (generation(record.active)?, generation(record.previous)?);
            for stored in &mut inventory.stored {
                let is = |generation: &Option<GenerationRecord>| {
                    let digest = stored.release.as_ref().map(|release| release.digest.as_str());
                    generation.as_ref().is_some_and(|one| Some(one.release.digest.as_str()) == digest)
                };
                let (runs, goes_back) = (is(&active), is(&previous));
                stored.active.extend(runs.then(|| record.name.clone()));
                stored.previous.extend(goes_back.then(|| record.name.clone()));
            }
            if deployment.is_none_or(|name| name == record.name) {
                let services = status.deployments.iter().find(|one| one.name == record.name);
                let services = services.map(|one| one.services.as_slice()).unwrap_or_default();
                let one = self.deployment(record, active.as_ref(), services, store, &releases).await;
                inventory.deployments.push(one);
            }
        }
        Ok(inventory)
    }

    /// Every release that is here, read back.
    async fn stored(&self) -> Result<BTreeMap<String, Result<Loaded, Problem>>, Problem> {
        let content: Content = self.inner.world.content.clone();
        let read = move || {
            let load = |digest| (digest, release::load(&content, &digest));
            content.releases().into_iter().map(load).map(|(d, loaded)| (d.to_string(), loaded)).collect()
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|e| Problem::from_error(&codes::INTERNAL, &e).at("reading what is stored"))
    }

    async fn deployment(
        &self,
        record: &DeploymentRecord,
        active: Option<&GenerationRecord>,
        services: &[v1::ServiceStatus],
        store: Option<ImageStore>,
        releases: &BTreeMap<String, Result<Loaded, Problem>>,
    ) -> InventoryDeployment {
        let mut one = InventoryDeployment {
            name: record.name.clone(),
            product: record.product.clone(),
            stream: record.stream.clone(),
            release: active.map(|generation| shown(&generation.release)),
            generation: record.active.unwrap_or_default(),
            since: record.since.clone(),
            ..InventoryDeployment::default()
        };
        let mut problems = Vec::new();
        let images = match active.map(|generation| releases.get(&generation.release.digest)) {
            Some(Some(Ok(loaded))) => loaded.listing.images.as_slice(),
            Some(Some(Err(problem))) => {
                problems.push(problem.message.clone());
                &[]
            }
            Some(None) => {
                problems.push("the content of its release is not here".to_owned());
                &[]
            }
            None => &[],
        };
        let reference =
            |service: &str| services.iter().find(|one| one.name == service).map(|one| one.image.as_str());
        match self.containers(&record.name).await {
            Ok((project, containers)) => {
                one.compose_project = project;
                let tell = |container| tell(container, reference, images, store);
                one.containers = containers.iter().map(tell).collect();
                one.containers
                    .sort_by(|a, b| (&a.service, a.number, &a.name).cmp(&(&b.service, b.number, &b.name)));
            }
            Err(problem) => problems.push(problem.message),
        }
        one.problem = problems.join("; ");
        one
    }

    /// The compose project of a deployment and its containers, with their detail.
    async fn containers(&self, deployment: &str) -> Result<(String, Vec<Container>), Problem> {
        let world = &self.inner.world;
        let adoption = adoption::load(&world.store, deployment)?;
        let failed = |error: engine::Error| Problem::from_error(error.code(), &error);
        let listed = adoption.containers(world.engine.as_ref()).await.map_err(failed)?;
        let mut containers = Vec::new();
        for listed in listed {
            match world.engine.inspect_container(&listed.id).await {
                Ok(container) => containers.push(container),
                // Gone between the two questions: it is not here any more.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok((adoption.project, containers))
    }
}

/// A container beside what was signed for its service.
fn tell<'a>(
    container: &Container,
    reference: impl Fn(&str) -> Option<&'a str>,
    images: &[Image],
    store: Option<ImageStore>,
) -> InventoryContainer {
    let service = container.service().unwrap_or_default();
    let reference = reference(service).unwrap_or_default();
    let signed = images.iter().find(|image| image.reference == reference);
    let expected = signed.zip(store).map(|(image, store)| load::id(image, store));
    let why = match &expected {
        Some(id) if *id == container.image_id => String::new(),
        Some(id) => format!("signed is {id}"),
        None if store.is_none() => "the engine has not answered yet".to_owned(),
        None if reference.is_empty() => "the release has no service of this name".to_owned(),
        None => format!("the release does not hold {reference}"),
    };
    let started = container.detail.as_ref().and_then(|detail| detail.started_at);
    InventoryContainer {
        service: service.to_owned(),
        number: container.number().unwrap_or_default(),
        id: container.id.clone(),
        name: container.name.clone(),
        state: state(container.state).to_owned(),
        started_at: started.map(|at| at.to_string()).unwrap_or_default(),
        image: reference.to_owned(),
        manifest: signed.map(|image| image.manifest.to_string()).unwrap_or_default(),
        config: signed.map(|image| image.config.to_string()).unwrap_or_default(),
        image_id: container.image_id.clone(),
        agrees: why.is_empty(),
        why,
    }
}

fn stored(digest: &str, loaded: &Result<Loaded, Problem>) -> StoredRelease {
    match loaded {
        Ok(loaded) => {
            let reference = loaded.reference();
            let release = Some(shown(&reference));
            StoredRelease {
                product: reference.product,
                stream: reference.stream,
                release,
                ..StoredRelease::default()
            }
        }
        Err(problem) => StoredRelease {
            release: Some(v1::Release { digest: digest.to_owned(), ..v1::Release::default() }),
            problem: problem.message.clone(),
            ..StoredRelease::default()
        },
    }
}

fn shown(release: &ReleaseRef) -> v1::Release {
    v1::Release { version: release.version.clone(), seq: release.seq, digest: release.digest.clone() }
}

const fn name_of(store: ImageStore) -> &'static str {
    match store {
        ImageStore::Classic => "classic",
        ImageStore::Containerd => "containerd",
    }
}

const fn state(state: State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running => "running",
        State::Paused => "paused",
        State::Restarting => "restarting",
        State::Removing => "removing",
        State::Exited => "exited",
        State::Dead => "dead",
    }
}
