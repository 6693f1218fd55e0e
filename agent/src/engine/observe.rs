//! What the engine holds for one deployment, and a cache of it that events keep fresh.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::Engine;
use super::error::Result;
use super::events::{EventHub, Signal};
use super::spec::LABEL_DEPLOYMENT;
use super::types::{Action, Container, EngineEvent, Filter, Subject};
use crate::plan::{Observed, Scope};

/// Inspections under way at the same moment.
const INSPECTIONS: usize = 8;

/// Signals that are kept for whoever asks what happened.
const HEARD: usize = 256;

/// Looks at everything within the scope: one list per kind for what is ours, one for wanted names that may be
/// somebody else's, and an inspection of each container of ours.
pub async fn observe(engine: &dyn Engine, scope: &Scope) -> Result<Observed> {
    let ours = Filter::deployment(&scope.deployment);
    let of_project = Filter::project(&scope.project);
    let adopted = &scope.adopted;
    let named = |names: &BTreeSet<String>| Filter { labels: Vec::new(), names: names.clone() };
    let (container_names, network_names, volume_names) =
        (named(&scope.containers), named(&scope.networks), named(&scope.volumes));
    let if_any = |filter: &Filter| !filter.names.is_empty();
    let (mut containers, taken_over, holders, mut networks, others, mut volumes) = tokio::try_join!(
        engine.list_containers(&ours),
        async {
            if adopted.containers.is_empty() {
                Ok(Vec::new())
            } else {
                engine.list_containers(&of_project).await
            }
        },
        async {
            if if_any(&container_names) {
                engine.list_containers(&container_names).await
            } else {
                Ok(Vec::new())
            }
        },
        engine.list_networks(&ours),
        async {
            let mut others = Vec::new();
            if if_any(&network_names) {
                others.extend(engine.list_networks(&network_names).await?);
            }
            if !adopted.networks.is_empty() {
                let of_project = engine.list_networks(&of_project).await?;
                others
                    .extend(of_project.into_iter().filter(|network| adopted.networks.contains(&network.id)));
            }
            Ok(others)
        },
        async {
            if if_any(&volume_names) { engine.list_volumes(&volume_names).await } else { Ok(Vec::new()) }
        },
    )?;
    containers.extend(taken_over.into_iter().filter(|container| adopted.containers.contains(&container.id)));
    let mut inspected = stream::iter(std::mem::take(&mut containers))
        .map(|container| async move { (engine.inspect_container(&container.id).await, container) })
        .buffered(INSPECTIONS);
    while let Some((result, _)) = inspected.next().await {
        match result {
            Ok(container) => containers.push(claimed(container, scope)),
            // Gone between list and inspection: as if it had never been listed.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    drop(inspected);
    for holder in holders {
        if !containers.iter().any(|container| container.id == holder.id)
            && holder.deployment() != Some(&scope.deployment)
        {
            containers.push(holder);
        }
    }
    for other in others {
        if !networks.iter().any(|network| network.id == other.id) {
            networks.push(other);
        }
    }
    for network in networks.iter_mut().filter(|network| adopted.networks.contains(&network.id)) {
        claim(&mut network.labels, &scope.deployment);
    }
    for volume in volumes.iter_mut().filter(|volume| {
        adopted.volumes.contains(&volume.name) && volume.is_adoptable(&scope.deployment, &scope.project)
    }) {
        claim(&mut volume.labels, &scope.deployment);
    }
    Ok(Observed { containers, networks, volumes })
}

/// What was adopted cannot be labelled any more: it is seen as if it were. What is labelled as another's stays another's.
fn claim(labels: &mut BTreeMap<String, String>, deployment: &str) {
    labels.entry(LABEL_DEPLOYMENT.to_owned()).or_insert_with(|| deployment.to_owned());
}

fn claimed(mut container: Container, scope: &Scope) -> Container {
    if scope.adopted.containers.contains(&container.id) {
        claim(&mut container.labels, &scope.deployment);
    }
    container
}

/// Why a [`Watcher`] woke its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// Something happened to an object in scope.
    Event(Arc<EngineEvent>),
    /// The engine went away: the state of everything is unknown.
    Lost,
    /// The engine is back, or events were missed: look again.
    Back,
}

/// A cached [`Observed`] that events mark stale, piece by piece: with nothing happening, observing asks the engine nothing.
///
/// Events arrive a little after the change they tell of. Whoever changes something itself calls
/// [`Watcher::invalidate`] and does not rely on events for it.
pub struct Watcher {
    engine: Arc<dyn Engine>,
    signals: Receiver<Signal>,
    scope: Scope,
    cache: Option<Observed>,
    stale: BTreeSet<String>,
    heard: VecDeque<Signal>,
    /// What the owner is still to be woken by.
    woken: Option<Wake>,
}

impl Watcher {
    /// Watches a scope.
    pub fn new(engine: Arc<dyn Engine>, hub: &EventHub, scope: Scope) -> Self {
        Self {
            engine,
            signals: hub.subscribe(),
            scope,
            cache: None,
            stale: BTreeSet::new(),
            heard: VecDeque::new(),
            woken: None,
        }
    }

    /// Watches another scope from now on.
    pub fn set_scope(&mut self, scope: Scope) {
        if self.scope != scope {
            self.scope = scope;
            self.cache = None;
        }
    }

    /// Forgets everything: the next observation looks at all of it.
    pub fn invalidate(&mut self) {
        self.cache = None;
    }

    /// Signals in scope since the last call, oldest first; of very many the newest. They tell who did something; what is there
    /// only [`Watcher::observe`] tells.
    ///
    /// An observation that took long may be older than the last of them: then [`Watcher::changed`] returns at once.
    pub fn heard(&mut self) -> Vec<Signal> {
        loop {
            match self.signals.try_recv() {
                Ok(signal) => {
                    if let Some(wake) = self.take(signal) {
                        self.woken = Some(wake);
                    }
                }
                Err(TryRecvError::Lagged(_)) => self.woken = Some(self.lagged()),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        self.heard.drain(..).collect()
    }

    /// Whether the last observation still holds, but for what happened to single containers.
    pub fn is_current(&self) -> bool {
        self.cache.is_some()
    }

    /// Waits until something in scope has happened. Cancel safe.
    pub async fn changed(&mut self) -> Wake {
        if let Some(wake) = self.woken.take() {
            return wake;
        }
        loop {
            let wake = match self.signals.recv().await {
                Ok(signal) => self.take(signal),
                Err(RecvError::Lagged(_)) => Some(self.lagged()),
                // The hub is gone and with it the agent's end has come: nothing will ever happen again.
                Err(RecvError::Closed) => std::future::pending().await,
            };
            if let Some(wake) = wake {
                return wake;
            }
        }
    }

    /// What the engine holds, asking only about what events have touched.
    pub async fn observe(&mut self) -> Result<&Observed> {
        loop {
            match self.signals.try_recv() {
                Ok(signal) => drop(self.take(signal)),
                Err(TryRecvError::Lagged(_)) => self.cache = None,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let observed = match self.cache.take() {
            Some(mut observed) => {
                while let Some(id) = self.stale.first().cloned() {
                    self.refresh(&mut observed, &id).await?;
                    self.stale.remove(&id);
                }
                observed
            }
            None => {
                self.stale.clear();
                observe(self.engine.as_ref(), &self.scope).await?
            }
        };
        Ok(self.cache.insert(observed))
    }

    async fn refresh(&self, observed: &mut Observed, id: &str) -> Result<()> {
        let found = match self.engine.inspect_container(id).await {
            Ok(container) => Some(claimed(container, &self.scope)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let in_scope = |container: &Container| {
            container.deployment() == Some(&self.scope.deployment)
                || self.scope.containers.contains(&container.name)
        };
        observed.containers.retain(|container| container.id != id);
        observed.containers.extend(found.filter(in_scope));
        Ok(())
    }

    /// Too much happened to be told: as if the engine had been away, but it was not.
    fn lagged(&mut self) -> Wake {
        self.cache = None;
        Wake::Back
    }

    /// Marks what a signal makes stale and says whether the owner should wake.
    fn take(&mut self, signal: Signal) -> Option<Wake> {
        let wake = match &signal {
            Signal::Lost { .. } => {
                self.cache = None;
                Wake::Lost
            }
            Signal::Back { .. } => {
                self.cache = None;
                Wake::Back
            }
            Signal::Event(event) if self.concerns(event) => Wake::Event(Arc::clone(event)),
            Signal::Event(_) => return None,
        };
        if self.heard.len() == HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(signal);
        Some(wake)
    }

    fn concerns(&mut self, event: &EngineEvent) -> bool {
        let name = event.attributes.get("name").map(String::as_str).unwrap_or_default();
        let owned = event.attributes.get(LABEL_DEPLOYMENT) == Some(&self.scope.deployment)
            || self.scope.adopted.containers.contains(&event.id);
        let known = |id: &str| {
            self.cache
                .as_ref()
                .is_none_or(|observed| observed.containers.iter().any(|container| container.id == id))
        };
        match event.subject {
            Subject::Container => {
                let concerned = owned || self.scope.containers.contains(name) || known(&event.id);
                if concerned {
                    self.stale.insert(event.id.clone());
                }
                concerned
            }
            Subject::Network => {
                let attached = event.container().filter(|id| known(id)).map(str::to_owned);
                if matches!(event.action, Action::Connect | Action::Disconnect) {
                    let concerned = attached.is_some();
                    self.stale.extend(attached);
                    return concerned;
                }
                let concerned = owned || self.scope.networks.contains(name);
                if concerned {
                    self.cache = None;
                }
                concerned
            }
            Subject::Volume => {
                let concerned = matches!(event.action, Action::Create | Action::Destroy)
                    && self.scope.volumes.contains(&event.id);
                if concerned {
                    self.cache = None;
                }
                concerned
            }
            Subject::Other => false,
        }
    }
}
