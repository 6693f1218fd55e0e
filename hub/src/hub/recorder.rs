//! Writes what hosts report, many at a time.
//!
//! A transaction costs a disk flush whatever is in it, so one task gathers what arrived while the last one
//! was being written and stores that together: the more hosts report, the larger the batches. A host is
//! acknowledged only after the flush. Should the store fail, the hosts concerned are sent away and bring
//! the same reports again later.

use super::fleet::{End, Fleet};
use super::store::{Arrived, Store};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::error;

/// Reports that may wait; beyond, streams stop being read.
const QUEUE: usize = 1024;
/// Most entries in one transaction.
const BATCH: usize = 512;

/// Something to write.
#[derive(Debug)]
pub enum Entry {
    /// A report, from the seat of this number.
    Report(u64, Box<Arrived>),
    /// A sign of life at this time.
    Seen(String, Timestamp),
}

/// Starts the recorder. It ends, with everything written, when all senders are gone.
pub fn start(store: Arc<Store>, fleet: Fleet) -> (mpsc::Sender<Entry>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (sender, tokio::spawn(run(store, fleet, receiver)))
}

async fn run(store: Arc<Store>, fleet: Fleet, mut entries: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let (mut reports, mut seen, mut stored) = (Vec::new(), BTreeMap::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Report(seat, arrived) => {
                    stored.push((arrived.host.clone(), seat, arrived.report.number, arrived.at));
                    reports.push(*arrived);
                }
                Entry::Seen(host, at) => {
                    seen.insert(host, at);
                }
            }
        }
        let writer = store.clone();
        let result = tokio::task::spawn_blocking(move || writer.record(reports, &seen)).await;
        match result {
            Ok(Ok(())) => {
                for (host, seat, number, at) in stored {
                    fleet.stored(&host, seat, number, at);
                }
            }
            failed => {
                let reason = match failed {
                    Ok(Err(failure)) => failure.chain(),
                    _ => "the writing thread stopped".to_owned(),
                };
                error!(
                    code = crate::codes::STORE.id,
                    reports = stored.len(),
                    "Reports could not be stored: {reason}."
                );
                for (host, ..) in stored {
                    fleet.end(&host, End::StoreFailed);
                }
            }
        }
    }
}
