//! Commands and shells, each in a container of its own beside the target.

use std::time::Duration;

use futures_util::StreamExt as _;
use kedge_bundle::support::Target;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::channel::{Channel, Ear, Mouth, Told, gone};
use super::container::{self, Ends};
use super::pour::{Source, pour};
use super::recorder::Event;
use super::veil;
use crate::engine::{Attached, Engine, Error};
use crate::problem::Problem;
use crate::redact::Redactor;

/// What a shell is.
const SHELL: &str = "/bin/sh";
/// How long on a terminal the beginning of what may be a secret waits for the rest.
const MOMENT: Duration = Duration::from_millis(25);

/// Runs exactly these words and gives the exit code.
pub(super) async fn run(
    channel: &Channel,
    target: &Target,
    argv: &[String],
    redactor: &Redactor,
) -> Result<i64, Problem> {
    let (id, attached) = start(channel, target, argv, Ends::Output).await?;
    let spoken = async {
        pour(channel, vec![(Source::new(None, false, redactor), attached.output)], false).await?;
        channel.support.inner.world.engine.wait_container(&id).await.map_err(engine)
    };
    // Cancel safe: what has not been said by then is not said.
    let outcome = tokio::select! {
        outcome = spoken => outcome,
        () = channel.cancel.cancelled() => Ok(137),
    };
    finish(channel, &id).await;
    outcome
}

/// A terminal until its shell ends.
pub(super) async fn shell(
    channel: &mut Channel,
    target: &Target,
    (rows, columns): (u16, u16),
    redactor: &Redactor,
) -> Result<i64, Problem> {
    let argv = [SHELL.to_owned()];
    let (id, attached) = start(channel, target, &argv, Ends::Terminal(rows, columns)).await?;
    let outcome = converse(channel, &id, attached, redactor).await;
    finish(channel, &id).await;
    outcome
}

async fn converse(
    channel: &mut Channel,
    id: &str,
    attached: Attached,
    redactor: &Redactor,
) -> Result<i64, Problem> {
    let engine_of = &*channel.support.inner.world.engine;
    let Attached { mut output, input } = attached;
    let (mouth, ear) = (&channel.mouth, &mut channel.ear);
    let spoken = async {
        let mut veil = veil::Terminal::new(redactor);
        loop {
            // Cancel safe, both: a stream keeps what it has not given, and a moment begins anew.
            tokio::select! {
                piece = output.next() => {
                    let Some(piece) = piece else { break };
                    let clear = veil.take(&piece.map_err(engine)?.bytes);
                    mouth.say(false, clear).await.map_err(gone)?;
                }
                () = tokio::time::sleep(MOMENT), if veil.holds() => {
                    mouth.say(false, veil.let_go()).await.map_err(gone)?;
                }
            }
        }
        mouth.say(false, veil.let_go()).await.map_err(gone)?;
        engine_of.wait_container(id).await.map_err(engine)
    };
    // Beside each other: a shell that does not read what is pasted is heard nonetheless.
    // Cancel safe: what has not been said or typed by then is not.
    tokio::select! {
        outcome = spoken => outcome,
        () = listen(mouth, ear, engine_of, id, input) => Ok(137),
        () = channel.cancel.cancelled() => Ok(137),
    }
}

/// Types what the engineer does, until nobody is there to hear any more.
async fn listen(
    mouth: &Mouth,
    ear: &mut Ear,
    engine_of: &dyn Engine,
    id: &str,
    mut input: impl AsyncWrite + Unpin,
) {
    while let Some(told) = ear.hear().await {
        let noted = match &told {
            Told::Data(bytes) => mouth.note(Event::In(bytes.clone())).await,
            Told::Resize(rows, columns) => mouth.note(Event::Resize(*rows, *columns)).await,
            Told::Finish => Ok(()),
        };
        if noted.is_err() {
            return;
        }
        match told {
            Told::Data(bytes) => {
                let written = async {
                    input.write_all(&bytes).await?;
                    input.flush().await
                };
                if written.await.is_err() {
                    // The shell has ended; its output says so, and how.
                    return std::future::pending().await;
                }
                if ear.took(bytes.len()).await.is_err() {
                    return;
                }
            }
            // A shell that has just ended has no size.
            Told::Resize(rows, columns) => drop(engine_of.resize(id, rows, columns).await),
            // A terminal ends by what is typed.
            Told::Finish => {}
        }
    }
}

/// Starts a container beside the target, attached so that nothing it says is missed.
pub(super) async fn start(
    channel: &Channel,
    target: &Target,
    argv: &[String],
    ends: Ends,
) -> Result<(String, Attached), Problem> {
    let place = (channel.grant.as_str(), channel.mouth.channel);
    container::launch(&channel.support, place, target, argv, ends, &channel.cancel).await
}

/// Removes the container. Where that fails, the session's end does it.
pub(super) async fn finish(channel: &Channel, id: &str) {
    container::remove(&channel.support, &channel.grant, id).await;
}

pub(super) fn engine(error: Error) -> Problem {
    Problem::from_error(error.code(), &error)
}
