//! `kedge deployments`: one line each.

use jiff::Timestamp;
use kedge_proto::local::v1 as local;

use super::Context;
use super::failure::Failure;
use super::table::{self, Style};

/// List the deployments on this host
#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  kedge deployments
  kedge deployments -o json | jq -r '.[].name'"
)]
pub(super) struct Args {}

pub(super) async fn run(context: &Context, _args: Args) -> Result<(), Failure> {
    let status = context.connect().await?.status(local::StatusRequest::default()).await?.into_inner();
    let out = &context.out;
    if out.json {
        return out.json(&status.deployments);
    }
    if status.deployments.is_empty() {
        out.note("nothing is deployed");
        return Ok(());
    }
    let style = Style { colour: out.colour(), width: out.width(), now: Timestamp::now() };
    out.text(&table::list(&status.deployments, style))
}
