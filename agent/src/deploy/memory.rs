//! What the engine cannot tell: which one-shot jobs have succeeded. Done is done, across restarts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::plan::{self, Desired, Memory, Observed};
use crate::problem::Problem;
use crate::store::{Record, Store, Writes};

/// Spec digests remembered per job; then it starts over with the newest, older ones being of releases long gone.
const MOST: usize = 32;

/// Jobs of a deployment that have succeeded. After a restart they are not run again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsRecord {
    /// Deployment.
    pub deployment: String,
    /// Spec digests by service.
    pub done: BTreeMap<String, BTreeSet<String>>,
}

impl Record for JobsRecord {
    const TABLE: &'static str = "jobs";
    const VERSION: u32 = 1;
    fn key(&self) -> String {
        self.deployment.clone()
    }
}

/// What is remembered of a deployment.
///
/// # Errors
/// When the store cannot be read.
pub fn load(store: &Store, deployment: &str) -> Result<Memory, Problem> {
    let done = store.get::<JobsRecord>(deployment)?.unwrap_or_default().done;
    Ok(Memory { done, ..Memory::default() })
}

/// Adds the jobs that have ended well to the memory; `true` if there was a new one.
pub fn learn(memory: &mut Memory, desired: &Desired, observed: &Observed) -> bool {
    let mut news = false;
    for (service, digests) in plan::finished(desired, observed) {
        let done = memory.done.entry(service).or_default();
        if done.len() + digests.len() > MOST && !digests.is_subset(done) {
            done.clear();
        }
        for digest in digests {
            news |= done.insert(digest);
        }
    }
    news
}

/// Writes the memory down.
///
/// # Errors
/// When the store cannot be written.
pub async fn save(store: &Store, deployment: &str, memory: &Memory) -> Result<(), Problem> {
    let record = JobsRecord { deployment: deployment.to_owned(), done: memory.done.clone() };
    store.commit(Writes::new().put(&record)?).await
}
