//! Whether the engine's socket is there and may be spoken on.

use std::io::ErrorKind;

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::{Check, Finding, Place};

/// The check.
pub(super) struct Socket;

#[async_trait]
impl Check for Socket {
    fn id(&self) -> &'static str {
        "socket"
    }

    fn what(&self) -> &'static str {
        "Docker's socket"
    }

    async fn look(&self, place: &Place) -> Finding {
        let socket = place.socket();
        let shown = socket.display();
        match UnixStream::connect(socket).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Finding::bad(
                format!("there is no {shown}"),
                "Install Docker Engine 20.10 or newer, start it (systemctl start docker), or name its socket as `engine` in agent.toml",
            ),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Finding::bad(
                format!("this user may not use {shown}"),
                "Run this as root, or as a member of the socket's group",
            ),
            Err(e) => Finding::bad(format!("{shown}: {e}"), "Start Docker: systemctl start docker"),
            Ok(_) => membership(place),
        }
    }
}

/// The caller may; what counts is the agent's own user, where there is one.
fn membership(place: &Place) -> Finding {
    let has_user =
        place.read("/etc/passwd").is_some_and(|users| users.lines().any(|l| l.starts_with("kedge:")));
    let groups = place.read("/etc/group").unwrap_or_default();
    let members = groups.lines().find_map(|line| line.strip_prefix("docker:")?.rsplit(':').next());
    let is_member = members.is_some_and(|list| list.split(',').any(|name| name == "kedge"));
    if has_user && !is_member {
        return Finding::bad(
            "the user kedge is not in the group docker",
            "Run `usermod -aG docker kedge` and `systemctl restart kedge`",
        );
    }
    Finding::good(format!("{} answers", place.socket().display()))
}
