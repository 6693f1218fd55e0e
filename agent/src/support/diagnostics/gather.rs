//! What is in a bundle, in the order in which somebody who is to help reads it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use kedge_bundle::support::Target;
use kedge_proto::tether::v1::Report;
use kedge_proto::v1::{Event, HostStatus};
use prost::Message as _;
use serde_json::json;

use super::super::{Support, container, inspect};
use super::{MOST_PIECE, Owner, Text, Wish, collectors};
use crate::clock::stamp;
use crate::codes;
use crate::deploy::preview;
use crate::doctor;
use crate::engine::LogLine;
use crate::engine::types::LogQuery;
use crate::problem::Problem;
use crate::redact::Redactor;
use crate::store::{DeploymentRecord, EventRecord, GenerationRecord, ReportRecord, generation_key};
use crate::world::World;

/// Lines of each container's log.
const LINES: u64 = 1000;
/// Lines of the audit log.
const HISTORY: usize = 500;

/// All pieces that are wanted, named; one that cannot be had says why.
pub(super) async fn all(
    support: &Support,
    owner: &Owner,
    targets: &BTreeSet<Target>,
    wish: &Wish,
    redactor: &Redactor,
) -> Vec<(String, Text)> {
    let world = &support.inner.world;
    let mut pieces = Vec::new();
    let wanted: BTreeSet<&str> = targets.iter().map(|target| target.deployment.as_str()).collect();
    let status = {
        let mut status = HostStatus::clone(&world.board.subscribe().borrow());
        status.deployments.retain(|deployment| wanted.contains(deployment.name.as_str()));
        status
    };
    let mut put = |name: String, text: Result<Text, Problem>| {
        let none = |problem| Text::Raw(format!("not to be had: {problem}\n"));
        pieces.push((name, text.unwrap_or_else(none)));
    };
    if wish.wants("doctor.txt") {
        put("doctor.txt".into(), Ok(Text::Raw(examined(world, &status).await)));
    }
    if wish.wants("versions.json") {
        put("versions.json".into(), versions(world, &wanted, redactor).await);
    }
    if wish.wants("host.json") {
        put("host.json".into(), pretty(&status, redactor));
    }
    for record in world.store.scan::<DeploymentRecord>("").unwrap_or_default() {
        if !wanted.contains(record.name.as_str()) {
            continue;
        }
        let name = format!("deployments/{}.json", record.name);
        if wish.wants(&name) {
            put(name, pretty(&record, redactor));
        }
        let name = format!("plans/{}.json", record.name);
        if wish.wants(&name) {
            put(name, preview::of_active(world, &record.name).await.and_then(|diff| pretty(&diff, redactor)));
        }
    }
    for target in targets {
        let name = format!("inspect/{:.80}.jsonl", target.to_string().replace('/', "-"));
        if wish.wants(&name) {
            put(
                name,
                inspect::lines(world, target, redactor).await.map(|lines| Text::Cleared(lines.concat())),
            );
        }
    }
    for target in targets {
        if !wish.wants_any("logs/") {
            break;
        }
        for container in container::targets(world, target).await.unwrap_or_default() {
            let name = format!("logs/{:.80}.log", container.name);
            if wish.wants(&name) {
                put(name, logged(world, &container.id).await.map(Text::Raw));
            }
        }
    }
    if wish.wants("events.jsonl") {
        put("events.jsonl".into(), events(world, &wanted, redactor));
    }
    if wish.wants("history.jsonl") {
        put("history.jsonl".into(), history(world, redactor).await);
    }
    if wish.wants("audit-head.json") {
        let (seq, sha256) = world.audit.head();
        put("audit-head.json".into(), pretty(&json!({ "seq": seq, "sha256": sha256 }), redactor));
    }
    if wish.wants_any(collectors::FOLDER) {
        for (name, text) in collectors::all(support, owner, targets, wish).await {
            put(name, text.map(Text::Raw));
        }
    }
    pieces
}

fn pretty(value: &impl serde::Serialize, redactor: &Redactor) -> Result<Text, Problem> {
    let value = serde_json::to_value(value).map_err(|e| Problem::from_error(&codes::INTERNAL, &e))?;
    Ok(Text::Cleared(format!("{:#}\n", inspect::clear(value, redactor))))
}

/// Values as lines of JSON.
fn lines(values: impl Iterator<Item = serde_json::Value>, redactor: &Redactor) -> Text {
    Text::Cleared(values.map(|value| format!("{}\n", inspect::clear(value, redactor))).collect())
}

/// What `kedge doctor` would say, asked by the agent itself.
async fn examined(world: &World, status: &HostStatus) -> String {
    let now = world.clock.now();
    let mut place = doctor::Place::new(world.config.clone(), Arc::clone(&world.engine), now);
    place.status = Some(status.clone());
    let mut text = String::new();
    for line in doctor::run(&doctor::all(), &place).await {
        let verdict = format!("{:?}", line.verdict).to_lowercase();
        text.push_str(&format!("{verdict:<8} {:<12} {}: {}\n", line.id, line.what, line.saw));
        if let Some(mend) = line.mend {
            text.push_str(&format!("{:22}{mend}\n", ""));
        }
    }
    text
}

async fn versions(world: &World, wanted: &BTreeSet<&str>, redactor: &Redactor) -> Result<Text, Problem> {
    let engine = match world.engine.info().await {
        Ok(info) => json!(info),
        Err(error) => json!({ "problem": error.to_string() }),
    };
    let mut releases = serde_json::Map::new();
    for record in world.store.scan::<DeploymentRecord>("")? {
        let Some(active) = record.active.filter(|_| wanted.contains(record.name.as_str())) else { continue };
        let generation = world.store.get::<GenerationRecord>(&generation_key(&record.name, active))?;
        releases.insert(record.name, json!(generation.map(|generation| generation.release)));
    }
    let versions = json!({
        "made": stamp(&*world.clock),
        "agent": env!("CARGO_PKG_VERSION"),
        "engine": engine,
        "kernel": sysinfo::System::kernel_version().ok(),
        "os": sysinfo::System::long_os_version().ok(),
        "releases": releases,
    });
    pretty(&versions, redactor)
}

async fn logged(world: &World, container: &str) -> Result<String, Problem> {
    let query = LogQuery { tail: Some(LINES), ..LogQuery::default() };
    let lines = world.engine.logs(container, &query).await;
    let lines = lines.map_err(|e| Problem::from_error(e.code(), &e))?;
    Ok(end_of(lines).await)
}

/// As much of the end of a log as a piece can hold; no more is kept while it is read.
async fn end_of(mut lines: impl Stream<Item = crate::engine::Result<LogLine>> + Unpin) -> String {
    let mut tail = collectors::Tail { bytes: Vec::new(), most: MOST_PIECE, cut: false };
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => tail.take(format!("{} {}\n", line.at, line.text).as_bytes()),
            Err(error) => tail.take(format!("{error}\n").as_bytes()),
        }
    }
    tail.text()
}

/// What no hub has taken yet.
fn events(world: &World, wanted: &BTreeSet<&str>, redactor: &Redactor) -> Result<Text, Problem> {
    let mut events: Vec<Event> = Vec::new();
    for record in world.store.scan::<ReportRecord>("")? {
        let report = hex::decode(&record.report).ok().and_then(|bytes| Report::decode(&bytes[..]).ok());
        events.extend(report.into_iter().flat_map(|report| report.events));
    }
    for record in world.store.scan::<EventRecord>("")? {
        events.extend(hex::decode(&record.event).ok().and_then(|bytes| Event::decode(&bytes[..]).ok()));
    }
    events.retain(|event| event.deployment.is_empty() || wanted.contains(event.deployment.as_str()));
    // Every event serialises; one that does not says nothing.
    Ok(lines(events.iter().map(|event| serde_json::to_value(event).unwrap_or_default()), redactor))
}

/// The end of the audit log: what was decided and done here lately.
async fn history(world: &World, redactor: &Redactor) -> Result<Text, Problem> {
    let path = world.config.state_dir.join("audit/log.jsonl");
    let read = move || -> std::io::Result<Vec<serde_json::Value>> {
        let mut last = std::collections::VecDeque::with_capacity(HISTORY);
        for line in BufReader::new(std::fs::File::open(path)?).lines() {
            if last.len() == HISTORY {
                last.pop_front();
            }
            last.push_back(line?);
        }
        // What is no JSON any more is shown as the text that it is.
        let value = |line: String| serde_json::from_str(&line).unwrap_or(serde_json::Value::String(line));
        Ok(last.into_iter().map(value).collect())
    };
    let read =
        tokio::task::spawn_blocking(read).await.map_err(|e| Problem::from_error(&codes::INTERNAL, &e))?;
    let read = read.map_err(|e| Problem::from_error(&codes::STATE_FOLDER, &e))?;
    Ok(lines(read.into_iter(), redactor))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn of_a_long_log_the_end_is_kept_and_of_a_short_one_all() {
        let line = |number: usize| {
            let (at, text) =
                ("2026-01-01T00:00:00Z".to_owned(), format!("{number} {}", ".".repeat(16 << 10)));
            Ok(LogLine { stream: crate::engine::types::Stream::Stdout, at, text })
        };
        let end = end_of(stream::iter((0..1000).map(line))).await;
        assert!(end.len() <= MOST_PIECE + 100, "{}", end.len());
        assert!(end.starts_with("[the beginning is left out]\n2026-01-01T00:00:00Z "));
        assert!(end.lines().last().unwrap().starts_with("2026-01-01T00:00:00Z 999 ."));
        assert_eq!(end_of(stream::iter((0..3).map(line))).await.lines().count(), 3);
    }
}
