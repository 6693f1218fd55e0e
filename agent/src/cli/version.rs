//! `kedge version`: this program's and, where one answers, the running agent's.

use std::time::Duration;

use kedge_bundle::provenance;
use kedge_proto::local::v1 as local;
use serde::Serialize;

use super::Context;
use super::failure::Failure;

/// Show the version of this program and of the running agent
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge version
  kedge version -o json | jq -r .agent")]
pub(super) struct Args {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    protocol: u32,
    platform: String,
    /// Null in a build by hand, like the three after it.
    commit: Option<&'static str>,
    tools: Option<&'static str>,
    target: Option<&'static str>,
    lock_sha256: Option<&'static str>,
    /// Of the daemon that answers; null when none does.
    agent: Option<String>,
}

/// The daemon answers at once or is not worth waiting for.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, _args: Args) -> Result<(), Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        protocol: kedge_proto::PROTOCOL,
        commit: provenance::COMMIT,
        tools: provenance::TOOLS,
        target: provenance::TARGET,
        lock_sha256: provenance::LOCK_SHA256,
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        agent: tokio::time::timeout(PATIENCE, running(context)).await.unwrap_or_default(),
    };
    let out = &context.out;
    if out.json {
        return out.json(&version);
    }
    let agent = version.agent.as_deref().unwrap_or("none answers");
    let Version { version, protocol, platform, .. } = &version;
    let commit = version_commit();
    out.text(&format!("kedge {version}, protocol {protocol}, {platform}{commit}\nagent {agent}\n"))
}

/// The commit as people quote it.
fn version_commit() -> String {
    let short = provenance::COMMIT.map(|commit| commit.get(..12).unwrap_or(commit));
    short.map(|short| format!(", commit {short}")).unwrap_or_default()
}

async fn running(context: &Context) -> Option<String> {
    let mut client = context.connect().await.ok()?;
    let status = client.status(local::StatusRequest::default()).await.ok()?.into_inner();
    Some(status.agent_version).filter(|version| !version.is_empty())
}
