//! A command as a client of whoever holds the session: one channel, from opening to exit.

use super::frames;
use super::session::Session;
use crate::cli::out;
use crate::codes;
use crate::error::{Failure, Result};
use kedge_proto::support::v1::{Bundle, Credit, Data, Ended, Open, frame, open};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use tokio::net::UnixStream;

/// Bytes taken before more are asked for.
const TAKEN: u32 = 256 * 1024;
/// Bytes that may be under way here beyond those that every channel begins with: much comes at a time, and what is on its way
/// to the host's disk, to the hub and to here is not to wait for what was written.
const MORE: u32 = 3 << 20;

/// What is asked for, and what it is called, so that an agent that does not know it can say so.
pub(super) fn open(target: &str, what: open::What) -> Open {
    let called = match &what {
        open::What::Logs(_) => "logs",
        open::What::Inspect(_) => "inspect",
        open::What::Run(_) => "run",
        open::What::Shell(_) => "shell",
        open::What::Bundle(_) => "bundle",
        open::What::Forward(_) => "forward",
    };
    Open { channel: 1, target: target.to_owned(), called: called.to_owned(), what: Some(what) }
}

/// Connects to whoever holds the session.
pub(super) async fn connect(session: &Session) -> Result<UnixStream> {
    UnixStream::connect(session.socket()).await.map_err(|error| {
        let why = format!("nobody holds session {:.8} on this machine", session.facts.grant_id);
        Failure::new(codes::SUPPORT_NOT_HELD, why).because(error)
    })
}

/// Runs a channel to its end, what it says on standard output and standard error.
pub(super) async fn run(session: &Session, target: &str, what: open::What) -> Result<()> {
    let failed =
        |error: std::io::Error| Failure::new(codes::OUTPUT, "the output cannot be written").because(error);
    // Without the standard library's buffer, which looks for lines: pieces are written as they come, each at once.
    let mut stdout = std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
    let write = |data: &Data| -> std::io::Result<()> {
        if data.stderr {
            std::io::stderr().lock().write_all(&data.bytes)
        } else {
            stdout.write_all(&data.bytes)
        }
    };
    follow(session, target, what, write).await
}

/// A diagnostics bundle, into a new file.
pub(super) async fn save(session: &Session, path: &std::path::Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::new(codes::OUTPUT, format!("{} cannot be written", path.display())).because(error)
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    follow(session, "", open::What::Bundle(Bundle {}), |data| file.write_all(&data.bytes)).await?;
    out::note(&format!("{} is written; redactions.txt in it says what was blacked out", path.display()));
    Ok(())
}

async fn follow(
    session: &Session,
    target: &str,
    what: open::What,
    mut write: impl FnMut(&Data) -> std::io::Result<()>,
) -> Result<()> {
    let (from, mut to) = connect(session).await?.into_split();
    let open = open(target, what);
    frames::write(&mut to, frame::Body::Open(open)).await?;
    frames::write(&mut to, frame::Body::Credit(Credit { channel: 1, bytes: MORE })).await?;
    let mut heard = frames::reader(from);
    let mut taken = 0;
    loop {
        let body = tokio::select! {
            body = heard.recv() => body,
            // Interrupted: that is how following ends. The holder closes the channel.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match body {
            Some(frame::Body::Data(data)) => {
                match write(&data) {
                    Ok(()) => {}
                    // Whoever read the output has had enough: nobody's mistake.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => {
                        return Err(
                            Failure::new(codes::OUTPUT, "the output cannot be written").because(error)
                        );
                    }
                }
                taken += u32::try_from(data.bytes.len()).unwrap_or(0);
                if taken >= TAKEN {
                    frames::write(&mut to, frame::Body::Credit(Credit { channel: 1, bytes: taken })).await?;
                    taken = 0;
                }
            }
            Some(frame::Body::Exit(exit)) => return ended(&exit),
            Some(_) => {}
            None => return Err(Failure::new(codes::SUPPORT_OVER, "the session has ended")),
        }
    }
}

/// How a channel ended.
pub(super) fn ended(exit: &kedge_proto::support::v1::Exit) -> Result<()> {
    if let Some(problem) = &exit.problem {
        let why = format!("the host says: {} [{}]", problem.message, problem.code);
        return Err(Failure::new(codes::SUPPORT_REFUSED, why));
    }
    if exit.code != 0 {
        return Err(Failure::new(
            codes::SUPPORT_COMMAND,
            format!("the command ended with code {}", exit.code),
        ));
    }
    Ok(())
}

/// Ends the session.
pub(super) async fn end(session: &Session) -> Result<()> {
    let mut stream = connect(session).await?;
    frames::write(&mut stream, frame::Body::Ended(Ended::default())).await?;
    // Until whoever holds it has gone.
    let mut frames = frames::Frames::of(stream);
    while frames.next().await.is_some() {}
    out::note(&format!("session {:.8} is over", session.facts.grant_id));
    Ok(())
}
