//! Whether the engine's socket is there, and the agent may speak on it.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::account::{self, Account, WRITE};
use super::{Check, Finding, Place, unit::Unit};

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
        // Not looked for: that this user sees it says nothing of the service.
        let real = socket.canonicalize().unwrap_or_else(|_| socket.to_owned());
        if Unit::of(place).is_some_and(|unit| unit.hides(&real)) {
            return Finding::bad(
                format!("the service cannot see {shown}: ProtectHome= hides it"),
                "Name the socket of the system's engine as `engine` in agent.toml, or run `systemctl edit kedge` and give ProtectHome=read-only below [Service]",
            );
        }
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
            Ok(_) => of_the_agent(place),
        }
    }
}

/// The caller may; what counts is the agent: its user, where there is one, and its own word, where it answers.
fn of_the_agent(place: &Place) -> Finding {
    let socket = place.socket();
    let shown = socket.display();
    if let (Some(agent), Ok(meta)) = (Account::of_agent(place), socket.metadata())
        // Who may write to a socket may connect: unix(7).
        && !agent.may(WRITE, socket)
    {
        let name = &agent.name;
        // The group root is no group to put anybody into.
        let group =
            account::group_name(place, meta.gid()).filter(|_| meta.gid() != 0 && meta.mode() & 0o020 != 0);
        return match group {
            Some(group) => Finding::bad(
                format!("the user {name} is not in the group {group}, whose {shown} is"),
                format!("Run `usermod -aG {group} {name}` and `systemctl restart kedge`"),
            ),
            None => Finding::bad(
                format!("{shown} has no group that may use it, so the user {name} may not"),
                "Run `systemctl edit docker.socket`, give SocketGroup=docker and SocketMode=0660 below [Socket], and run `systemctl restart docker.socket docker`; where Docker makes the socket itself, set \"group\": \"docker\" in /etc/docker/daemon.json and restart it",
            ),
        };
    }
    let engine = place.status.as_ref().and_then(|status| status.engine.as_ref());
    match engine.filter(|engine| !engine.reachable) {
        Some(engine) => Finding::bad(
            format!("the agent cannot reach it: {}", engine.problem),
            "Run `systemctl restart kedge` where its groups or agent.toml changed since it started; else see `journalctl -u kedge`",
        ),
        None => Finding::good(format!("{shown} answers")),
    }
}
