//! Output of containers, cleared of secrets, on its way to the engineer.
//!
//! It is read, cleared and given its name by a task that runs ahead of what is recorded and sent. Engines give logs line by
//! line; handing them on one by one would cost more than all that is done to them. How far it runs ahead is counted in bytes,
//! of all containers together.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::channel::{Channel, gone};
use super::veil;
use crate::engine::types::Stream;
use crate::engine::{Error, Output};
use crate::problem::Problem;
use crate::redact::Redactor;

/// Bytes of the engine's that are taken together, where so many are there.
const TOGETHER: usize = 64 << 10;
/// Longest piece that is handed on, bytes.
const PIECE: usize = 64 << 10;
/// Pieces that may wait to be recorded and sent. Many, because an engine that is slower than the rest gives lines one by one:
/// what comes while the disk is flushed is to be flushed together.
const AHEAD: usize = 4096;
/// Bytes that may wait to be recorded and sent.
const ROOM: usize = 1 << 20;

/// What may leave.
struct Clear {
    stderr: bool,
    text: Bytes,
    /// Given back when it has gone on.
    room: OwnedSemaphorePermit,
}

/// The way to whoever says it.
#[derive(Clone)]
struct Way {
    to: mpsc::Sender<Result<Clear, Error>>,
    room: Arc<Semaphore>,
}

impl Way {
    fn new() -> (Self, mpsc::Receiver<Result<Clear, Error>>) {
        let (to, receiver) = mpsc::channel(AHEAD);
        (Self { to, room: Arc::new(Semaphore::new(ROOM)) }, receiver)
    }

    async fn send(&self, stderr: bool, mut text: Bytes) -> Result<(), Deaf> {
        while !text.is_empty() {
            let text = text.split_to(text.len().min(PIECE));
            let many = u32::try_from(text.len()).unwrap_or(u32::MAX);
            // Cancel safe: a permit that is not used goes back. Whoever no longer listens makes no room either.
            let room = tokio::select! {
                room = Arc::clone(&self.room).acquire_many_owned(many) => room.map_err(|_| Deaf)?,
                () = self.to.closed() => return Err(Deaf),
            };
            self.to.send(Ok(Clear { stderr, text, room })).await.map_err(|_| Deaf)?;
        }
        Ok(())
    }
}

/// What a container says.
pub(super) type Outputs = BoxStream<'static, Result<Output, Error>>;

/// Says all of it, one source after the other or all at once, and returns when they have ended.
///
/// # Errors
/// When one of them fails, or nobody listens any more.
pub(super) async fn pour(
    channel: &Channel,
    sources: Vec<(Source, Outputs)>,
    at_once: bool,
) -> Result<(), Problem> {
    let (way, mut receiver) = Way::new();
    // Tasks of their own, ended with this one's end.
    let mut reading = JoinSet::new();
    if at_once {
        for (source, outputs) in sources {
            let way = way.clone();
            reading.spawn(async move { drop(source.read(outputs, &way).await) });
        }
        drop(way);
    } else {
        reading.spawn(async move {
            for (source, outputs) in sources {
                if source.read(outputs, &way).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut batch = Vec::with_capacity(AHEAD);
    while receiver.recv_many(&mut batch, AHEAD).await > 0 {
        let (mut stderr, mut together) = (false, BytesMut::new());
        let mut taken = Vec::with_capacity(batch.len());
        for clear in batch.drain(..) {
            let clear: Clear = clear.map_err(|e: Error| Problem::from_error(e.code(), &e))?;
            if clear.stderr != stderr {
                channel.mouth.say(stderr, together.split()).await.map_err(gone)?;
                stderr = clear.stderr;
            }
            together.extend_from_slice(&clear.text);
            taken.push(clear.room);
        }
        channel.mouth.say(stderr, together).await.map_err(gone)?;
    }
    Ok(())
}

/// Nobody listens any more.
struct Deaf;

/// What one container says.
pub(super) struct Source {
    /// What every line begins with, where it is to be told from others.
    name: Option<String>,
    /// Each piece begins with when it was said.
    timestamps: bool,
    /// Of standard output and of standard error.
    sides: [Side; 2],
}

struct Side {
    veil: veil::Lines,
    /// Read, and not yet through the veil.
    raw: Vec<u8>,
    /// The engine's last piece was no line's end: the next is more of the same line.
    cut: bool,
    /// A line was begun and not ended.
    begun: bool,
}

impl Source {
    pub(super) fn new(name: Option<String>, timestamps: bool, redactor: &Redactor) -> Self {
        let side =
            || Side { veil: veil::Lines::new(redactor.clone()), raw: Vec::new(), cut: false, begun: false };
        Self { name, timestamps, sides: [side(), side()] }
    }

    async fn read(mut self, mut outputs: Outputs, way: &Way) -> Result<(), Deaf> {
        while let Some(first) = outputs.next().await {
            let mut failed = None;
            let mut next = Some(first);
            // What is there already comes along.
            while let Some(output) = next {
                match output {
                    Ok(output) => self.take(&output),
                    Err(error) => failed = Some(error),
                }
                let is_enough = self.sides.iter().map(|side| side.raw.len()).sum::<usize>() >= TOGETHER;
                next = if is_enough { None } else { outputs.next().now_or_never().flatten() };
            }
            self.pass(false, way).await?;
            if let Some(error) = failed {
                way.to.send(Err(error)).await.map_err(|_| Deaf)?;
            }
        }
        self.pass(true, way).await
    }

    fn take(&mut self, output: &Output) {
        let side = &mut self.sides[usize::from(output.stream == Stream::Stderr)];
        let mut bytes = &output.bytes[..];
        if side.cut && self.timestamps {
            // Said again in the middle of a line; left there, it could lie in the middle of a secret.
            let at = bytes.iter().position(|byte| *byte == b' ');
            bytes = &bytes[at.map_or(0, |at| at + 1)..];
        }
        side.cut = !output.bytes.ends_with(b"\n");
        side.raw.extend_from_slice(bytes);
    }

    /// Hands on what may leave; at the end, everything.
    async fn pass(&mut self, end: bool, way: &Way) -> Result<(), Deaf> {
        for (number, side) in self.sides.iter_mut().enumerate() {
            way.send(number == 1, side.clear(self.name.as_deref(), end)).await?;
        }
        Ok(())
    }
}

impl Side {
    /// What may leave of what was read; with a name, `api-1 | text`.
    fn clear(&mut self, name: Option<&str>, end: bool) -> Bytes {
        let mut clear = self.veil.take(&self.raw);
        self.raw.clear();
        if end {
            clear.push_str(&self.veil.rest());
        }
        let Some(name) = name else { return clear.into() };
        let mut text = String::with_capacity(clear.len() + clear.len() / 4);
        for line in clear.split_inclusive('\n') {
            if !self.begun {
                text.push_str(name);
                text.push_str(" | ");
            }
            let ended = line.strip_suffix('\n');
            text.push_str(ended.map_or(line, |line| line.trim_end_matches('\r')));
            if ended.is_some() {
                text.push('\n');
            }
            self.begun = ended.is_none();
        }
        if end && self.begun {
            text.push('\n');
        }
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use kedge_bundle::parameters::Secret;

    use super::*;

    /// What leaves of these pieces of the engine's: whether from standard error, and the text.
    async fn left(timestamps: bool, pieces: &[(Stream, &str)]) -> Vec<(bool, String)> {
        let redactor = Redactor::knowing([Secret::new("hunter2-longer".into())]);
        let output = |(stream, text): &(Stream, &str)| {
            Ok(Output { stream: *stream, bytes: Bytes::copy_from_slice(text.as_bytes()) })
        };
        let outputs: Vec<_> = pieces.iter().map(output).collect();
        let (way, mut receiver) = Way::new();
        let source = Source::new(Some("api-1".into()), timestamps, &redactor);
        let read =
            tokio::spawn(async move { source.read(stream::iter(outputs).boxed(), &way).await.is_ok() });
        let mut left = Vec::new();
        while let Some(clear) = receiver.recv().await {
            let clear = clear.unwrap();
            left.push((clear.stderr, String::from_utf8(clear.text.to_vec()).unwrap()));
        }
        assert!(read.await.unwrap());
        left
    }

    #[tokio::test]
    async fn every_line_has_its_name_and_its_end_and_comes_from_where_it_was_said() {
        let said = [
            (Stream::Stdout, "one\n"),
            (Stream::Stderr, "oh\r\n"),
            (Stream::Stdout, "\n"),
            (Stream::Stdout, "password=x"),
        ];
        let expected = [
            (false, "api-1 | one\napi-1 | \n".to_owned()),
            (true, "api-1 | oh\n".to_owned()),
            (false, "api-1 | password=[redacted]\n".to_owned()),
        ];
        assert_eq!(left(false, &said).await, expected);
    }

    #[tokio::test]
    async fn a_secret_that_the_engine_cut_in_two_does_not_leave() {
        let plain = [(Stream::Stdout, "a long line hunter2-"), (Stream::Stdout, "longer end\n")];
        let dated = [
            (Stream::Stdout, "2026-01-01T00:00:00Z a long line hunter2-"),
            (Stream::Stderr, "2026-01-01T00:00:00Z in between\n"),
            (Stream::Stdout, "2026-01-01T00:00:01Z longer end\n"),
        ];
        assert_eq!(left(false, &plain).await, [(false, "api-1 | a long line [redacted] end\n".to_owned())]);
        assert_eq!(
            left(true, &dated).await[0],
            (false, "api-1 | 2026-01-01T00:00:00Z a long line [redacted] end\n".to_owned())
        );
    }

    #[tokio::test]
    async fn a_line_without_end_leaves_in_pieces_under_one_name() {
        let piece = ".".repeat(16 << 10);
        let said: Vec<_> = (0..512).map(|_| (Stream::Stdout, piece.as_str())).collect();
        let left = left(false, &said).await;
        assert!(left.len() > 1 && left.iter().all(|(_, text)| text.len() <= PIECE));
        let whole: String = left.into_iter().map(|(_, text)| text).collect();
        assert_eq!(whole.len(), "api-1 | \n".len() + 512 * piece.len());
    }

    #[tokio::test]
    async fn however_much_is_said_no_more_is_read_ahead_than_there_is_room_for() {
        let line = Bytes::from(format!("{}\n", ".".repeat((16 << 10) - 1)));
        let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let endless = || {
            let (line, read) = (line.clone(), Arc::clone(&read));
            let said = stream::repeat_with(move || {
                read.fetch_add(line.len(), std::sync::atomic::Ordering::Relaxed);
                Ok(Output { stream: Stream::Stdout, bytes: line.clone() })
            });
            said.boxed()
        };
        let (way, mut receiver) = Way::new();
        let redactor = Redactor::default();
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (way, outputs) = (way.clone(), endless());
            let source = Source::new(None, false, &redactor);
            tasks.spawn(async move { drop(source.read(outputs, &way).await) });
        }
        // Nobody listens, so that in the end nothing moves.
        let mut before = usize::MAX;
        while before != read.load(std::sync::atomic::Ordering::Relaxed) {
            before = read.load(std::sync::atomic::Ordering::Relaxed);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        assert!((ROOM..=ROOM + 8 * 2 * TOGETHER).contains(&before), "{before}");
        // What leaves makes room.
        for _ in 0..100 {
            drop(receiver.recv().await.unwrap().unwrap());
        }
        assert!(read.load(std::sync::atomic::Ordering::Relaxed) > before);
    }
}
