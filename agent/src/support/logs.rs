//! Reading what services have logged.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use kedge_bundle::support::Target;
use kedge_proto::support::v1::Logs;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channel::{Channel, gone};
use super::{container, veil};
use crate::engine::types::{LogLine, LogQuery, Stream};
use crate::engine::{Container, Error};
use crate::problem::Problem;
use crate::redact::Redactor;

/// Lines that are read ahead of what is being said, and go out together. The engine gives them one by one; saying them one by
/// one would cost a flush of the recording for each few.
const AHEAD: usize = 4096;
/// A line that is as long as the engine keeps them goes on in the next.
const LONGEST: usize = 16 << 10;

/// A line, and whose it is.
type Named = (Arc<str>, Result<LogLine, Error>);

/// Sends the logs of the target's containers.
pub(super) async fn read(
    channel: &Channel,
    target: &Target,
    wanted: &Logs,
    redactor: Redactor,
) -> Result<i64, Problem> {
    let world = &channel.support.inner.world;
    let failed = |e: Error| Problem::from_error(e.code(), &e);
    let containers = container::targets(world, target).await?;
    let since = match wanted.since.as_str() {
        "" => None,
        text => Some(crate::host::parse_time(text)?),
    };
    let query = LogQuery { follow: wanted.follow, tail: u64::try_from(wanted.tail).ok(), since };
    let mut all: Vec<BoxStream<'static, Named>> = Vec::new();
    for container in &containers {
        let name: Arc<str> = label(container).into();
        let lines = world.engine.logs(&container.id, &query).await.map_err(failed)?;
        all.push(lines.map(move |line| (name.clone(), line)).boxed());
    }
    let mut lines =
        if wanted.follow { stream::select_all(all).boxed() } else { stream::iter(all).flatten().boxed() };
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    // A task of its own, ended with this one's end.
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        while let Some(line) = lines.next().await {
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    let mut veils = [veil::Lines::new(redactor.clone()), veil::Lines::new(redactor)];
    let spoken = async {
        let mut batch = Vec::with_capacity(AHEAD);
        while receiver.recv_many(&mut batch, AHEAD).await > 0 {
            let mut texts = [String::new(), String::new()];
            for (name, line) in batch.drain(..) {
                let line = line.map_err(failed)?;
                let text = &mut texts[usize::from(line.stream == Stream::Stderr)];
                write_line(text, &name, &line, wanted.timestamps);
            }
            for (number, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
                channel.mouth.say(number == 1, veils[number].take(text.as_bytes())).await.map_err(gone)?;
            }
        }
        for (number, veil) in veils.iter_mut().enumerate() {
            channel.mouth.say(number == 1, veil.rest()).await.map_err(gone)?;
        }
        Ok(0)
    };
    // Cancel safe: what has not been said by then is not said.
    tokio::select! {
        outcome = spoken => outcome,
        () = channel.cancel.cancelled() => Ok(0),
    }
}

/// `api-1 | text`. The pieces of one long line stay one, or a secret could lie across their ends.
fn write_line(text: &mut String, name: &str, line: &LogLine, timestamps: bool) {
    if text.is_empty() || text.ends_with('\n') {
        text.push_str(name);
        text.push_str(" | ");
        if timestamps {
            text.push_str(&line.at);
            text.push(' ');
        }
    }
    text.push_str(&line.text);
    if line.at.len() + 1 + line.text.len() < LONGEST {
        text.push('\n');
    }
}

fn label(container: &Container) -> String {
    format!("{}-{}", container.service().unwrap_or("?"), container.number().unwrap_or(1))
}
