//! `kedgectl version`.

use super::out::{self, Format};
use crate::error::Result;
use clap::Args;
use kedge_bundle::provenance;

/// What this program is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kedgectl version -o json")]
pub(crate) struct Command {
    /// How the result is written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// Runs the command.
pub(crate) fn run(command: &Command) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    match command.output {
        Format::Table => out::text(&format!("kedgectl {version}, protocol {}\n", kedge_proto::PROTOCOL)),
        Format::Json => out::json(&serde_json::json!({
            "name": "kedgectl",
            "version": version,
            "protocol": kedge_proto::PROTOCOL,
            "bundle_format": kedge_bundle::roles::FORMAT,
            "commit": provenance::COMMIT,
            "tools": provenance::TOOLS,
            "target": provenance::TARGET,
            "lock_sha256": provenance::LOCK_SHA256,
        })),
    }
}
