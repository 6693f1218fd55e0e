//! Deployments: one task each, holding its own state machine, so that none waits for another.
//!
//! ```text
//!  Host ──Command──▶ task ──────Phase (on disk first)──▶ phases: fetch, preflight, apply, gate, roll back, remove
//!                     │                                     │
//!                     └──Target──▶ supervisor ──status──▶ Board
//!                                     ▲ events of the engine; plans and applies while nothing else does
//! ```
//!
//! [`machine`] says what comes next and does nothing; [`task`] writes it down and does it; [`supervisor`] keeps the
//! active generation as it should be, also while a newer release is being fetched. Whoever changes containers holds
//! the deployment's *turn*.

mod acceptance;
pub mod adoption;
pub mod as_it_was;
pub mod compile;
mod crashes;
pub mod drift;
pub mod export;
mod fetching;
pub mod files;
pub mod machine;
mod memory;
pub mod pause;
mod permission;
mod phases;
pub(crate) mod ports;
pub mod preview;
mod requests;
pub mod secrets;
mod status;
mod supervisor;
pub mod task;
#[cfg(test)]
mod tests;
mod transitions;

pub use acceptance::{audit_refusal, bases, room, take_in};
pub use status::sentence;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::codes;
use crate::host::Progress;
use crate::problem::Problem;
use crate::store::{Origin, ReleaseRef};
use crate::world::World;

/// Requests that may wait for a deployment's task.
const QUEUE: usize = 16;

/// What a deployment can be asked.
#[derive(Debug)]
pub enum Command {
    /// Bring it to this release.
    Install(Install),
    /// Remove it.
    Remove {
        /// Volumes too.
        volumes: bool,
        /// Asking twice with the same ID does once.
        id: String,
        /// Who wants to see it happen.
        watcher: Option<mpsc::Sender<Progress>>,
    },
    /// Change nothing of it until told otherwise.
    Pause {
        /// User.
        by: String,
        /// Why.
        reason: String,
        /// Told once it is so.
        answer: pause::Answer,
    },
    /// Keep it as it should be again.
    Resume {
        /// User.
        by: String,
        /// Told once it is so.
        answer: pause::Answer,
    },
}

/// A request to bring a deployment to a release.
#[derive(Debug)]
pub struct Install {
    /// Asking twice with the same ID does once.
    pub id: String,
    /// Which release.
    pub release: ReleaseRef,
    /// Parameters given with the request; they may be secrets and are in no record.
    pub given: BTreeMap<String, String>,
    /// Who asks.
    pub origin: Origin,
    /// Who wants to see it happen.
    pub watcher: Option<mpsc::Sender<Progress>>,
}

/// A deployment's task, from outside.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Hands over a request; gives it back when the deployment has just gone.
    ///
    /// # Errors
    /// The request.
    pub async fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.send(command).await.map_err(|back| back.0)
    }
}

/// Starts the task of a deployment that the store knows.
pub fn spawn(
    world: Arc<World>,
    record: crate::store::DeploymentRecord,
) -> (Handle, tokio::task::JoinHandle<()>) {
    let (commands, receiver) = mpsc::channel(QUEUE);
    let task = task::Deployment::new(world, record, receiver);
    // Before anybody can ask: a host whose deployments have not come round to it yet would report that it has none.
    task.publish();
    (Handle { commands }, tokio::spawn(task.run()))
}

/// Checks a deployment's name: it names the compose project too.
///
/// # Errors
/// [`codes::BAD_NAME`].
pub fn check_name(name: &str) -> Result<(), Problem> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if first && rest && name.len() <= 63 {
        Ok(())
    } else {
        Err(Problem::new(&codes::BAD_NAME, format!("{name:.80?} cannot name a deployment")))
    }
}

#[cfg(test)]
mod name_tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_or_a_label_are_refused() {
        for good in ["a", "hello-2", "0_x"] {
            check_name(good).unwrap();
        }
        for bad in ["", "-a", "A", "a/b", "..", "a b", "ä", &"a".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
