//! A port of a service, brought to the engineer: each connection is a channel.
//!
//! The agent itself listens on nothing and connects to nothing. A container beside the service, as for commands, runs the
//! tools image's `nc` within the service's own network; what that says and hears is the channel. What is carried is none of
//! ours to understand, so it is neither blacked out nor recorded word by word: when and how much is.

use futures_util::StreamExt as _;
use kedge_bundle::support::{Scope, Target};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::channel::{Channel, Ear, Mouth, Told, gone};
use super::command::{self, engine};
use super::container::Ends;
use super::recorder::Event;
use crate::codes;
use crate::engine::Attached;
use crate::engine::types::Stream;
use crate::problem::Problem;

/// Bytes of what the tool says of itself that are kept.
const SAID: usize = 300;

/// One connection to the port of `scope`, until either side ends it.
pub(super) async fn connection(
    channel: &mut Channel,
    target: &Target,
    scope: &Scope,
) -> Result<i64, Problem> {
    let Scope::Forward { port, .. } = scope else {
        return Err(Problem::new(&codes::INTERNAL, "no port was named"));
    };
    let argv = ["nc", "127.0.0.1", &port.to_string()].map(str::to_owned);
    let (id, attached) = command::start(channel, target, &argv, Ends::Pipe).await?;
    let outcome = carry(channel, &id, attached).await;
    command::finish(channel, &id).await;
    match outcome? {
        (0 | 137, _) => Ok(0),
        (_, said) => {
            Err(Problem::new(&codes::NO_SERVICE, format!("port {port} of {target}: {}", said.trim())))
        }
    }
}

/// Gives the tool's exit code, and what it said of itself.
async fn carry(channel: &mut Channel, id: &str, attached: Attached) -> Result<(i64, String), Problem> {
    let Attached { mut output, input } = attached;
    let (mouth, ear) = (&channel.mouth, &mut channel.ear);
    let outwards = async {
        let mut said = String::new();
        while let Some(piece) = output.next().await {
            let piece = piece.map_err(engine)?;
            if piece.stream == Stream::Stdout {
                mouth.pass(piece.bytes).await.map_err(gone)?;
            } else if said.len() < SAID {
                said.push_str(&String::from_utf8_lossy(&piece.bytes));
            }
        }
        said.truncate(said.floor_char_boundary(SAID));
        let code = channel.support.inner.world.engine.wait_container(id).await.map_err(engine)?;
        Ok((code, said))
    };
    // Beside each other: neither direction waits for the other.
    // Cancel safe: what has not been carried by then is not.
    tokio::select! {
        outcome = outwards => outcome,
        () = inwards(mouth, ear, input) => Ok((137, String::new())),
        () = channel.cancel.cancelled() => Ok((137, String::new())),
    }
}

/// Carries what the engineer sends, until nobody is there to hear any more.
async fn inwards(mouth: &Mouth, ear: &mut Ear, input: impl AsyncWrite + Unpin) {
    let mut input = Some(input);
    while let Some(told) = ear.hear().await {
        match told {
            Told::Data(bytes) => {
                if mouth.note(Event::Carried { inwards: true, bytes: bytes.len() }).await.is_err() {
                    return;
                }
                // Where the service reads no more, the rest is read for nobody, as by a socket that was shut.
                if let Some(to) = &mut input {
                    let written = async {
                        to.write_all(&bytes).await?;
                        to.flush().await
                    };
                    if written.await.is_err() {
                        input = None;
                    }
                }
                if ear.took(bytes.len()).await.is_err() {
                    return;
                }
            }
            Told::Finish => {
                if let Some(mut to) = input.take() {
                    let _ = to.shutdown().await;
                }
            }
            Told::Resize(..) => {}
        }
    }
}
