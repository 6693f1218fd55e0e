//! `kedge status`: what runs here and how it is.

use std::time::Duration;

use jiff::Timestamp;
use kedge_proto::local::v1 as local;
use kedge_proto::v1;

use super::Context;
use super::failure::Failure;
use super::out::Out;
use super::table::{self, Style};

/// Show the host, its deployments and what is wrong with them
///
/// With --watch, redraws on every change; on a pipe, prints a line for every change; with `-o json`, an
/// object for every change.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge status
  kedge status shop --watch
  kedge status -o json | jq '.deployments[] | {name, health}'")]
pub(super) struct Args {
    /// Only this deployment
    deployment: Option<String>,
    /// Go on, and show every change
    #[arg(short, long)]
    watch: bool,
}

/// Ages on the screen grow old by themselves; this often they are drawn anew.
const REDRAW: Duration = Duration::from_secs(10);

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut client = context.connect().await?;
    let request = local::StatusRequest { deployment: args.deployment.unwrap_or_default() };
    let out = &context.out;
    if !args.watch {
        let status = client.status(request).await?.into_inner();
        return if out.json { out.json(&status) } else { out.text(&table::page(&status, style(out))) };
    }
    let statuses = client.watch(request).await?.into_inner();
    if out.terminal && !out.json { redraw(out, statuses).await } else { print_changes(out, statuses).await }
}

fn style(out: &Out) -> Style {
    Style { colour: out.colour(), width: out.width(), now: Timestamp::now() }
}

async fn print_changes(out: &Out, mut statuses: tonic::Streaming<v1::HostStatus>) -> Result<(), Failure> {
    let mut before: Option<v1::HostStatus> = None;
    while let Some(now) = statuses.message().await? {
        if out.json {
            out.json(&now)?;
        } else {
            let at = Timestamp::now();
            for line in table::changes(before.as_ref(), &now, at) {
                out.text(&format!("{at:.0} {line}\n"))?;
            }
        }
        before = Some(now);
    }
    Ok(())
}

/// The other screen of a terminal, given back however the command ends.
struct OtherScreen<'a>(&'a Out);

impl<'a> OtherScreen<'a> {
    fn enter(out: &'a Out) -> Result<Self, Failure> {
        out.text("\x1b[?1049h\x1b[?25l")?;
        Ok(Self(out))
    }
}

impl Drop for OtherScreen<'_> {
    fn drop(&mut self) {
        let _ = self.0.text("\x1b[?25h\x1b[?1049l");
    }
}

async fn redraw(out: &Out, mut statuses: tonic::Streaming<v1::HostStatus>) -> Result<(), Failure> {
    let screen = OtherScreen::enter(out)?;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut tick = tokio::time::interval(REDRAW);
    let mut last: Option<v1::HostStatus> = None;
    let outcome = loop {
        // Cancel safe: the stream keeps what it has not given yet; the other two lose nothing that matters.
        tokio::select! {
            status = statuses.message() => match status {
                Ok(Some(status)) => last = Some(status),
                Ok(None) => break Ok(()),
                Err(status) => break Err(status.into()),
            },
            _ = &mut interrupt => break Ok(()),
            _ = tick.tick() => {}
        }
        if let Some(status) = &last {
            let page = table::page(status, style(out)).replace('\n', "\x1b[K\n");
            out.text(&format!("\x1b[H{page}\x1b[J"))?;
        }
    };
    drop(screen);
    // What was on the screen last stays readable after it.
    if let Some(status) = &last {
        out.text(&table::page(status, style(out)))?;
    }
    outcome
}
