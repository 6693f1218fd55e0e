//! One thing that an engineer does in a session: read logs, run a command. Each is a task, and says what it has through
//! [`Mouth`], as fast as the engineer listens.

use std::sync::Arc;

use bytes::Bytes;
use kedge_bundle::support::flow::{self, WINDOW};
use kedge_bundle::support::{Scope, Target, Terms};
use kedge_proto::support::v1::{Data, Exit, Open, Opened, frame, open};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::recorder::Event;
use super::{Support, command, diagnostics, forward, inspect, logs};
use crate::audit;
use crate::codes;
use crate::problem::Problem;
use crate::redact::Redactor;

/// Bytes that a channel may send ahead of the engineer's reading.
pub(super) const CREDIT: usize = 1 << 20;
/// Bytes of one piece of data: with what is around it, no more than can be sealed at once.
const PIECE: usize = 60 << 10;
/// The most credit that an engineer can give at once: more is a fault, or an attack on memory.
pub(super) const MOST_CREDIT: usize = 16 << 20;

/// Something for the session to record and send.
pub(super) enum Out {
    /// To be recorded, and sent where it says so.
    Said(u32, Event, Option<frame::Body>),
    /// So much of what the engineer sent has been taken in; they may send as much more.
    Took(u32, u32),
}

/// Something that the engineer tells a channel.
pub(super) enum Told {
    /// Typed.
    Data(Bytes),
    /// The terminal's new size: rows, columns.
    Resize(u16, u16),
    /// No more will come.
    Finish,
}

/// What a channel speaks through.
#[derive(Clone)]
pub(super) struct Mouth {
    pub(super) channel: u32,
    pub(super) out: mpsc::Sender<Out>,
    pub(super) credit: Arc<Semaphore>,
    pub(super) cancel: CancellationToken,
}

/// The session has ended, or nobody wants the channel any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Mouth {
    /// Says it, once the engineer has room for it.
    pub(super) async fn say(&self, stderr: bool, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.pieces(bytes.into(), |piece| (Event::Out { stderr, bytes: piece.clone() }, stderr)).await
    }

    async fn pieces(&self, mut bytes: Bytes, event: impl Fn(&Bytes) -> (Event, bool)) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            let many = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            // Cancel safe: a permit that is not used goes back. Whoever no longer listens gives no credit either.
            tokio::select! {
                permit = self.credit.acquire_many(many) => permit.map_err(|_| Gone)?.forget(),
                () = self.cancel.cancelled() => return Err(Gone),
            }
            let (event, stderr) = event(&piece);
            let data = Data { channel: self.channel, stderr, bytes: piece };
            self.send(event, Some(frame::Body::Data(data))).await?;
        }
        Ok(())
    }

    /// Passes on what is none of ours to look at: it is paid for like everything, and recorded by its length.
    pub(super) async fn pass(&self, bytes: Bytes) -> Result<(), Gone> {
        self.pieces(bytes, |piece| (Event::Carried { inwards: false, bytes: piece.len() }, false)).await
    }

    /// Notes something that is not sent.
    pub(super) async fn note(&self, event: Event) -> Result<(), Gone> {
        self.send(event, None).await
    }

    async fn send(&self, event: Event, body: Option<frame::Body>) -> Result<(), Gone> {
        self.out.send(Out::Said(self.channel, event, body)).await.map_err(|_| Gone)
    }
}

/// What a channel hears the engineer by.
pub(super) struct Ear {
    channel: u32,
    told: mpsc::Receiver<Told>,
    out: mpsc::Sender<Out>,
    /// Taken in, and the engineer does not know yet.
    taken: u32,
}

impl Ear {
    pub(super) fn new(channel: u32, told: mpsc::Receiver<Told>, out: mpsc::Sender<Out>) -> Self {
        Self { channel, told, out, taken: 0 }
    }

    /// What comes next; nothing once the session has ended. Cancel safe.
    pub(super) async fn hear(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// That a piece of so many bytes has been taken in. Said when it is worth a message.
    pub(super) async fn took(&mut self, bytes: usize) -> Result<(), Gone> {
        self.taken = self.taken.saturating_add(flow::cost(bytes));
        if self.taken < WINDOW / 4 {
            return Ok(());
        }
        let taken = std::mem::take(&mut self.taken);
        self.out.send(Out::Took(self.channel, taken)).await.map_err(|_| Gone)
    }
}

/// What a channel works with.
pub(super) struct Channel {
    pub(super) support: Support,
    pub(super) grant: String,
    pub(super) mouth: Mouth,
    pub(super) ear: Ear,
    pub(super) cancel: CancellationToken,
    /// What it has begun that may outlive it; the session's end waits for these.
    pub(super) begun: TaskTracker,
}

impl Channel {
    /// Does what was asked for, if it was granted, and says how it ended.
    pub(super) async fn run(mut self, asked: Open, terms: Terms) {
        let mouth = self.mouth.clone();
        let outcome = self.attempt(asked, &terms).await;
        let (code, problem, how) = match outcome {
            Ok(code) => (code, None, format!("code {code}")),
            Err(problem) => (-1, Some(problem.to_proto()), problem.to_string()),
        };
        let exit = Exit { channel: mouth.channel, code, problem };
        let _ = mouth.send(Event::End(how), Some(frame::Body::Exit(exit))).await;
    }

    async fn attempt(&mut self, asked: Open, terms: &Terms) -> Result<i64, Problem> {
        let not_granted = |what: String| Problem::new(&codes::SUPPORT_SCOPE, what);
        let unknown = || {
            let called: String = asked.called.chars().filter(|c| !c.is_control()).take(80).collect();
            let what = if called.is_empty() { String::new() } else { format!("`{called}`, ") };
            let version = env!("CARGO_PKG_VERSION");
            let why =
                format!("the engineer asks for {what}which this agent, of version {version}, does not know");
            Problem::new(&codes::PROTOCOL, why)
        };
        let what = asked.what.ok_or_else(unknown)?;
        let scope = match &what {
            open::What::Logs(_) => Scope::Logs,
            open::What::Inspect(_) => Scope::Inspect,
            open::What::Run(run) => Scope::Run(run.argv.clone()),
            open::What::Shell(_) => Scope::Shell,
            open::What::Bundle(_) => Scope::Bundle,
            // No grant holds one without a service, or of port 0.
            open::What::Forward(forward) => Scope::Forward {
                service: asked.target.split_once('/').map_or("", |(_, service)| service).to_owned(),
                port: u16::try_from(forward.port).unwrap_or(0),
            },
        };
        let judged = if terms.scopes.contains(&scope) {
            self.target(&asked.target, &scope, terms)
        } else {
            Err(not_granted(format!("the scope {scope} was not granted")))
        };
        let outcome = judged.as_ref().map_or_else(|why| why.to_string(), |_| "begun".to_owned());
        let event = audit::Event::SupportChannel {
            grant: self.grant.clone(),
            channel: self.mouth.channel,
            scope: scope.to_string().chars().take(1000).collect(),
            target: asked.target.chars().take(200).collect(),
            outcome,
        };
        self.support.inner.world.audit(event).await?;
        let target = judged?;
        let terminal = match &what {
            open::What::Shell(shell) => Some((side(shell.rows), side(shell.columns))),
            _ => None,
        };
        let word = scope.to_string();
        let word = word.split(':').next().unwrap_or_default();
        let opened = Opened {
            channel: self.mouth.channel,
            message: "this session is recorded".to_owned(),
            window: WINDOW,
        };
        let event = Event::Open {
            what: if terminal.is_some() { word.to_owned() } else { scope.to_string() },
            target: asked.target.clone(),
            terminal,
        };
        self.mouth.send(event, Some(frame::Body::Opened(opened))).await.map_err(gone)?;
        let redactor = self.redactor(terms)?;
        match what {
            open::What::Logs(query) => logs::read(self, &needed(target)?, &query, &redactor).await,
            open::What::Inspect(_) => inspect::show(self, &needed(target)?, &redactor).await,
            open::What::Run(run) => command::run(self, &needed(target)?, &run.argv, &redactor).await,
            open::What::Shell(_) => {
                command::shell(self, &needed(target)?, terminal.unwrap_or((24, 80)), &redactor).await
            }
            open::What::Forward(_) => forward::connection(self, &needed(target)?, &scope).await,
            open::What::Bundle(_) => {
                let skip = self.support.inner.world.rules.support.bundle_skip.clone();
                let wish = diagnostics::Wish { only: Vec::new(), skip };
                let owner = diagnostics::Owner {
                    label: self.grant.clone(),
                    cancel: self.cancel.child_token(),
                    tasks: self.begun.clone(),
                };
                let tar = async {
                    diagnostics::make(&self.support, &owner, &terms.targets, &wish)
                        .await
                        .map(|p| diagnostics::tar(&p))
                };
                // Cancel safe: what collectors have begun is cancelled by the same word.
                let tar = tokio::select! {
                    tar = tar => tar?,
                    () = self.cancel.cancelled() => return Ok(137),
                };
                self.mouth.say(false, tar).await.map_err(gone)?;
                Ok(0)
            }
        }
    }

    fn target(&self, text: &str, scope: &Scope, terms: &Terms) -> Result<Option<Target>, Problem> {
        if *scope == Scope::Bundle {
            return Ok(None);
        }
        let not_granted = |why: String| Problem::new(&codes::SUPPORT_SCOPE, why);
        let target: Target = text.parse().map_err(not_granted)?;
        if !terms.permits_target(&target) {
            return Err(not_granted(format!("the target {target} was not granted")));
        }
        Ok(Some(target))
    }

    /// Knows the secrets of every deployment of the session: services of one may speak of another's.
    fn redactor(&self, terms: &Terms) -> Result<Redactor, Problem> {
        redactor(&self.support, terms.targets.iter())
    }
}

/// Knows the secrets of these deployments.
///
/// # Errors
/// When they cannot be read: then nothing may leave either.
pub(super) fn redactor<'a>(
    support: &Support,
    targets: impl Iterator<Item = &'a Target>,
) -> Result<Redactor, Problem> {
    let mut known = Redactor::default();
    let deployments: std::collections::BTreeSet<&str> =
        targets.map(|target| target.deployment.as_str()).collect();
    for deployment in deployments {
        known = known.with(&crate::deploy::preview::redactor(&support.inner.world, deployment)?);
    }
    Ok(known)
}

fn needed(target: Option<Target>) -> Result<Target, Problem> {
    target.ok_or_else(|| Problem::new(&codes::SUPPORT_SCOPE, "no target was named"))
}

pub(super) fn gone(_: Gone) -> Problem {
    Problem::new(&codes::SUPPORT_STATE, "the session has ended")
}

/// Rows or columns that a terminal can have.
pub(super) fn side(asked: u32) -> u16 {
    u16::try_from(asked.clamp(1, 1000)).unwrap_or(24)
}
