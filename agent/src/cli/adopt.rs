//! `kedge adopt`: takes over what `docker compose` runs.

use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use kedge_proto::local::v1 as local;

use super::failure::Failure;
use super::{Context, diff, follow, import, values};

/// Take over a stack that `docker compose` started
///
/// Shows first what would be done, as `kedge diff` does, and asks. Containers that already are what the bundle asks for
/// are neither stopped nor recreated; networks and named volumes are kept and used. The deployment keeps the name of the
/// compose project for everything it makes. From then on Kedge keeps the stack as the bundle says: do not run
/// `docker compose up` on it any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge adopt shop --deployment shop --bundle shop-1.2.kedge --dry-run
  kedge adopt shop --deployment shop --bundle shop-1.2.kedge --values shop.env
  kedge adopt old_shop --deployment shop --bundle shop-1.2.kedge --yes        for scripts")]
pub(super) struct Args {
    /// The compose project; `docker compose ls --all` lists them
    project: String,
    /// Name of the deployment that it becomes
    #[arg(long, value_name = "NAME")]
    deployment: String,
    /// The bundle that it runs from now on
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    #[command(flatten)]
    values: values::Values,
    /// SHA-256 of the vendor's root document, when this host trusts none yet
    #[arg(long, value_name = "HEX")]
    root_sha256: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Say what would be done; change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Go on although data in folders or volumes of the old stack would not be used any more
    #[arg(long)]
    leave_binds: bool,
    /// Come back once the agent has the bundle, without waiting for the deployment
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if args.bundle == Path::new("-") {
        return Err(Failure::usage("the bundle is read twice, to show and to do: give it as a file"));
    }
    let options = local::ImportOptions {
        deployment: args.deployment.clone(),
        parameters: args.values.read()?.into_iter().collect(),
        root_sha256: args.root_sha256.clone().unwrap_or_default(),
        adopt: args.project.clone(),
        leave_binds: args.leave_binds,
        ..local::ImportOptions::default()
    };
    let asked = local::ImportOptions { dry_run: true, ..options.clone() };
    let would = diff::would(context, &args.bundle, asked).await?;
    let out = &context.out;
    if out.json && args.dry_run {
        return out.json(&would);
    }
    if !out.json && !out.quiet {
        out.text(&diff::page(&would, out.colour()))?;
    }
    if args.dry_run {
        return Ok(());
    }
    if !args.yes {
        confirm(context, &args)?;
    }
    // What was shown is what is agreed to: should it have changed meanwhile, the agent refuses.
    let options = local::ImportOptions { agreed: would.digest, ..options };
    let following = follow::Options { detach: args.detach, ..follow::Options::default() };
    let done = import::send(context, &args.bundle, options, following).await?;
    follow::conclude(out, done.as_ref())
}

fn confirm(context: &Context, args: &Args) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage("nothing was changed: without a terminal to ask on, say --yes"));
    }
    context.out.ask(&format!("Take over `{}` as the deployment `{}`? [y/N] ", args.project, args.deployment));
    let mut typed = String::new();
    let read = stdin.lock().take(64).read_line(&mut typed);
    if read.is_ok() && matches!(typed.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::usage("nothing was changed"))
    }
}
