//! The fake's side of the [`Engine`] trait.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use kedge_compose::model::Attachment;
use tokio::sync::broadcast::error::RecvError;

use super::super::attach::{Attached, Output};
use super::super::error::{Error, Kind, Result};
use super::super::exec::{Exec, Finished};
use super::super::spec::{ContainerSpec, LABEL_RANGE, NetworkSpec, Update, VolumeSpec};
use super::super::types::{
    Container, EngineEvent, EngineInfo, Filter, Image, Loaded, LogLine, LogQuery, Network, State, Stream,
    Volume,
};
use super::super::{Engine, TarStream};
use super::Fake;

fn matches(filter: &Filter, name: &str, labels: &std::collections::BTreeMap<String, String>) -> bool {
    let labelled = filter.labels.iter().all(|wanted| {
        let (key, value) = wanted.split_once('=').unwrap_or((wanted, ""));
        labels.get(key).is_some_and(|found| found == value)
    });
    labelled && (filter.names.is_empty() || filter.names.contains(name))
}

#[async_trait]
impl Engine for Fake {
    async fn ping(&self) -> Result<()> {
        self.enter("ping", "", false).await
    }

    async fn info(&self) -> Result<EngineInfo> {
        self.enter("info", "", false).await?;
        Ok(EngineInfo {
            version: "20.10.24".into(),
            api: "1.41".into(),
            store: self.lock().store,
            platform: "linux/amd64".into(),
            cpus: 2,
            ..EngineInfo::default()
        })
    }

    async fn list_containers(&self, filter: &Filter) -> Result<Vec<Container>> {
        self.enter("list containers", "", false).await?;
        let listed = |container: &Container| Container { detail: None, ..container.clone() };
        Ok(self
            .lock()
            .containers
            .values()
            .filter(|container| matches(filter, &container.name, &container.labels))
            .map(listed)
            .collect())
    }

    async fn list_networks(&self, filter: &Filter) -> Result<Vec<Network>> {
        self.enter("list networks", "", false).await?;
        Ok(self
            .lock()
            .networks
            .values()
            .filter(|network| matches(filter, &network.name, &network.labels))
            .cloned()
            .collect())
    }

    async fn list_volumes(&self, filter: &Filter) -> Result<Vec<Volume>> {
        self.enter("list volumes", "", false).await?;
        Ok(self
            .lock()
            .volumes
            .values()
            .filter(|volume| matches(filter, &volume.name, &volume.labels))
            .cloned()
            .collect())
    }

    async fn inspect_container(&self, id: &str) -> Result<Container> {
        self.enter("inspect", id, false).await?;
        self.lock()
            .find(id)
            .cloned()
            .ok_or_else(|| Error::new(Kind::NotFound, format!("inspect container {id}"), "No such container"))
    }

    async fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<String> {
        self.enter("create", name, true).await?;
        let (id, events) = self.lock().create(name, spec)?;
        self.emit(events);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        {
            let mut world = self.lock();
            world.starting += 1;
            world.widest = world.widest.max(world.starting);
        }
        let entered = self.enter("start", id, true).await;
        self.lock().starting -= 1;
        entered?;
        let id = self.lock().find(id).map_or_else(|| id.to_owned(), |container| container.id.clone());
        self.start_now(&id)
    }

    async fn stop_container(&self, id: &str, _grace: Option<Duration>) -> Result<()> {
        self.enter("stop", id, true).await?;
        let events = self.lock().end(id, 0, true);
        self.emit(events);
        Ok(())
    }

    async fn kill_container(&self, id: &str, signal: &str) -> Result<()> {
        self.enter("kill", id, true).await?;
        if signal == "SIGKILL" {
            let events = self.lock().end(id, 137, true);
            self.emit(events);
        }
        Ok(())
    }

    async fn unpause_container(&self, id: &str) -> Result<()> {
        self.enter("unpause", id, true).await?;
        if let Some(container) = self.lock().find_mut(id).filter(|container| container.state == State::Paused)
        {
            container.state = State::Running;
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.enter("remove", id, true).await?;
        let events = self.lock().remove(id)?;
        self.emit(events);
        Ok(())
    }

    async fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        self.enter("rename", id, true).await?;
        let events = self.lock().rename(id, name)?;
        self.emit(events);
        Ok(())
    }

    async fn update_container(&self, id: &str, update: &Update) -> Result<()> {
        self.enter("update", id, true).await?;
        let mut world = self.lock();
        let container = world
            .find_mut(id)
            .ok_or_else(|| Error::new(Kind::NotFound, "update container", "No such container"))?;
        let spec = &mut container.detail.get_or_insert_default().spec;
        if let Some(restart) = update.restart {
            spec.restart = restart;
        }
        if let Some(resources) = &update.resources {
            spec.resources = resources.clone();
        }
        Ok(())
    }

    async fn wait_container(&self, id: &str) -> Result<i64> {
        let mut events = self.events.subscribe();
        loop {
            let found = self.lock().find(id).cloned();
            match found {
                None => return Err(Error::new(Kind::NotFound, "wait for container", "No such container")),
                Some(container) if container.state == State::Exited => {
                    return Ok(container.exit_code.unwrap_or_default());
                }
                Some(_) => {}
            }
            if let Err(RecvError::Closed) = events.recv().await {
                return Err(Error::new(Kind::Unreachable, "wait for container", "the engine is gone"));
            }
        }
    }

    async fn logs(&self, id: &str, _query: &LogQuery) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.enter("logs", id, false).await?;
        let line = LogLine {
            stream: Stream::Stdout,
            at: "2026-01-01T00:00:00Z".into(),
            text: format!("log of {id}"),
        };
        Ok(stream::iter([Ok(line)]).boxed())
    }

    async fn log_output(
        &self,
        id: &str,
        _query: &LogQuery,
        timestamps: bool,
    ) -> Result<BoxStream<'static, Result<Output>>> {
        self.enter("logs", id, false).await?;
        let at = if timestamps { "2026-01-01T00:00:00Z " } else { "" };
        let bytes = format!("{at}log of {id}\n").into();
        Ok(stream::iter([Ok(Output { stream: Stream::Stdout, bytes })]).boxed())
    }

    async fn exec(&self, id: &str, command: &Exec) -> Result<Finished> {
        self.enter("exec", id, true).await?;
        let (answer, container) = {
            let mut world = self.lock();
            let container = world.find(id).cloned();
            let container = container
                .ok_or_else(|| Error::new(Kind::NotFound, format!("exec in {id}"), "No such container"))?;
            let line = command.command.join(" ");
            world.execs.push(format!("{}: {line}", container.name));
            let answer = world.answers.iter().find(|(about, _)| line.contains(about.as_str()));
            (answer.map_or_else(|| Some(Finished::default()), |(_, answer)| answer.clone()), container)
        };
        if container.state != State::Running {
            return Err(Error::new(Kind::Conflict, format!("exec in {id}"), "the container is not running"));
        }
        match answer {
            Some(finished) => Ok(finished),
            None => std::future::pending().await,
        }
    }

    async fn attach(&self, id: &str) -> Result<Attached> {
        self.enter("attach", id, false).await?;
        Ok(Attached { output: stream::empty().boxed(), input: Box::pin(tokio::io::sink()) })
    }

    async fn resize(&self, id: &str, _rows: u16, _columns: u16) -> Result<()> {
        self.enter("resize", id, false).await
    }

    async fn put_archive(&self, id: &str, _folder: &str, _tar: Bytes) -> Result<()> {
        self.enter("put archive", id, true).await
    }

    async fn get_archive(&self, id: &str, _path: &str) -> Result<TarStream> {
        self.enter("get archive", id, false).await?;
        Ok(futures_util::stream::empty().boxed())
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String> {
        self.enter("create network", &spec.name, true).await?;
        let driver = if spec.driver.is_empty() { "bridge" } else { &spec.driver };
        let mut labels = spec.labels.clone();
        labels.insert(LABEL_RANGE.into(), "of the engine".into());
        let network = Network {
            name: spec.name.clone(),
            driver: driver.to_owned(),
            internal: spec.internal,
            attachable: spec.attachable,
            ipv6: spec.enable_ipv6.unwrap_or(false),
            options: spec.driver_opts.clone(),
            pools: spec.ipam.iter().map(|pool| (pool.subnet.clone(), pool.gateway.clone())).collect(),
            labels,
            ..Network::default()
        };
        self.lock().create_network(network)
    }

    async fn remove_network(&self, id: &str) -> Result<()> {
        let name = self.lock().network(id).map_or_else(|| id.to_owned(), |network| network.name.clone());
        self.enter("remove network", &name, true).await?;
        self.lock().remove_network(id)
    }

    async fn connect(&self, network: &str, container: &str, endpoint: &Attachment) -> Result<()> {
        self.enter("connect", container, true).await?;
        self.lock().connect(network, container, endpoint)
    }

    async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        self.enter("disconnect", container, true).await?;
        self.lock().disconnect(network, container)
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<()> {
        self.enter("create volume", &spec.name, true).await?;
        let driver = if spec.driver.is_empty() { "local" } else { &spec.driver };
        let volume = Volume {
            name: spec.name.clone(),
            driver: driver.to_owned(),
            options: spec.driver_opts.clone(),
            labels: spec.labels.clone(),
            mountpoint: String::new(),
        };
        self.lock().volumes.entry(spec.name.clone()).or_insert(volume);
        Ok(())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        self.enter("remove volume", name, true).await?;
        self.lock().volumes.remove(name);
        Ok(())
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        self.enter("list images", "", false).await?;
        let listed =
            |image: &Image| Image { diff_ids: Vec::new(), config: Default::default(), ..image.clone() };
        Ok(self.lock().images.values().map(listed).collect())
    }

    async fn inspect_image(&self, reference: &str) -> Result<Image> {
        self.enter("inspect image", reference, false).await?;
        let world = self.lock();
        let tagged = || world.images.values().find(|image| image.tags.iter().any(|tag| tag == reference));
        let found = world.images.get(reference).or_else(tagged).cloned();
        found.ok_or_else(|| Error::new(Kind::NoImage, format!("inspect image {reference}"), "No such image"))
    }

    async fn tag_image(&self, reference: &str, repository: &str, tag: &str) -> Result<()> {
        self.enter("tag image", reference, true).await?;
        if let Some(image) = self.lock().images.get_mut(reference) {
            image.tags.push(format!("{repository}:{tag}"));
        }
        Ok(())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.enter("remove image", reference, true).await?;
        let mut world = self.lock();
        let named = |image: &Image| image.tags.iter().any(|tag| tag == reference);
        let last = |image: &Image| image.id == reference || (named(image) && image.tags.len() == 1);
        if let Some(image) = world.images.values().find(|image| last(image))
            && world.containers.values().any(|container| container.image_id == image.id)
        {
            return Err(Error::new(Kind::Conflict, "remove image", "a container is using it"));
        }
        world.images.retain(|_, image| !last(image));
        world.images.values_mut().for_each(|image| image.tags.retain(|tag| tag != reference));
        Ok(())
    }

    /// It keeps no layers to give back.
    async fn save(&self, reference: &str) -> Result<TarStream> {
        self.enter("save", reference, false).await?;
        Ok(stream::empty().boxed())
    }

    async fn load(&self, mut tar: TarStream) -> Result<Loaded> {
        self.enter("load", "", true).await?;
        let failed = |error: std::io::Error| Error::new(Kind::Engine, "load images", error.to_string());
        let mut archive = Vec::new();
        while let Some(piece) = tar.try_next().await.map_err(failed)? {
            archive.extend_from_slice(&piece);
        }
        self.lock().load(&archive)?;
        Ok(Loaded::default())
    }

    async fn events(&self, _since: i64) -> Result<BoxStream<'static, Result<EngineEvent>>> {
        let receiver = self.events.subscribe();
        self.enter("events", "", false).await?;
        let events = stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) if event.attributes.contains_key("fake") => return None,
                    Ok(event) => return Some((Ok(event), receiver)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(events.boxed())
    }
}
