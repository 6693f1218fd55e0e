//! `kedge logs`: what the containers of a deployment say.

use jiff::{SignedDuration, Timestamp};
use kedge_proto::local::v1 as local;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::out::Out;
use super::say;

/// Show what a deployment's containers say
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge logs shop                                    all services, oldest first
  kedge logs shop api worker -f --tail 100
  kedge logs shop --since 15m --timestamps
  kedge logs shop -o json | jq -r 'select(.stderr) | .line'")]
pub(super) struct Args {
    /// The deployment
    deployment: String,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Go on as lines come
    #[arg(short, long)]
    follow: bool,
    /// Lines per container, from the end [default: all]
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u32>,
    /// Only lines from then on: an RFC 3339 moment, or how long ago (15m, 2h)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// With the time the engine received each line
    #[arg(short, long)]
    timestamps: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    service: &'a str,
    number: u32,
    stderr: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    at: &'a str,
    line: &'a str,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let since = args.since.as_deref().map(|when| moment(when, Timestamp::now())).transpose()?;
    let request = local::LogsRequest {
        deployment: args.deployment,
        services: args.services,
        follow: args.follow,
        tail: args.tail.map_or(-1, i64::from),
        since: since.unwrap_or_default(),
        timestamps: args.timestamps || context.out.json,
    };
    let mut lines = context.connect().await?.logs(request).await?.into_inner();
    while let Some(chunk) = lines.message().await? {
        let text = String::from_utf8_lossy(&chunk.line);
        if context.out.json {
            let local::LogChunk { service, number, stderr, at, .. } = &chunk;
            context.out.json(&Line { service, number: *number, stderr: *stderr, at, line: &text })?;
        } else {
            context.out.text(&plain(&context.out, &chunk, &text))?;
        }
    }
    Ok(())
}

/// `api-1  | text`. On a terminal the container's escape sequences are kept out, elsewhere its bytes are its own.
fn plain(out: &Out, chunk: &local::LogChunk, text: &str) -> String {
    let name = format!("{}-{}", say::clean(&chunk.service), chunk.number);
    let at = if chunk.at.is_empty() { String::new() } else { format!("{} ", say::clean(&chunk.at)) };
    let text = if out.terminal { say::clean(text) } else { text.into() };
    format!("{name:<12} | {at}{text}\n")
}

/// An RFC 3339 moment out of one, or out of how long ago it was.
fn moment(when: &str, now: Timestamp) -> Result<String, Failure> {
    if let Ok(moment) = when.parse::<Timestamp>() {
        return Ok(moment.to_string());
    }
    let ago: Option<SignedDuration> = when.parse().ok();
    let then = ago.and_then(|ago| now.checked_sub(ago.abs()).ok());
    then.map(|then| then.to_string())
        .ok_or_else(|| Failure::usage("--since takes an RFC 3339 moment or a time such as 15m or 2h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_moment_or_how_long_ago() {
        let now: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
        let cases = [
            ("15m", "2026-01-10T11:45:00Z"),
            ("1h 30m", "2026-01-10T10:30:00Z"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"),
        ];
        for (when, expected) in cases {
            assert_eq!(moment(when, now).unwrap(), expected, "{when}");
        }
        for bad in ["", "yesterday", "15 lightyears"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
