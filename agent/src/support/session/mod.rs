//! One session, from the engineer's first message to the end: the tunnel, the clockwork, the channels.
//!
//! | step | what is checked | what a failure costs |
//! |---|---|---|
//! | first message | it is by the key in the request, about this request | nothing: the grant stays as it was |
//! | second | the engineer is there now, and no recording of them | nothing |
//! | recorder | there is room for a recording | nothing |
//! | opening | the state machine; rules, root and switch as they are now; written down and flushed | the grant is used up, or denied |
//!
//! From then on [`talk`] has it.

mod talk;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use kedge_bundle::support::tunnel::{self, Tunnel};
use kedge_proto::support::v1::{Ended, Frame, frame};
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use super::core::grant::{Event as Step, Grant, Phase, Reason, ends_in};
use super::core::live::Live;
use super::recorder::Recorder;
use super::{Support, recordings};
use crate::codes;
use crate::problem::Problem;
use talk::Session;

/// How long each message of the opening may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last word may take.
const FAREWELL: Duration = Duration::from_millis(200);
/// Sessions and openings at one time.
const MOST_LIVE: usize = 8;

/// A way to the engineer and back, of sealed messages. Its end is the loss of the line.
pub struct Line {
    /// To the engineer.
    pub out: mpsc::Sender<Bytes>,
    /// From the engineer.
    pub inbound: BoxStream<'static, Bytes>,
}

impl Support {
    /// Holds the session of a grant on this line, to its end and until nothing of it is left.
    pub async fn hold(&self, id: &str, line: Line) {
        if self.refusals_left() == 0 {
            return;
        }
        let ending = {
            let mut live = self.live();
            if live.contains_key(id) || live.len() >= MOST_LIVE {
                tracing::warn!(
                    grant = id,
                    "a second line for one support session, or one too many, was refused"
                );
                return;
            }
            let (sender, ending) = watch::channel(None);
            live.insert(id.to_owned(), sender);
            ending
        };
        let (support, id) = (self.clone(), id.to_owned());
        // A task of its own: whoever brought the line may go.
        let task = self.inner.tasks.spawn(async move {
            if let Err(problem) = support.open_and_run(&id, line, ending).await {
                tracing::warn!(grant = id, "a support session was not opened: {problem}");
                let _ = support.refused(Some(id.clone()), &problem).await;
            }
            let told = support.live().remove(&id).and_then(|told| *told.borrow());
            // What was told to a session that has not begun, or not ended by it. The agent's own end leaves what is approved.
            if let Some(reason) = told.filter(|reason| *reason != Reason::Restarted) {
                support.ending(&id, &Step::End(reason)).await;
            }
            support.inner.changed.send_replace(());
        });
        let _ = task.await;
    }

    async fn open_and_run(
        &self,
        id: &str,
        mut line: Line,
        mut ending: watch::Receiver<Option<Reason>>,
    ) -> Result<(), Problem> {
        let grant = self.find(id).await?;
        if !matches!(grant.phase, Phase::Approved(_)) {
            return Err(state("the grant is not one that can be opened now"));
        }
        // Cancel safe, both: an engineer who was not let in has no session to lose, and a recording that was begun holds nothing.
        let mut tunnel = tokio::select! {
            biased;
            _ = talk::told(&mut ending) => return Ok(()),
            tunnel = self.handshake(&grant, &mut line) => tunnel?,
        };
        let (folder, at) = (recordings::folder(&self.inner.world), self.inner.world.clock.now());
        let (name, file) = (grant.id().to_owned(), grant.file.clone());
        let recorder = tokio::select! {
            biased;
            reason = talk::told(&mut ending) => {
                last_word(&mut tunnel, &line.out, &reason.to_string()).await;
                return Ok(());
            }
            recorder = off_thread(move || Recorder::begin(&folder, &name, &file, at)) => recorder,
        };
        let recorder = match recorder {
            Ok(recorder) => recorder,
            Err(problem) => {
                last_word(&mut tunnel, &line.out, &problem.message).await;
                return Err(problem);
            }
        };
        let opened = match self.step(id, &Step::Open(self.inner.world.time.now())).await {
            Ok(grant) => grant,
            Err(problem) => {
                last_word(&mut tunnel, &line.out, &problem.message).await;
                return Err(problem);
            }
        };
        let Phase::Open(consent, since) = &opened.phase else { return Err(state("it did not open")) };
        let (now, rules) = (self.inner.world.clock.moment(), &self.inner.world.rules.support);
        let lasts = ends_in(&consent.terms, since, &now).unwrap_or_default();
        let idle = Duration::from_secs(rules.idle_seconds);
        let live = Live::opened(now.since, lasts, idle, consent.terms.max_bytes);
        let session =
            Session::new(self.clone(), &opened, consent.terms.clone(), (now.boot, live), tunnel, recorder);
        session.run(line, ending).await;
        Ok(())
    }

    /// Two messages in, one out: then the engineer is who the request names, and here.
    async fn handshake(&self, grant: &Grant, line: &mut Line) -> Result<Tunnel, Problem> {
        let nobody = || state("the engineer said nothing");
        let first =
            tokio::time::timeout(PATIENCE, line.inbound.next()).await.ok().flatten().ok_or_else(nobody)?;
        let accepted = tunnel::accept(&self.inner.key, &grant.request.session_key, grant.digest, &first);
        let (mut tunnel, answer) = accepted.map_err(|e| stranger(&e))?;
        line.out.send(answer.into()).await.map_err(|_| nobody())?;
        let second =
            tokio::time::timeout(PATIENCE, line.inbound.next()).await.ok().flatten().ok_or_else(nobody)?;
        let frame = tunnel.unseal(&second).map_err(|e| stranger(&e))?;
        match Frame::decode(frame.as_slice()) {
            Ok(Frame { body: Some(frame::Body::Hello(_)) }) => Ok(tunnel),
            _ => Err(state("the engineer's first word was no hello")),
        }
    }
}

/// Says why it is over, if the line takes it.
async fn last_word(tunnel: &mut Tunnel, out: &mpsc::Sender<Bytes>, message: &str) {
    let ended = Frame { body: Some(frame::Body::Ended(Ended { message: message.to_owned() })) };
    if let Ok(sealed) = tunnel.seal(&ended.encode_to_vec()) {
        let _ = tokio::time::timeout(FAREWELL, out.send(sealed.into())).await;
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Problem::from_error(&codes::INTERNAL, &e))?
}

fn state(why: &str) -> Problem {
    Problem::new(&codes::SUPPORT_STATE, why)
}

fn stranger(error: &tunnel::Broken) -> Problem {
    Problem::from_error(&codes::SUPPORT_AUDIENCE, error).at("opening the session")
}
