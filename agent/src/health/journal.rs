//! Events on their way into a report: written in the same commit as the change they tell of.

use std::sync::atomic::{AtomicU64, Ordering};

use kedge_proto::v1;
use prost::Message;
use tokio::sync::watch;

use crate::problem::Problem;
use crate::store::{EventRecord, Store, Writes};

/// Events that are kept while no hub takes them. The oldest go first.
const MOST: usize = 1_000;

/// Gives events their numbers.
pub struct Journal {
    next: AtomicU64,
    news: watch::Sender<u64>,
}

impl Journal {
    /// Goes on where the store's events end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: &Store) -> Result<Self, Problem> {
        let last = store.last::<EventRecord>()?.map_or(0, |r| r.number);
        Ok(Self { next: AtomicU64::new(last + 1), news: watch::Sender::new(last) })
    }

    /// Adds an event to what is about to be committed.
    ///
    /// # Errors
    /// When the event cannot be encoded, which is a defect.
    pub fn add(&self, writes: Writes, event: &v1::Event) -> Result<Writes, Problem> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        writes.put(&EventRecord { number, event: hex::encode(event.encode_to_vec()) })
    }

    /// To be called after the commit: wakes the reporter.
    pub fn committed(&self) {
        let last = self.next.load(Ordering::Relaxed).saturating_sub(1);
        self.news.send_if_modified(|seen| std::mem::replace(seen, last) != last);
    }

    /// Changes with every committed event.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Removes the oldest events beyond the bound, where no hub takes them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn trim(store: &Store, mut writes: Writes) -> Result<Writes, Problem> {
        let surplus = store.count::<EventRecord>().saturating_sub(MOST);
        for old in store.scan_some::<EventRecord>("", surplus)? {
            writes = writes.remove::<EventRecord>(&crate::store::Record::key(&old));
        }
        Ok(writes)
    }
}
