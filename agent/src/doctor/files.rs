//! Whether the configuration is the customer's alone to change, and the state the agent's alone to read.

use std::os::unix::fs::MetadataExt;

use async_trait::async_trait;

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
        // Who can change the rules can do what the rules forbid; the agent's own user must not be one of them.
        let files = [&place.config.guard, &place.config_file];
        let paths = files.into_iter().flat_map(|file| file.ancestors().take(2));
        for path in paths.filter(|path| !path.as_os_str().is_empty()) {
            let Ok(meta) = std::fs::metadata(place.path(path)) else { continue };
            if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
                let path = path.display();
                return Finding::bad(
                    format!("{path} can be changed by others than root"),
                    format!("Run `chown root:root {path}` and `chmod go-w {path}`"),
                );
            }
        }
        let state = &place.config.state_dir;
        if let Ok(meta) = std::fs::metadata(state)
            && meta.mode() & 0o077 != 0
        {
            let shown = state.display();
            return Finding::bad(
                format!("{shown} is open to others than the agent"),
                format!("Run `chmod 700 {shown}`"),
            );
        }
        Finding::good("the configuration is root's, the state the agent's")
    }
}
