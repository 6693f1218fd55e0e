//! Whether the configuration is the customer's alone to change, and the state the agent's alone to read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use async_trait::async_trait;

use super::account::Account;
use super::{Check, Finding, Place};

/// The check.
pub(super) struct Files;

#[async_trait]
impl Check for Files {
    fn id(&self) -> &'static str {
        "files"
    }

    fn what(&self) -> &'static str {
        "Permissions of files"
    }

    async fn look(&self, place: &Place) -> Finding {
        for file in [&place.config.guard, &place.config_file] {
            if let Some(finding) = changeable(place, file) {
                return finding;
            }
        }
        let state = &place.config.state_dir;
        let shown = state.display();
        if let Ok(meta) = std::fs::metadata(state) {
            if let Some(agent) = Account::of_agent(place).filter(|agent| !agent.owns(&meta)) {
                let (name, other) = (&agent.name, meta.uid());
                return Finding::bad(
                    format!("{shown} belongs to another user than the agent's, {name}"),
                    // Below it are files that belong to users of containers, and must go on doing so.
                    format!("Run `chown -R --from={other} {name}: {shown}`, and `systemctl restart kedge`"),
                );
            }
            if meta.mode() & 0o077 != 0 {
                return Finding::bad(
                    format!("{shown} is open to others than the agent"),
                    format!("Run `chmod 700 {shown}`"),
                );
            }
        }
        Finding::good("the configuration is root's, the state the agent's")
    }
}

/// Who can change the rules can do what the rules forbid; the agent's own user must not be one of them.
fn changeable(place: &Place, file: &Path) -> Option<Finding> {
    let is_open = |path: &Path| {
        let Ok(meta) = std::fs::metadata(place.path(path)) else { return false };
        meta.uid() != 0 || meta.mode() & 0o022 != 0
    };
    let named = |path: &&Path| !path.as_os_str().is_empty();
    // By its name first, so that what is shown is what the operator wrote.
    if let Some(path) = file.ancestors().take(2).filter(named).find(|path| is_open(path)) {
        let path = path.display();
        return Some(Finding::bad(
            format!("{path} can be changed by others than root"),
            format!("Run `chown root:root {path}` and `chmod go-w {path}`"),
        ));
    }
    let real = place.real(file)?;
    let path = real.ancestors().take(2).find(|path| is_open(path))?;
    let (file, path) = (file.display(), path.display());
    Some(Finding::bad(
        format!("{file} leads to {}, and {path} can be changed by others than root", real.display()),
        "Keep the file itself in a folder that only root can change, such as /etc/kedge",
    ))
}
