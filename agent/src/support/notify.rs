//! Telling people that somebody wants to come in: the customer's own command, hooked to mail, chat or pager.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::core::grant::Grant;
use super::news;
use crate::world::World;

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts guard.toml's `notify_cmd`, by no shell, with what happened as JSON on its standard input. Nothing waits for it and
/// nothing depends on it.
pub(super) fn of(world: &World, grant: &Grant) {
    let Some((program, arguments)) = world.rules.support.notify_cmd.split_first() else { return };
    let shown = news::shown(grant, &world.clock.moment(), Vec::new(), false);
    let Ok(mut event) = serde_json::to_vec(&shown) else { return };
    event.push(b'\n');
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let program = program.clone();
    tokio::spawn(async move {
        let run = async {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read has heard enough.
                let _ = stdin.write_all(&event).await;
            }
            child.wait().await
        };
        match tokio::time::timeout(PATIENCE, run).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => tracing::warn!(program, %status, "notify_cmd failed"),
            Ok(Err(error)) => tracing::warn!(program, %error, "notify_cmd could not be run"),
            Err(_) => tracing::warn!(program, "notify_cmd took too long and was ended"),
        }
    });
}
