//! An open session: one loop does everything that must happen in order. What channels say is paid for, recorded, sealed and
//! sent. It never waits for the line, for a channel or for the disk, so that a deadline or a kill switch is never kept
//! waiting: while one batch is on its way to the disk, the one before is on its way to the engineer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use kedge_bundle::support::Terms;
use kedge_bundle::support::flow::{self, WINDOW};
use kedge_bundle::support::tunnel::Tunnel;
use kedge_proto::support::v1::{Credit, Data, Exit, Frame, Open, Unknown, Welcome, frame};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::channel::{CREDIT, Channel, Ear, MOST_CREDIT, Mouth, Out, Told, side};
use super::super::core::grant::{Event as Step, Grant, Reason};
use super::super::core::live::Live;
use super::super::recorder::{Event, Recorder};
use super::super::{Support, container};
use super::{FAREWELL, Line, last_word, off_thread, state};

/// How often the clockwork is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long a disk may take to take a recording.
const DISK: Duration = Duration::from_secs(5);
/// Things said that are recorded together.
const TOGETHER: usize = 32;
/// Sealed messages that may wait for the line while more is recorded.
const WAITING: usize = 2 * TOGETHER;
/// Answers to what is not known that may wait beyond that. Whoever asks for more gets none.
const ANSWERS: usize = 64;
/// Channels at one time.
const MOST_CHANNELS: usize = 16;
/// Channels that are asked for in one session, one after the other.
const MOST_OPENINGS: u32 = 1000;
/// Things told to one channel that may wait: what a window of the smallest pieces holds, and new sizes of a terminal.
const TELLING: usize = (WINDOW / flow::LEAST) as usize + 64;
/// How long channels may take to end by themselves.
const DRAIN: Duration = Duration::from_secs(2);

pub(super) struct Session {
    support: Support,
    id: String,
    terms: Terms,
    /// The boot that `live` counts in.
    boot: String,
    live: Live,
    tunnel: Tunnel,
    recorder: Arc<Mutex<Recorder>>,
    channels: BTreeMap<u32, Handle>,
    /// How many were ever asked for.
    opened: u32,
    tasks: JoinSet<()>,
    cancel: CancellationToken,
    /// What channels have begun that may outlive them.
    begun: TaskTracker,
    said: mpsc::Sender<Out>,
    saying: mpsc::Receiver<Out>,
    /// What is being written down, and may leave after.
    recording: Option<BoxFuture<'static, Result<Vec<frame::Body>, Reason>>>,
    /// Sealed and not yet sent.
    waiting: VecDeque<Bytes>,
}

struct Handle {
    told: mpsc::Sender<Told>,
    /// What the engineer may still send, see [`flow`].
    room: u32,
    credit: Arc<Semaphore>,
    cancel: CancellationToken,
}

impl Session {
    pub(super) fn new(
        support: Support,
        grant: &Grant,
        terms: Terms,
        (boot, live): (String, Live),
        tunnel: Tunnel,
        recorder: Recorder,
    ) -> Self {
        let (said, saying) = mpsc::channel(TOGETHER);
        Self {
            support,
            id: grant.id().to_owned(),
            terms,
            boot,
            live,
            tunnel,
            recorder: Arc::new(Mutex::new(recorder)),
            channels: BTreeMap::new(),
            opened: 0,
            tasks: JoinSet::new(),
            cancel: CancellationToken::new(),
            begun: TaskTracker::new(),
            said,
            saying,
            recording: None,
            waiting: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self, mut line: Line, ending: watch::Receiver<Option<Reason>>) {
        let reason = self.converse(&mut line, ending).await;
        self.cancel.cancel();
        // Everything at once: what runs is ended by its container's removal, not by being asked, and a disk that does not take
        // the end's record keeps nothing alive.
        let (support, world) = (self.support.clone(), Arc::clone(&self.support.inner.world));
        let end = Step::End(reason);
        let ended = support.ending(&self.id, &end);
        let out = line.out.clone();
        let farewell = async {
            // In order, or the engineer would take the last word for a forgery.
            let rest = async {
                for message in self.waiting.drain(..) {
                    let _ = out.send(message).await;
                }
                last_word(&mut self.tunnel, &out, &reason.to_string()).await;
            };
            let _ = tokio::time::timeout(FAREWELL, rest).await;
        };
        self.begun.close();
        let drained = async {
            let all = async {
                while self.tasks.join_next().await.is_some() {}
                self.begun.wait().await;
            };
            let _ = tokio::time::timeout(DRAIN, all).await;
            self.tasks.shutdown().await;
        };
        let removed = async {
            let (removed, (), ()) =
                tokio::join!(container::remove_all(&*world.engine, &self.id), drained, farewell);
            // Again: a container may have been on its way while the others went.
            removed?;
            container::remove_all(&*world.engine, &self.id).await
        };
        let ((), removed) = tokio::join!(ended, removed);
        let _ = self.record(vec![(0, Event::End(reason.to_string()))], Vec::new()).await;
        match removed {
            Ok(()) => self.support.ending(&self.id, &Step::Cleaned).await,
            // It is looked after until it is gone.
            Err(error) => {
                tracing::warn!(grant = self.id, %error, "what a support session left could not be removed yet")
            }
        }
    }

    async fn converse(&mut self, line: &mut Line, mut ending: watch::Receiver<Option<Reason>>) -> Reason {
        let welcome = Welcome {
            scopes: self.terms.scopes.iter().map(ToString::to_string).collect(),
            targets: self.terms.targets.iter().map(ToString::to_string).collect(),
            ends_in_seconds: self.live.left(self.now()).as_secs(),
            notice: "everything in this session is recorded by the customer".to_owned(),
        };
        if let Err(reason) = self.send(frame::Body::Welcome(welcome)) {
            return reason;
        }
        let mut ticks = tokio::time::interval(TICK);
        let mut batch = Vec::with_capacity(TOGETHER);
        loop {
            // Cancel safe, all of them: channels and streams keep what they have not given, a permit that is not
            // used goes back, watches keep their mark, what is being written down goes on.
            let outcome = tokio::select! {
                biased;
                reason = told(&mut ending) => Err(reason),
                _ = ticks.tick() => self.look(),
                recorded = pending(&mut self.recording) => {
                    self.recording = None;
                    recorded.and_then(|bodies| bodies.into_iter().try_for_each(|body| self.send(body)))
                }
                permit = line.out.reserve(), if !self.waiting.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(message) = self.waiting.pop_front() {
                            permit.send(message);
                        }
                        Ok(())
                    }
                    Err(_) => Err(Reason::TetherLost),
                },
                message = line.inbound.next() => match message {
                    Some(message) => self.hear(&message),
                    None => Err(Reason::TetherLost),
                },
                _ = self.saying.recv_many(&mut batch, TOGETHER),
                    if self.recording.is_none() && self.waiting.len() < WAITING => self.say(&mut batch),
            };
            if let Err(reason) = outcome {
                return reason;
            }
        }
    }

    fn now(&self) -> Duration {
        self.support.inner.world.clock.moment().since
    }

    fn look(&mut self) -> Result<(), Reason> {
        while self.tasks.try_join_next().is_some() {}
        let now = self.support.inner.world.clock.moment();
        if now.boot != self.boot {
            return Err(Reason::Rebooted);
        }
        if self.support.is_off() {
            return Err(Reason::KillSwitch);
        }
        self.live.due(now.since).map_or(Ok(()), Err)
    }

    /// Pays for what was said and has it recorded; after that it is sealed and sent.
    fn say(&mut self, batch: &mut Vec<Out>) -> Result<(), Reason> {
        let mut events = Vec::with_capacity(batch.len());
        let mut bodies = Vec::with_capacity(batch.len());
        for out in batch.drain(..) {
            let (channel, event, body) = match out {
                Out::Said(channel, event, body) => (channel, event, body),
                Out::Took(channel, bytes) => {
                    if let Some(handle) = self.channels.get_mut(&channel) {
                        handle.room = handle.room.saturating_add(bytes).min(WINDOW);
                        bodies.push(frame::Body::Credit(Credit { channel, bytes }));
                    }
                    continue;
                }
            };
            // What is typed is recorded too: an engineer must not fill the customer's disk.
            if let Event::In(bytes) = &event {
                self.live.spend(bytes.len())?;
            }
            match &body {
                Some(frame::Body::Data(Data { bytes, .. })) => self.live.spend(bytes.len())?,
                Some(frame::Body::Exit(_)) => drop(self.channels.remove(&channel)),
                _ => {}
            }
            events.push((channel, event));
            bodies.extend(body);
        }
        self.live.active(self.now());
        self.recording = Some(self.record(events, bodies));
        Ok(())
    }

    /// Writes events down, and gives what may be sent once they would survive a power cut.
    fn record(
        &self,
        events: Vec<(u32, Event)>,
        bodies: Vec<frame::Body>,
    ) -> BoxFuture<'static, Result<Vec<frame::Body>, Reason>> {
        if events.is_empty() {
            return std::future::ready(Ok(bodies)).boxed();
        }
        let (recorder, id) = (Arc::clone(&self.recorder), self.id.clone());
        let write =
            off_thread(move || recorder.lock().unwrap_or_else(PoisonError::into_inner).write(&events));
        let written = async move {
            match tokio::time::timeout(DISK, write).await {
                Ok(Ok(())) => Ok(bodies),
                Ok(Err(problem)) => {
                    tracing::error!(grant = id, %problem, "the recording of a support session failed: it is ended");
                    Err(Reason::RecorderFailed)
                }
                Err(_) => Err(Reason::RecorderFailed),
            }
        };
        written.boxed()
    }

    fn send(&mut self, body: frame::Body) -> Result<(), Reason> {
        let content = Frame { body: Some(body) }.encode_to_vec();
        let sealed = self.tunnel.seal(&content).map_err(|_| Reason::Tampered)?;
        self.waiting.push_back(sealed.into());
        Ok(())
    }

    /// Answers at once what changes nothing, if not too many answers wait already.
    fn answer(&mut self, body: frame::Body) -> Result<(), Reason> {
        if self.waiting.len() >= WAITING + ANSWERS {
            return Ok(());
        }
        self.send(body)
    }

    fn hear(&mut self, message: &[u8]) -> Result<(), Reason> {
        let content = self.tunnel.unseal(message).map_err(|_| Reason::Tampered)?;
        let frame = Frame::decode(content.as_slice()).map_err(|_| Reason::Tampered)?;
        let now = self.now();
        self.live.heard(now);
        if !matches!(frame.body, Some(frame::Body::Ping(_)) | None) {
            self.live.active(now);
        }
        match frame.body {
            Some(frame::Body::Open(open)) => return self.open(open),
            Some(frame::Body::Data(data)) => self.tell(data.channel, Told::Data(data.bytes)),
            Some(frame::Body::Resize(resize)) => {
                self.tell(resize.channel, Told::Resize(side(resize.rows), side(resize.columns)));
            }
            Some(frame::Body::Finish(finish)) => self.tell(finish.channel, Told::Finish),
            Some(frame::Body::Credit(Credit { channel, bytes })) => {
                if let Some(handle) = self.channels.get(&channel) {
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    if handle.credit.available_permits().saturating_add(bytes) > MOST_CREDIT {
                        return Err(Reason::Tampered);
                    }
                    handle.credit.add_permits(bytes);
                }
            }
            Some(frame::Body::Close(close)) => {
                if let Some(handle) = self.channels.get(&close.channel) {
                    handle.cancel.cancel();
                }
            }
            Some(frame::Body::Ended(_)) => return Err(Reason::Engineer),
            // What a newer tool adds is named, not understood, and costs nobody the session.
            None => return self.answer(frame::Body::Unknown(Unknown { frame: field(&content) })),
            // The agent's own words from an engineer mean nothing.
            Some(_) => {}
        }
        Ok(())
    }

    /// Tells a channel. One that is told more than it has room for is lost, and not the session.
    fn tell(&mut self, channel: u32, told: Told) {
        let Some(handle) = self.channels.get_mut(&channel) else { return };
        let cost = if let Told::Data(bytes) = &told { flow::cost(bytes.len()) } else { 0 };
        let room = handle.room.checked_sub(cost);
        match room {
            Some(room) if handle.told.try_send(told).is_ok() => handle.room = room,
            _ => handle.cancel.cancel(),
        }
    }

    fn open(&mut self, open: Open) -> Result<(), Reason> {
        // Each costs a line of the audit log, and most a container.
        self.opened += 1;
        if self.opened > MOST_OPENINGS {
            return Err(Reason::Quota);
        }
        let number = open.channel;
        if self.channels.contains_key(&number) || self.channels.len() >= MOST_CHANNELS {
            let problem = state("too many channels, or one that is open already").to_proto();
            return self.answer(frame::Body::Exit(Exit {
                channel: number,
                code: -1,
                problem: Some(problem),
            }));
        }
        let (told, hearing) = mpsc::channel(TELLING);
        let credit = Arc::new(Semaphore::new(CREDIT));
        let cancel = self.cancel.child_token();
        let channel = Channel {
            support: self.support.clone(),
            grant: self.id.clone(),
            mouth: Mouth {
                channel: number,
                out: self.said.clone(),
                credit: Arc::clone(&credit),
                cancel: cancel.clone(),
            },
            ear: Ear::new(number, hearing, self.said.clone()),
            cancel: cancel.clone(),
            begun: self.begun.clone(),
        };
        self.channels.insert(number, Handle { told, room: WINDOW, credit, cancel });
        self.tasks.spawn(channel.run(open, self.terms.clone()));
        Ok(())
    }
}

/// Number of the first field of an encoded message: a key is a varint, the number without its three lowest bits.
fn field(content: &[u8]) -> u32 {
    prost::decode_length_delimiter(content).ok().and_then(|key| u32::try_from(key >> 3).ok()).unwrap_or(0)
}

/// The end of what is under way; never, where nothing is. Cancel safe.
async fn pending<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Why it is told to end, once it is. Cancel safe.
pub(super) async fn told(ending: &mut watch::Receiver<Option<Reason>>) -> Reason {
    let told = ending.wait_for(Option::is_some).await;
    // Nobody is left who could tell: the agent ends.
    told.ok().and_then(|reason| *reason).unwrap_or(Reason::Restarted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_named_by_its_number() {
        let known = Frame { body: Some(frame::Body::Unknown(Unknown { frame: 7 })) }.encode_to_vec();
        assert_eq!(field(&known), 13);
        // Field 4711, of a newer tool: a length-delimited one that is empty.
        let newer = [0xba, 0xa6, 0x02, 0x00];
        assert_eq!(Frame::decode(newer.as_slice()).unwrap().body, None);
        assert_eq!((field(&newer), field(&[])), (4711, 0));
    }
}
