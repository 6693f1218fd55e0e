//! `kedge audit`: whether the audit log is what was written.

use std::fs::File;
use std::path::PathBuf;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;
use crate::audit;
use crate::codes;
use crate::config::Config;
use crate::problem::Problem;

/// Check the audit log
///
/// Each line names the digest of the one before, so that a line changed, moved or taken out is found. That lines are missing at
/// the end shows only against a head that was held elsewhere: print it with `head`, keep it off this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge audit head                                   number and digest of the last line: keep them elsewhere
  kedge audit verify
  kedge audit verify --head 4711:9f86d0…             with a head that was kept")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check every line against the one before
    #[command(after_help = "Examples:\n  kedge audit verify\n  kedge audit verify --head 4711:9f86d0…")]
    Verify {
        #[command(flatten)]
        log: Log,
        /// A head that `kedge audit head` printed before: the line of that number must still be that line
        #[arg(long, value_name = "NUMBER:SHA256")]
        head: Option<String>,
    },
    /// Print number and digest of the last line, once all of them have been checked
    #[command(after_help = "Examples:\n  kedge audit head | ssh vault 'cat >> heads'")]
    Head {
        #[command(flatten)]
        log: Log,
    },
}

#[derive(Debug, clap::Args)]
struct Log {
    /// The log [default: audit/log.jsonl in the agent's state folder]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let (log, given) = match args.command {
        Command::Verify { log, head } => (log, Some(head)),
        Command::Head { log } => (log, None),
    };
    let path = log.log.unwrap_or_else(|| Config::default().state_dir.join("audit/log.jsonl"));
    let file = File::open(&path)
        .map_err(|e| Problem::new(&codes::UNREADABLE, format!("{}: {e}", path.display())))?;
    let held = given.clone().flatten().as_deref().map(head).transpose()?;
    let held = held.as_ref().map(|(seq, digest)| (*seq, digest.as_str()));
    let (seq, digest) = audit::verify_with(file, held)
        .map_err(|e| Problem::new(&codes::AUDIT_BROKEN, format!("{}: {e}", path.display())))?;
    if context.out.json {
        return context.out.json(&serde_json::json!({ "seq": seq, "sha256": digest }));
    }
    match given {
        Some(_) => context.out.text(&format!("{seq} lines, each follows from the one before\n")),
        None => context.out.text(&format!("{seq}:{digest}\n")),
    }
}

fn head(text: &str) -> Result<(u64, String), Failure> {
    let wrong = || Failure::usage("--head takes NUMBER:SHA256, as `kedge audit head` prints it");
    let (seq, digest) = text.trim().split_once(':').ok_or_else(wrong)?;
    Ok((seq.parse().map_err(|_| wrong())?, digest.to_owned()))
}
