//! Whether the agent can start, and answers.

use std::io::ErrorKind;

use async_trait::async_trait;
use tokio::net::UnixStream;

use super::account::{Account, PASS, READ};
use super::{Check, Finding, Place, unit::Unit};
use crate::daemon;

/// The check.
pub(super) struct Agent;

#[async_trait]
impl Check for Agent {
    fn id(&self) -> &'static str {
        "agent"
    }

    fn what(&self) -> &'static str {
        "The agent"
    }

    async fn look(&self, place: &Place) -> Finding {
        // It reads both when it starts, and does not start without.
        if let Some(finding) = kept_from_reading(place) {
            return finding;
        }
        let rules = place.path(&place.config.guard);
        // Who may not look at them leaves it to the agent, which may; without a user of its own it is taken for the caller's.
        let refused = std::fs::File::open(&rules).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
        let is_theirs = refused && Account::of_agent(place).is_some();
        if !is_theirs && let Err(problem) = daemon::read_rules(&rules) {
            // Between the first and the last line of such an error lies the text that it is about.
            let mut lines = problem.message.lines();
            let ends: Vec<&str> = lines.next().into_iter().chain(lines.next_back()).collect();
            return Finding::bad(
                ends.join(": "),
                "Correct it: the agent does not start with it. Then `systemctl restart kedge`",
            );
        }
        if place.status.is_some() {
            return Finding::good("it answers");
        }
        if Unit::of(place).is_none() {
            return Finding::skipped("it is not installed as a service, and does not answer");
        }
        match UnixStream::connect(place.path(place.config.socket())).await {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Finding::skipped("this user may not ask it; root and members of the group kedge may")
            }
            _ => Finding::warning("the agent does not answer", "See `journalctl -u kedge`"),
        }
    }
}

/// A file that the agent reads when it starts, and may not.
fn kept_from_reading(place: &Place) -> Option<Finding> {
    let agent = Account::of_agent(place)?;
    let unit = Unit::of(place);
    for file in [&place.config.guard, &place.config_file] {
        let Some(real) = place.real(file) else { continue };
        let shown = file.display();
        if unit.as_ref().is_some_and(|unit| unit.hides(&real)) {
            return Some(Finding::bad(
                format!("the service cannot see {shown}: ProtectHome= hides {}", real.display()),
                "Put the file into /etc/kedge, and run `systemctl restart kedge`",
            ));
        }
        let is_open = |path, permission| agent.may(permission, &place.path(path));
        let mut folders = real.ancestors().skip(1);
        if !is_open(real.as_path(), READ) || !folders.all(|folder| is_open(folder, PASS)) {
            let name = &agent.name;
            return Some(Finding::bad(
                format!("the user {name} cannot read {shown}"),
                format!(
                    "Run `chgrp {name} {shown}` and `chmod 640 {shown}`, and see that the folders above it can be entered; then `systemctl restart kedge`"
                ),
            ));
        }
    }
    None
}
