//! Turns changes of the status and events into numbered reports, kept until the hub has them.
//!
//! A report, its number and the removal of the events in it are one commit: hours without a line lose no event
//! and repeat none. After a start the first report says everything, so that nothing has to be remembered
//! of what the hub was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kedge_proto::tether::v1::Report;
use kedge_proto::v1::{Event, HostStatus};
use prost::Message;
use tokio::sync::watch;

use super::{Journal, diff};
use crate::clock::{Clock, stamp};
use crate::host::OutboxEntry;
use crate::problem::Problem;
use crate::store::{EventRecord, OutboxRecord, Record, ReportRecord, Store, Writes};

/// Changes within this time make one report.
const GATHER: Duration = Duration::from_millis(250);

/// Most events in one report; the rest follows in the next.
const MOST_EVENTS: usize = 200;

/// The outbox: reports that the hub has not acknowledged.
pub struct Outbox {
    store: Store,
    clock: Arc<dyn Clock>,
    most: usize,
    session: String,
    acked: AtomicU64,
    state: tokio::sync::Mutex<State>,
    newest: watch::Sender<u64>,
}

struct State {
    numbering: OutboxRecord,
    told: Option<HostStatus>,
}

impl Outbox {
    /// Opens the outbox of `store`; at most `most` reports are kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: Store, clock: Arc<dyn Clock>, most: usize) -> Result<Self, Problem> {
        let numbering = match store.get::<OutboxRecord>("")? {
            Some(record) => record,
            None => OutboxRecord { session: format!("{:032x}", rand::random::<u128>()), last: 0, acked: 0 },
        };
        let newest = watch::Sender::new(numbering.last);
        Ok(Self {
            store,
            clock,
            most,
            session: numbering.session.clone(),
            acked: AtomicU64::new(numbering.acked),
            state: tokio::sync::Mutex::new(State { numbering, told: None }),
            newest,
        })
    }

    /// Changes with every report; its value is the highest number.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Session and highest acknowledged number.
    pub fn session(&self) -> (String, u64) {
        (self.session.clone(), self.acked.load(Ordering::Acquire))
    }

    /// Reports after number `after`, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn after(&self, after: u64, most: usize) -> Result<Vec<OutboxEntry>, Problem> {
        let mut entries = Vec::new();
        for record in self.store.scan::<ReportRecord>("")?.into_iter().filter(|r| r.number > after).take(most)
        {
            let report = hex::decode(&record.report)
                .map_err(|e| Problem::from_error(&crate::codes::STORE_DAMAGED, &e).at("outbox"))?;
            entries.push(OutboxEntry { number: record.number, report: Bytes::from(report) });
        }
        Ok(entries)
    }

    /// Forgets what the hub has for good.
    ///
    /// # Errors
    /// When the store cannot be written; the reports are then sent again and not counted twice by the hub.
    pub async fn acked(&self, up_to: u64) -> Result<(), Problem> {
        let mut state = self.state.lock().await;
        let up_to = up_to.min(state.numbering.last);
        if up_to <= state.numbering.acked {
            return Ok(());
        }
        let numbering = OutboxRecord { acked: up_to, ..state.numbering.clone() };
        let mut writes = Writes::new().put(&numbering)?;
        for record in self.store.scan::<ReportRecord>("")?.iter().filter(|r| r.number <= up_to) {
            writes = writes.remove::<ReportRecord>(&record.key());
        }
        self.store.commit(writes).await?;
        state.numbering = numbering;
        self.acked.store(up_to, Ordering::Release);
        Ok(())
    }

    /// The next report says everything.
    pub async fn forget_told(&self) {
        self.state.lock().await.told = None;
    }

    /// Writes a report if there is anything to say.
    ///
    /// # Errors
    /// When the store cannot be written; nothing is lost, the next try says it.
    pub async fn report(&self, status: &HostStatus) -> Result<bool, Problem> {
        let mut state = self.state.lock().await;
        let events = self.store.scan_some::<EventRecord>("", MOST_EVENTS)?;
        let full = state.told.is_none();
        let host = match &state.told {
            None => Some(diff::everything(status)),
            Some(told) => diff::between(told, status),
        };
        if host.is_none() && events.is_empty() {
            return Ok(false);
        }
        let numbering = OutboxRecord { last: state.numbering.last + 1, ..state.numbering.clone() };
        let mut writes = Writes::new();
        let mut told_events = Vec::new();
        for record in &events {
            writes = writes.remove::<EventRecord>(&record.key());
            // One that does not decode was written by a newer agent before a downgrade: it is dropped, the rest goes on.
            if let Some(event) = hex::decode(&record.event).ok().and_then(|b| Event::decode(&b[..]).ok()) {
                told_events.push(event);
            }
        }
        let mut report =
            Report { number: numbering.last, at: stamp(&*self.clock), full, host, events: told_events };
        let surplus = (self.store.count::<ReportRecord>() + 1).saturating_sub(self.most);
        if surplus > 0 {
            for old in self.store.scan_some::<ReportRecord>("", surplus)? {
                writes = writes.remove::<ReportRecord>(&old.key());
            }
            // What the oldest said is in the newest state; only their events are lost.
            report.full = true;
            report.host = Some(diff::everything(status));
        }
        let encoded = hex::encode(report.encode_to_vec());
        writes = writes.put(&ReportRecord { number: numbering.last, report: encoded })?.put(&numbering)?;
        self.store.commit(writes).await?;
        let last = numbering.last;
        state.numbering = numbering;
        state.told = Some(status.clone());
        drop(state);
        self.newest.send_replace(last);
        Ok(true)
    }
}

/// Reports as long as it is not dropped. While the host is not enrolled it only bounds the events.
pub async fn run(
    outbox: Arc<Outbox>,
    journal: Arc<Journal>,
    mut status: watch::Receiver<Arc<HostStatus>>,
    mut enrolled: watch::Receiver<Option<Arc<crate::host::Enrolment>>>,
) {
    let mut news = journal.news();
    loop {
        let is_enrolled = enrolled.borrow_and_update().is_some();
        let current = Arc::clone(&status.borrow_and_update());
        news.mark_unchanged();
        let written = if is_enrolled { outbox.report(&current).await } else { outbox.trim().await };
        match written {
            Ok(true) => continue,
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%problem, "a report could not be written; it is tried with the next change")
            }
        }
        // Every arm is a watch: cancelling one loses nothing.
        let woken = tokio::select! {
            changed = status.changed() => changed.is_ok(),
            changed = news.changed() => changed.is_ok(),
            changed = enrolled.changed() => changed.is_ok(),
        };
        if !woken {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}

impl Outbox {
    async fn trim(&self) -> Result<bool, Problem> {
        self.store.commit(Journal::trim(&self.store, Writes::new())?).await?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use kedge_proto::v1::DeploymentStatus;

    use super::*;
    use crate::clock::SystemClock;

    async fn outbox(most: usize) -> (tempfile::TempDir, Store, Outbox, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let outbox = Outbox::open(store.clone(), Arc::new(SystemClock), most).unwrap();
        let journal = Journal::open(&store).unwrap();
        (folder, store, outbox, journal)
    }

    fn status(deployments: &[&str]) -> HostStatus {
        let deployments = deployments
            .iter()
            .map(|n| DeploymentStatus { name: (*n).into(), ..Default::default() })
            .collect();
        HostStatus { host_id: "h".into(), deployments, ..Default::default() }
    }

    fn decoded(outbox: &Outbox, after: u64) -> Vec<Report> {
        outbox.after(after, 100).unwrap().iter().map(|e| Report::decode(&e.report[..]).unwrap()).collect()
    }

    #[tokio::test]
    async fn the_first_report_is_full_and_the_next_a_difference() {
        let (_folder, _store, outbox, _) = outbox(10).await;
        assert!(outbox.report(&status(&["a"])).await.unwrap());
        assert!(!outbox.report(&status(&["a"])).await.unwrap());
        assert!(outbox.report(&status(&["a", "b"])).await.unwrap());
        let reports = decoded(&outbox, 0);
        assert_eq!(reports.iter().map(|r| (r.number, r.full)).collect::<Vec<_>>(), [(1, true), (2, false)]);
        assert_eq!(reports[1].host.as_ref().unwrap().deployments.len(), 1);
    }

    #[tokio::test]
    async fn an_event_is_in_exactly_one_report_and_survives_reopening() {
        let (folder, store, outbox, journal) = outbox(10).await;
        outbox.report(&status(&[])).await.unwrap();
        let event = Event { message: "it happened".into(), ..Default::default() };
        store.commit(journal.add(Writes::new(), &event).unwrap()).await.unwrap();
        assert!(outbox.report(&status(&[])).await.unwrap());
        assert!(!outbox.report(&status(&[])).await.unwrap());
        assert_eq!(decoded(&outbox, 1)[0].events[0].message, "it happened");
        let session = outbox.session();
        drop((store, outbox));
        let outbox = Outbox::open(Store::open(folder.path()).unwrap(), Arc::new(SystemClock), 10).unwrap();
        assert_eq!(outbox.session(), session);
        assert_eq!(decoded(&outbox, 1)[0].events.len(), 1);
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_gone_and_numbers_go_on() {
        let (_folder, _store, outbox, _) = outbox(10).await;
        outbox.report(&status(&["a"])).await.unwrap();
        outbox.report(&status(&["b"])).await.unwrap();
        outbox.acked(1).await.unwrap();
        assert_eq!(decoded(&outbox, 0).iter().map(|r| r.number).collect::<Vec<_>>(), [2]);
        outbox.acked(99).await.unwrap();
        assert_eq!(outbox.session().1, 2);
        outbox.report(&status(&["c"])).await.unwrap();
        assert_eq!(decoded(&outbox, 0)[0].number, 3);
    }

    #[tokio::test]
    async fn beyond_its_bound_the_outbox_drops_the_oldest_and_the_newest_says_everything() {
        let (_folder, _store, outbox, _) = outbox(2).await;
        for name in ["a", "b", "c"] {
            outbox.report(&status(&[name])).await.unwrap();
        }
        let reports = decoded(&outbox, 0);
        assert_eq!(reports.iter().map(|r| (r.number, r.full)).collect::<Vec<_>>(), [(2, false), (3, true)]);
    }
}
