//! `kedge doctor`: whether an installation on this host will work.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kedge_proto::local::v1 as local;
use kedge_proto::v1::HostStatus;

use super::Context;
use super::failure::Failure;
use super::grid::{Cell, Grid};
use super::out::Paint;
use super::say;
use crate::codes;
use crate::config::Config;
use crate::doctor::{self, Line, Place, Verdict};
use crate::engine::Engine;
use crate::engine::docker::Docker;
use crate::problem::Problem;

/// Check whether an installation on this host will work
///
/// Looks at the engine, the host, the agent and the way to the hub, and changes nothing. It works whether the agent runs or not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge doctor
  kedge doctor --hub https://hub.example.com:8443 --port 443
  kedge doctor --only engine,socket,disk
  kedge doctor --skip clock -o json | jq -r '.checks[] | select(.verdict == \"bad\") | .mend'

It ends with exit code 22 when a check is bad; a warning alone is no reason.")]
pub(super) struct Args {
    /// Only these checks
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = known())]
    only: Vec<String>,
    /// All but these checks
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = known(), conflicts_with = "only")]
    skip: Vec<String>,
    /// The hub to look for [default: the one that this host is enrolled with]
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
    /// TCP ports that the stack wants
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    port: Vec<u16>,
    /// Configuration [default: /etc/kedge/agent.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The daemon is a help, not a condition.
const PATIENCE: Duration = Duration::from_secs(2);
/// One to which the engine is away is asked again for longer than it waits between two looks, for it may be back by now.
const LONGEST_LOOK: Duration = Duration::from_secs(8);
/// How often.
const AGAIN: Duration = Duration::from_millis(250);

fn known() -> clap::builder::PossibleValuesParser {
    doctor::all().iter().map(|check| check.id()).collect::<Vec<_>>().into()
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let path = args.config.as_deref().unwrap_or_else(|| Path::new(Config::DEFAULT_PATH));
    let config = Config::read(path, args.config.is_some())?;
    let engine = Arc::new(Docker::at(config.engine.clone()));
    let mut place = Place::new(config, engine, Timestamp::now());
    place.config_file = path.to_owned();
    place.status = status(context, place.engine.as_ref()).await;
    place.hub = args.hub;
    place.ports = args.port;
    let named = |list: &[String], id: &str| list.iter().any(|named| named == id);
    let chosen = |id: &str| (args.only.is_empty() || named(&args.only, id)) && !named(&args.skip, id);
    let checks: Vec<_> = doctor::all().into_iter().filter(|check| chosen(check.id())).collect();
    let lines = doctor::run(&checks, &place).await;
    let out = &context.out;
    if out.json {
        out.json(&serde_json::json!({ "checks": lines }))?;
    } else {
        out.text(&page(&lines, out.width(), out.colour()))?;
    }
    let bad = lines.iter().filter(|line| line.verdict == Verdict::Bad).map(|line| line.id);
    let bad: Vec<&str> = bad.collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Problem::new(&codes::UNFIT, format!("not as it must be: {}", bad.join(", "))).into())
}

/// What the agent says. Where it does not reach the engine and the caller does, that may only be a moment old.
async fn status(context: &Context, engine: &dyn Engine) -> Option<HostStatus> {
    let first = async {
        let mut client = context.connect().await.ok()?;
        let status = client.status(local::StatusRequest::default()).await.ok()?.into_inner();
        Some((client, status))
    };
    let (mut client, mut status) = tokio::time::timeout(PATIENCE, first).await.ok()??;
    let is_away = |status: &HostStatus| status.engine.as_ref().is_some_and(|engine| !engine.reachable);
    if is_away(&status) && engine.info().await.is_ok() {
        let later = async {
            while is_away(&status) {
                tokio::time::sleep(AGAIN).await;
                let Ok(reply) = client.status(local::StatusRequest::default()).await else { return };
                status = reply.into_inner();
            }
        };
        let _ = tokio::time::timeout(LONGEST_LOOK, later).await;
    }
    Some(status)
}

fn page(lines: &[Line], width: usize, colour: bool) -> String {
    let mut grid = Grid::default();
    for line in lines {
        let (word, paint) = match line.verdict {
            Verdict::Good => ("good", Paint::Good),
            Verdict::Skipped => ("-", Paint::Dim),
            Verdict::Warning => ("warning", Paint::Warn),
            Verdict::Bad => ("BAD", Paint::Bad),
        };
        let saw = say::clean(&line.saw).into_owned();
        grid.row([Cell::new(word, paint), Cell::new(line.id, Paint::Dim), line.what.into(), saw.into()]);
        if let Some(mend) = &line.mend {
            grid.row(["".into(), "".into(), "".into(), Cell::new(say::clean(mend), Paint::Bold)]);
        }
    }
    grid.render(0, width, colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_that_is_not_good_is_followed_by_how_to_mend_it() {
        let line = Line {
            id: "disk",
            what: "Free disk",
            verdict: Verdict::Bad,
            saw: "1 MiB free".into(),
            mend: Some("Free space".into()),
        };
        let page = page(&[line], 80, false);
        assert!(page.starts_with("BAD") && page.contains("1 MiB free"), "{page}");
        assert!(page.lines().nth(1).unwrap().trim() == "Free space", "{page}");
    }
}
