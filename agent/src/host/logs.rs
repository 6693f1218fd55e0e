//! The output of a deployment's containers, merged as it comes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{LogLine, LogOptions};
use crate::codes;
use crate::deploy::adoption::AdoptionRecord;
use crate::engine::types::{LogQuery, Stream};
use crate::engine::{Container, Engine};
use crate::problem::Problem;

/// Lines that may wait for a reader who is slow; the engine's streams wait then.
const AHEAD: usize = 256;

/// Reads the logs of the deployment's containers.
///
/// # Errors
/// When the engine cannot be asked, or `since` is no time.
pub async fn follow(
    engine: Arc<dyn Engine>,
    adoption: AdoptionRecord,
    options: LogOptions,
) -> Result<mpsc::Receiver<Result<LogLine, Problem>>, Problem> {
    let since = match &options.since {
        Some(text) => Some(parse_time(text)?),
        None => None,
    };
    let failed = |e: crate::engine::Error| Problem::from_error(e.code(), &e);
    let mut containers = adoption.containers(&*engine).await.map_err(failed)?;
    let services: BTreeSet<&str> = containers.iter().filter_map(Container::service).collect();
    if let Some(unknown) = options.services.iter().find(|wanted| !services.contains(wanted.as_str())) {
        let there = services.into_iter().collect::<Vec<_>>().join(", ");
        let why = format!("{} has no service {unknown:.80}; it has: {there}", options.deployment);
        return Err(Problem::new(&codes::NO_SERVICE, why));
    }
    containers.retain(|c| c.service().is_some_and(|s| wanted(&options.services, s)));
    containers.sort_by(|a, b| (a.service(), a.number()).cmp(&(b.service(), b.number())));
    let query = LogQuery { follow: options.follow, tail: options.tail, since };
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if options.follow {
            let each = containers.iter().map(|container| send(&*engine, container, &query, &sender));
            futures_util::future::join_all(each).await;
        } else {
            // One after the other reads better and asks the engine for one stream at a time.
            for container in &containers {
                if !send(&*engine, container, &query, &sender).await {
                    return;
                }
            }
        }
    });
    Ok(receiver)
}

fn wanted(services: &[String], service: &str) -> bool {
    services.is_empty() || services.iter().any(|wanted| wanted == service)
}

pub(crate) fn parse_time(text: &str) -> Result<i64, Problem> {
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        Problem::new(&codes::UNREADABLE, format!("{text:.40?} is no time such as 2026-01-31T12:00:00Z"))
    })?;
    Ok(time.as_second())
}

/// Sends a container's lines; `false` when nobody reads any more.
async fn send(
    engine: &dyn Engine,
    container: &Container,
    query: &LogQuery,
    sender: &mpsc::Sender<Result<LogLine, Problem>>,
) -> bool {
    let failed = |e: crate::engine::Error| Problem::from_error(e.code(), &e);
    let mut lines = match engine.logs(&container.id, query).await {
        Ok(lines) => lines,
        Err(error) => return sender.send(Err(failed(error))).await.is_ok(),
    };
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = sender.closed() => return false,
        };
        let line = match line {
            None => return true,
            Some(Err(error)) => return sender.send(Err(failed(error))).await.is_ok(),
            Some(Ok(line)) => line,
        };
        let line = LogLine {
            service: container.service().unwrap_or_default().to_owned(),
            number: container.number().unwrap_or(1),
            stderr: line.stream == Stream::Stderr,
            line: Bytes::from(line.text),
            at: line.at,
        };
        if sender.send(Ok(line)).await.is_err() {
            return false;
        }
    }
}
