//! `kedge pause` and `kedge resume`: hands off a deployment, and on again.

use kedge_proto::local::v1 as local;

use super::Context;
use super::failure::Failure;
use super::say;

/// Change nothing of a deployment until it is resumed
///
/// What is done to its containers by hand stays, what ends stays ended, and releases wait. Health goes on being
/// reported. It survives a restart of the agent and of the host.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge pause shop
  kedge pause shop --reason 'restoring the database, ticket 4711'
  kedge status shop                                  says who paused it, when and why")]
pub(super) struct Args {
    /// The deployment
    deployment: String,
    /// Why, for whoever looks at it next
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Keep a paused deployment as it should be again
///
/// What changed meanwhile is put right, and a release that waited goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge diff shop                                    what resuming would put right
  kedge resume shop")]
pub(super) struct ResumeArgs {
    /// The deployment
    deployment: String,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = local::PauseRequest { deployment: args.deployment, reason: args.reason };
    let reply = context.connect().await?.pause(request).await?.into_inner();
    answer(context, &reply)
}

pub(super) async fn resume(context: &Context, args: ResumeArgs) -> Result<(), Failure> {
    let request = local::ResumeRequest { deployment: args.deployment };
    let reply = context.connect().await?.resume(request).await?.into_inner();
    answer(context, &reply)
}

fn answer(context: &Context, reply: &local::PauseReply) -> Result<(), Failure> {
    if context.out.json {
        return context.out.json(reply);
    }
    if context.out.quiet {
        return Ok(());
    }
    context.out.text(&format!("{}\n", say::clean(&reply.message)))
}
