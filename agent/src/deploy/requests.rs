//! Requests: what a deployment is asked, and whether what it is doing must stop for it.

use std::collections::BTreeMap;

use kedge_proto::v1;
use tokio::sync::mpsc;

use super::machine;
use super::secrets::Secrets;
use super::status::{self, sentence};
use super::task::Deployment;
use super::{Command, Install};
use crate::clock::stamp;
use crate::codes;
use crate::host::Progress;
use crate::problem::Problem;
use crate::store::{OperationRecord, Origin, Phase, Writes};

impl Deployment {
    /// Takes a request. `true` when what is being done must stop for it.
    pub(super) async fn hear(&mut self, command: Command) -> bool {
        match command {
            Command::Install(install) => self.install(install).await,
            Command::Remove { volumes, id, watcher } => self.remove(volumes, id, watcher).await,
            Command::Pause { by, reason, answer } => {
                self.pause_it(by, reason, answer).await;
                false
            }
            Command::Resume { by, answer } => {
                self.resume_it(by, answer).await;
                false
            }
        }
    }

    pub(super) async fn install(&mut self, install: Install) -> bool {
        if let Some(answer) = self.answer_at_once(&install) {
            if let Some(watcher) = &install.watcher {
                let _ = watcher.send(answer).await;
            }
            return false;
        }
        match &self.record.operation {
            Some(operation) if !machine::may_be_superseded(operation.phase) && !self.is_held(operation) => {
                match install.origin {
                    Origin::Local => {
                        let busy = Problem::new(
                            &codes::BUSY,
                            format!("{} is being brought up", sentence(&operation.target)),
                        );
                        if let Some(watcher) = &install.watcher {
                            let _ = watcher.send(Progress::Failed(busy)).await;
                        }
                    }
                    Origin::Tether => self.queued = Some(install),
                }
                false
            }
            _ => self.begin(install).await,
        }
    }

    /// What can be said without doing anything; `None` when there is something to do.
    fn answer_at_once(&self, install: &Install) -> Option<Progress> {
        let done = |message: String| {
            Some(Progress::Done {
                message,
                deployment: Some(Box::new(self.status())),
                plan: Vec::new(),
                kept: Vec::new(),
            })
        };
        if self.record.requests.contains(&install.id) {
            return done("this request was carried out before".to_owned());
        }
        let operation = self.record.operation.as_ref();
        if install.origin == Origin::Tether {
            let refused = self.refused().iter().any(|r| r.release.digest == install.release.digest);
            let known = operation.is_some_and(|o| o.target.seq >= install.release.seq);
            if refused || known {
                return done(String::new());
            }
        }
        let active = self.generation(self.record.active).ok().flatten();
        let same = active.is_some_and(|active| {
            active.release.digest == install.release.digest
                && install.given.iter().all(|(name, value)| active.parameters.get(name) == Some(value))
        });
        if same && operation.is_none() {
            return done(format!("{} is active already", sentence(&install.release)));
        }
        None
    }

    /// Starts an operation in place of one that has touched nothing, if there is one.
    async fn begin(&mut self, install: Install) -> bool {
        let begun = match self.write_beginning(&install).await {
            Ok(()) => self.resume_after_update(&sentence(&install.release)).await,
            failed => failed,
        };
        match begun {
            Ok(()) => {
                // Those who watched what this one takes the place of are told so.
                let problem = Problem::new(&codes::BUSY, "a newer request took its place");
                self.finish(Progress::Failed(problem)).await;
                if let Some(watcher) = install.watcher {
                    self.watchers.push(watcher);
                }
                true
            }
            Err(problem) => {
                tracing::error!(deployment = self.record.name, %problem, "a request could not be taken");
                if let Some(watcher) = install.watcher {
                    let _ = watcher.send(Progress::Failed(problem)).await;
                }
                false
            }
        }
    }

    async fn write_beginning(&mut self, install: &Install) -> Result<(), Problem> {
        // First, because after the record is written a crash must find them.
        let folder = self.world.deployment_folder(&self.record.name).join("given");
        let given = Secrets::open(folder)?;
        for (name, value) in &install.given {
            given.keep(name, &kedge_bundle::parameters::Secret::new(value.clone()))?;
        }
        let mut record = self.record.clone();
        record.operation = Some(OperationRecord {
            id: install.id.clone(),
            target: install.release.clone(),
            parameters: record.parameters.clone(),
            phase: Phase::Offered,
            origin: install.origin,
            generation: None,
            started: stamp(&*self.world.clock),
            attempt: 1,
            epoch: None,
            is_refetched: false,
            problem: None,
            remove_volumes: false,
        });
        let event = v1::Event {
            deployment: record.name.clone(),
            kind: "phase".to_owned(),
            message: format!("{} is to be installed", sentence(&install.release)),
            phase: v1::Phase::Offered.into(),
            release: Some(status::release(&install.release)),
            ..v1::Event::default()
        };
        self.world.commit_with_event(Writes::new().put(&record)?, event).await?;
        self.record = record;
        Ok(())
    }

    async fn remove(&mut self, volumes: bool, id: String, watcher: Option<mpsc::Sender<Progress>>) -> bool {
        if let Some(operation) = &self.record.operation
            && operation.phase == Phase::Removing
            && (operation.remove_volumes || !volumes)
        {
            // Asked twice, done once.
            self.watchers.extend(watcher);
            return false;
        }
        let written = self.write_removal(volumes, id).await;
        match (written, watcher) {
            (Ok(()), watcher) => {
                // Those who watched what the removal ended are told so.
                let problem = Problem::new(&codes::BUSY, "the deployment is being removed");
                self.finish(Progress::Failed(problem)).await;
                self.watchers.extend(watcher);
                true
            }
            (Err(problem), watcher) => {
                tracing::error!(deployment = self.record.name, %problem, "the removal could not be taken");
                if let Some(watcher) = watcher {
                    let _ = watcher.send(Progress::Failed(problem)).await;
                }
                false
            }
        }
    }

    async fn write_removal(&mut self, volumes: bool, id: String) -> Result<(), Problem> {
        let audit = crate::audit::Event::RemovalRequested { deployment: self.record.name.clone(), volumes };
        self.world.audit(audit).await?;
        let mut record = self.record.clone();
        let release = self.generation(record.active)?.map(|g| g.release);
        let target = release.or(record.operation.map(|o| o.target)).unwrap_or_default();
        record.operation = Some(OperationRecord {
            id,
            target,
            parameters: BTreeMap::new(),
            phase: Phase::Removing,
            origin: Origin::Local,
            generation: None,
            started: stamp(&*self.world.clock),
            attempt: 1,
            epoch: None,
            is_refetched: false,
            problem: None,
            remove_volumes: volumes,
        });
        self.world.store.commit(Writes::new().put(&record)?).await?;
        self.record = record;
        Ok(())
    }

    /// Answers requests that came while the last operation ended, so that nobody waits for what will not happen.
    pub(super) async fn turn_away(&mut self) {
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            let (watcher, problem) = match command {
                Command::Install(install) => (
                    install.watcher,
                    Problem::new(&codes::BUSY, "the deployment was just removed; try again"),
                ),
                Command::Remove { watcher, .. } => {
                    (watcher, Problem::new(&codes::NO_DEPLOYMENT, "the deployment was just removed"))
                }
                Command::Pause { answer, .. } | Command::Resume { answer, .. } => {
                    let problem = Problem::new(&codes::NO_DEPLOYMENT, "the deployment was just removed");
                    let _ = answer.send(Err(problem));
                    continue;
                }
            };
            if let Some(watcher) = watcher {
                let _ = watcher.try_send(Progress::Failed(problem));
            }
        }
    }
}
