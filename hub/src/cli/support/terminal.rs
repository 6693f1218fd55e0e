//! A terminal on the host: raw here, so that every key and Ctrl-C go there.

use super::session::Session;
use super::{attach, frames};
use crate::cli::out;
use crate::codes;
use crate::error::{Failure, Result};
use bytes::Bytes;
use kedge_bundle::support::flow;
use kedge_proto::support::v1::{Credit, Data, Resize, Shell, frame, open};
use rustix::termios::{self, OptionalActions, Termios};
use std::io::{IsTerminal as _, Read as _, Write as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Bytes taken before more are asked for.
const TAKEN: u32 = 64 * 1024;
/// Most keys that are read at once.
const KEYS: usize = 1024;
/// End of file, as a terminal spells it.
const EOT: u8 = 4;

/// Has a terminal until its shell ends.
pub(super) async fn run(session: &Session, target: &str) -> Result<()> {
    let (from, mut to) = attach::connect(session).await?.into_split();
    let (rows, columns) = size();
    let shell = open::What::Shell(Shell { rows, columns });
    frames::write(&mut to, frame::Body::Open(attach::open(target, shell))).await?;
    let mut resized = signal(SignalKind::window_change())
        .map_err(|error| Failure::new(codes::UNEXPECTED, "signals cannot be waited for").because(error))?;
    let mut heard = frames::reader(from);
    let mut typed = None;
    let mut raw = None;
    let mut taken = 0;
    let mut room = Room::default();
    loop {
        let keys = async {
            match &mut typed {
                Some(keys) => mpsc::Receiver::recv(keys).await,
                None => std::future::pending::<Option<Bytes>>().await,
            }
        };
        // Cancel safe, all of them: what frames there are wait in a channel.
        tokio::select! {
            body = heard.recv() => match body {
                Some(frame::Body::Opened(opened)) => {
                    out::note(&format!("{}; Ctrl-D or `exit` ends it", out::clean(&opened.message)));
                    room = Room::of(opened.window);
                    raw = Raw::begin();
                    typed = Some(keyboard());
                }
                Some(frame::Body::Data(data)) => {
                    let mut stdout = std::io::stdout().lock();
                    if stdout.write_all(&data.bytes).and_then(|()| stdout.flush()).is_err() {
                        return Ok(());
                    }
                    taken += u32::try_from(data.bytes.len()).unwrap_or(0);
                    if taken >= TAKEN {
                        frames::write(&mut to, frame::Body::Credit(Credit { channel: 1, bytes: taken })).await?;
                        taken = 0;
                    }
                }
                Some(frame::Body::Credit(credit)) => room.add(credit.bytes),
                Some(frame::Body::Exit(exit)) => {
                    drop(raw);
                    return attach::ended(&exit);
                }
                Some(_) => {}
                None => {
                    drop(raw);
                    return Err(Failure::new(codes::SUPPORT_OVER, "the session has ended"));
                }
            },
            // What is pasted waits here until the host has room for it.
            key = keys, if room.is_there() => {
                let bytes = match key {
                    Some(bytes) => bytes,
                    None => {
                        typed = None;
                        Bytes::from_static(&[EOT])
                    }
                };
                room.spend(bytes.len());
                frames::write(&mut to, frame::Body::Data(Data { channel: 1, stderr: false, bytes })).await?;
            }
            _ = resized.recv() => {
                let (rows, columns) = size();
                frames::write(&mut to, frame::Body::Resize(Resize { channel: 1, rows, columns })).await?;
            }
        }
    }
}

/// How much more the host has room for, as [`flow`] counts. One that says nothing of it, of an older agent, has always some.
#[derive(Debug, Default)]
struct Room(Option<u32>);

impl Room {
    fn of(window: u32) -> Self {
        Self((window > 0).then_some(window))
    }

    fn is_there(&self) -> bool {
        self.0.is_none_or(|left| left >= flow::cost(KEYS))
    }

    fn spend(&mut self, bytes: usize) {
        self.0 = self.0.map(|left| left.saturating_sub(flow::cost(bytes)));
    }

    fn add(&mut self, bytes: u32) {
        self.0 = self.0.map(|left| left.saturating_add(bytes));
    }
}

/// The terminal's size; the usual one where there is none.
fn size() -> (u32, u32) {
    let size =
        termios::tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()))
}

/// What is typed, read by a thread that nobody waits for.
fn keyboard() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut bytes = [0; KEYS];
        let mut stdin = std::io::stdin().lock();
        while let Ok(read) = stdin.read(&mut bytes) {
            if read == 0 || sender.blocking_send(Bytes::copy_from_slice(&bytes[..read])).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal in raw mode, put back when dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
