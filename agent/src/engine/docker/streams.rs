//! Streams that go on: logs and events.

use std::collections::HashMap;

use bollard::container::LogOutput;
use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{AttachContainerOptionsBuilder, EventsOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::super::attach::{Attached, Output};
use super::super::error::Result;
use super::super::spec::LABEL_HOOKS;
use super::super::types::{Action, EngineEvent, Health, LogLine, LogQuery, Stream, Subject};
use super::errors::Context;

/// Longest line kept.
const LONGEST_LINE: usize = 16 << 10;

pub(super) fn logs(
    client: &bollard::Docker,
    id: &str,
    query: &LogQuery,
) -> BoxStream<'static, Result<LogLine>> {
    let chunks = chunks(client, id, query, true);
    stream::unfold(
        (chunks, Decoder::default(), Vec::new().into_iter()),
        |(mut chunks, mut decoder, mut ready)| async move {
            loop {
                if let Some(line) = ready.next() {
                    return Some((Ok(line), (chunks, decoder, ready)));
                }
                match chunks.next().await {
                    Some(Ok(chunk)) => ready = decoder.take(chunk).into_iter(),
                    Some(Err(error)) => return Some((Err(error), (chunks, decoder, ready))),
                    None => {
                        let last = decoder.rest()?;
                        return Some((Ok(last), (chunks, decoder, ready)));
                    }
                }
            }
        },
    )
    .boxed()
}

pub(super) fn log_output(
    client: &bollard::Docker,
    id: &str,
    query: &LogQuery,
    timestamps: bool,
) -> BoxStream<'static, Result<Output>> {
    chunks(client, id, query, timestamps).map(|chunk| chunk.map(output)).boxed()
}

fn chunks(
    client: &bollard::Docker,
    id: &str,
    query: &LogQuery,
    timestamps: bool,
) -> BoxStream<'static, Result<LogOutput>> {
    let mut options =
        LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(timestamps).follow(query.follow);
    if let Some(tail) = query.tail {
        options = options.tail(&tail.to_string());
    }
    if let Some(since) = query.since {
        options = options.since(i32::try_from(since).unwrap_or(i32::MAX));
    }
    let what = format!("read the log of container {id}");
    client.logs(id, Some(options.build())).map(move |chunk| chunk.context(|| what.clone())).boxed()
}

fn output(chunk: LogOutput) -> Output {
    let stream = if matches!(chunk, LogOutput::StdErr { .. }) { Stream::Stderr } else { Stream::Stdout };
    Output { stream, bytes: chunk.into_bytes() }
}

/// Cuts chunks into lines. Without a terminal, Docker frames what the container wrote: each frame starts with its time. With
/// one, there are only bytes, cut anywhere.
#[derive(Default)]
struct Decoder {
    raw: Vec<u8>,
}

impl Decoder {
    fn take(&mut self, chunk: LogOutput) -> Vec<LogLine> {
        let (stream, message) = match chunk {
            LogOutput::StdErr { message } => (Stream::Stderr, message),
            LogOutput::StdOut { message } => (Stream::Stdout, message),
            LogOutput::StdIn { .. } => return Vec::new(),
            LogOutput::Console { message } => {
                self.raw.extend_from_slice(&message);
                return self.whole_lines();
            }
        };
        message
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| decode(stream, line))
            .collect()
    }

    fn whole_lines(&mut self) -> Vec<LogLine> {
        let end = match self.raw.iter().rposition(|byte| *byte == b'\n') {
            Some(position) => position + 1,
            None if self.raw.len() > LONGEST_LINE => self.raw.len(),
            None => return Vec::new(),
        };
        let whole: Vec<u8> = self.raw.drain(..end).collect();
        whole
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| decode(Stream::Stdout, line))
            .collect()
    }

    fn rest(&mut self) -> Option<LogLine> {
        let rest = std::mem::take(&mut self.raw);
        (!rest.is_empty()).then(|| decode(Stream::Stdout, &rest))
    }
}

/// `time text`.
fn decode(stream: Stream, line: &[u8]) -> LogLine {
    let line = line.get(..line.len().min(LONGEST_LINE)).unwrap_or(line);
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    let (at, text) = line.split_once(' ').unwrap_or((line, ""));
    LogLine { stream, at: at.to_owned(), text: text.to_owned() }
}

pub(super) async fn attach(client: &bollard::Docker, id: &str) -> Result<Attached> {
    let what = format!("attach to container {id}");
    let options =
        AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
    let attached = client.attach_container(id, Some(options)).await.context(|| what.clone())?;
    let output = attached.output.map(move |chunk| chunk.map(output).context(|| what.clone()));
    Ok(Attached { output: output.boxed(), input: attached.input })
}

/// What we listen to. Health checks run a process each, whose events would outnumber all others.
const ACTIONS: [&str; 16] = [
    "create",
    "start",
    "die",
    "stop",
    "kill",
    "oom",
    "destroy",
    "rename",
    "pause",
    "unpause",
    "update",
    "health_status",
    "connect",
    "disconnect",
    "remove",
    "restart",
];

pub(super) fn events(client: &bollard::Docker, since: i64) -> BoxStream<'static, Result<EngineEvent>> {
    let filters: HashMap<String, Vec<String>> = HashMap::from([
        ("type".to_owned(), ["container", "network", "volume"].map(str::to_owned).to_vec()),
        ("event".to_owned(), ACTIONS.map(str::to_owned).to_vec()),
    ]);
    let (seconds, nanos) = (since.div_euclid(1_000_000_000), since.rem_euclid(1_000_000_000));
    let options =
        EventsOptionsBuilder::new().since(&format!("{seconds}.{nanos:09}")).filters(&filters).build();
    let client = client.clone();
    client
        .events(Some(options))
        .map(|message| message.map(event).context(|| "read events".to_owned()))
        .boxed()
}

fn event(message: EventMessage) -> EngineEvent {
    let actor = message.actor.unwrap_or_default();
    let mut attributes: std::collections::BTreeMap<String, String> =
        actor.attributes.unwrap_or_default().into_iter().collect();
    // Long, of no use here, and events are logged.
    attributes.remove(LABEL_HOOKS);
    let subject = match message.typ {
        Some(EventMessageTypeEnum::CONTAINER) => Subject::Container,
        Some(EventMessageTypeEnum::NETWORK) => Subject::Network,
        Some(EventMessageTypeEnum::VOLUME) => Subject::Volume,
        _ => Subject::Other,
    };
    let action = match message.action.as_deref().unwrap_or_default() {
        "create" => Action::Create,
        "start" => Action::Start,
        "die" => Action::Die(attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1)),
        "stop" => Action::Stop,
        "kill" => Action::Kill,
        "oom" => Action::Oom,
        "destroy" | "remove" => Action::Destroy,
        "rename" => Action::Rename,
        "pause" => Action::Pause,
        "unpause" => Action::Unpause,
        "update" => Action::Update,
        "restart" => Action::Restart,
        "connect" => Action::Connect,
        "disconnect" => Action::Disconnect,
        other => match other.strip_prefix("health_status: ") {
            Some("healthy") => Action::Health(Health::Healthy),
            Some("unhealthy") => Action::Health(Health::Unhealthy),
            Some(_) => Action::Health(Health::Starting),
            None => Action::Other,
        },
    };
    EngineEvent {
        at: message.time_nano.unwrap_or_default(),
        subject,
        action,
        id: actor.id.unwrap_or_default(),
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_output_is_cut_into_lines_wherever_the_chunks_end() {
        let mut decoder = Decoder::default();
        let chunk = |text: &'static str| LogOutput::Console { message: text.into() };
        assert!(decoder.take(chunk("2026-01-01T00:00:00Z he")).is_empty());
        let lines = decoder.take(chunk("llo\r\n2026-01-01T00:00:01Z wor"));
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].at.as_str(), lines[0].text.as_str()), ("2026-01-01T00:00:00Z", "hello"));
        assert_eq!(decoder.rest().map(|line| line.text), Some("wor".to_owned()));
    }

    #[test]
    fn a_frame_keeps_its_stream() {
        let lines =
            Decoder::default().take(LogOutput::StdErr { message: "2026-01-01T00:00:00Z oh no\n".into() });
        assert_eq!((lines[0].stream, lines[0].text.as_str()), (Stream::Stderr, "oh no"));
    }

    #[test]
    fn health_comes_with_the_action() {
        let message = EventMessage {
            typ: Some(EventMessageTypeEnum::CONTAINER),
            action: Some("health_status: unhealthy".to_owned()),
            ..EventMessage::default()
        };
        assert_eq!(event(message).action, Action::Health(Health::Unhealthy));
    }
}
