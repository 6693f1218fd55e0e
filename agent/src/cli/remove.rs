//! `kedge remove`: takes a deployment off this host.

use std::io::{BufRead, IsTerminal, Read};

use kedge_proto::local::v1 as local;

use super::failure::Failure;
use super::{Context, follow, request_id};

/// Remove a deployment: its containers and networks
///
/// Named volumes are kept, and listed at the end, unless --volumes is given.
#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "rm",
    after_help = "\
Examples:
  kedge remove shop                                  keeps its data
  kedge remove shop --volumes                        asks first, then deletes its data for good
  kedge remove shop --volumes --yes                  for scripts"
)]
pub(super) struct Args {
    /// The deployment
    deployment: String,
    /// Delete its named volumes too: the data is gone for good
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut client = context.connect().await?;
    if args.volumes && !args.yes {
        // A name that does not exist is said before anybody has to type it.
        let named = local::StatusRequest { deployment: args.deployment.clone() };
        client.status(named).await?;
        confirm(context, &args.deployment)?;
    }
    let request = local::RemoveRequest {
        deployment: args.deployment,
        request_id: request_id(),
        remove_volumes: args.volumes,
    };
    let done = follow::follow(&context.out, client.remove(request), follow::Options::default()).await?;
    follow::conclude(&context.out, done.as_ref())
}

/// Deleting data takes the deployment's name, typed by someone who is there.
fn confirm(context: &Context, name: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("--volumes deletes data and asks first; without a terminal, say --yes"));
    }
    context.out.ask(&format!("This deletes all data of `{name}` for good. Type its name to go on: "));
    let mut typed = String::new();
    let read = stdin.lock().take(1024).read_line(&mut typed);
    if read.is_ok() && typed.trim() == name {
        Ok(())
    } else {
        Err(Failure::usage("that is not the deployment's name; nothing was changed"))
    }
}
