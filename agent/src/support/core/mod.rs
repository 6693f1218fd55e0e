//! What decides about support sessions, without clock, disk, engine or network: who may ask, what a grant becomes, when a
//! session is over, which containers may be joined. Everything is passed in; effects are the caller's, after it has
//! written down what was decided.

pub mod again;
pub mod grant;
pub mod live;
pub mod nonces;
pub mod refusal;
pub mod target;
pub mod verify;

#[cfg(test)]
mod properties;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment by the clock that nobody can set: which boot of the machine, and how long after its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The kernel's name for this boot.
    pub boot: String,
    /// Since its start, time asleep included.
    pub since: Duration,
}

impl Moment {
    /// Time from `earlier` until now; `None` when the machine was started anew in between.
    pub fn after(&self, earlier: &Self) -> Option<Duration> {
        (self.boot == earlier.boot).then(|| self.since.saturating_sub(earlier.since))
    }
}
