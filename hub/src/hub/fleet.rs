//! Who is connected now. The only shared state that is not on disk: it is empty after a restart, and true
//! again as the hosts come back.
//!
//! A host has one seat. Taking it sends away whoever sat there before; leaving it (dropping it) is
//! how a broken connection is noticed. Everything that a stream must be told goes through watch channels,
//! which hold one value each: a slow host costs no queue.

use jiff::Timestamp;
use kedge_proto::tether::v1::hub_frame::Body;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, mpsc, watch};

/// Changes that a watcher may lag behind before it is sent the whole fleet again.
const CHANGES: usize = 1024;

/// Things about support that may wait for a host.
const ASKED: usize = 8;

/// Why the hub ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The same host connected again.
    Replaced,
    /// Its enrolment was revoked.
    Revoked,
    /// The hub is stopping.
    Stopping,
    /// The hub cannot write what the host reports.
    StoreFailed,
}

impl End {
    /// What the goodbye says, and after how many seconds to come back.
    pub fn goodbye(self) -> (&'static str, u32) {
        match self {
            End::Replaced => ("this host connected a second time; the newer connection stays", 30),
            End::Revoked => ("this host's enrolment was revoked", 3600),
            End::Stopping => ("the hub is stopping", 5),
            End::StoreFailed => ("the hub cannot store reports at the moment", 30),
        }
    }
}

struct Occupied {
    seat: u64,
    since: Timestamp,
    last_seen: Timestamp,
    acked: watch::Sender<u64>,
    end: watch::Sender<Option<End>>,
    support: mpsc::Sender<Body>,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<String, Occupied>,
    next: u64,
    stopping: bool,
}

/// Handle to the fleet; cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    seats: Arc<Mutex<Seats>>,
    changes: broadcast::Sender<String>,
}

/// A host's place while its stream lives.
pub struct Seat {
    /// Tells this connection from the host's others.
    pub number: u64,
    /// Highest report number that is safely stored.
    pub acked: watch::Receiver<u64>,
    /// Set when the stream must end.
    pub end: watch::Receiver<Option<End>>,
    /// What is asked of the host about support.
    pub support: mpsc::Receiver<Body>,
    host: String,
    fleet: Fleet,
}

impl Default for Fleet {
    fn default() -> Self {
        Fleet { seats: Arc::default(), changes: broadcast::channel(CHANGES).0 }
    }
}

impl Fleet {
    /// Takes the host's seat. `acked` is where its acknowledgements begin.
    pub fn sit(&self, host: &str, acked: u64, now: Timestamp) -> Seat {
        let (acked, acked_rx) = watch::channel(acked);
        let (end, end_rx) = watch::channel(None);
        let (support, support_rx) = mpsc::channel(ASKED);
        let mut seats = self.lock();
        if seats.stopping {
            end.send_replace(Some(End::Stopping));
        }
        seats.next += 1;
        let number = seats.next;
        let occupied = Occupied { seat: number, since: now, last_seen: now, acked, end, support };
        if let Some(former) = seats.taken.insert(host.to_owned(), occupied) {
            former.end.send_replace(Some(End::Replaced));
        }
        drop(seats);
        self.changed(host);
        Seat {
            number,
            acked: acked_rx,
            end: end_rx,
            support: support_rx,
            host: host.to_owned(),
            fleet: self.clone(),
        }
    }

    /// A report of this seat is stored: acknowledges it, and tells the watchers.
    pub fn stored(&self, host: &str, seat: u64, number: u64, at: Timestamp) {
        if let Some(occupied) = self.lock().taken.get_mut(host).filter(|occupied| occupied.seat == seat) {
            occupied.acked.send_modify(|acked| *acked = number.max(*acked));
            occupied.last_seen = at.max(occupied.last_seen);
        }
        self.changed(host);
    }

    /// Tells the host something about support; false when it is not here, or has not yet taken what it was told before.
    pub fn tell(&self, host: &str, body: Body) -> bool {
        self.lock().taken.get(host).is_some_and(|occupied| occupied.support.try_send(body).is_ok())
    }

    /// Ends the host's stream, if it has one.
    pub fn end(&self, host: &str, why: End) {
        if let Some(occupied) = self.lock().taken.get(host) {
            occupied.end.send_replace(Some(why));
        }
    }

    /// Ends every stream, and those that still come.
    pub fn stop(&self) {
        let mut seats = self.lock();
        seats.stopping = true;
        for occupied in seats.taken.values() {
            occupied.end.send_replace(Some(End::Stopping));
        }
    }

    /// Since when a host is connected, and its last sign of life.
    pub fn presence(&self, host: &str) -> Option<(Timestamp, Timestamp)> {
        self.lock().taken.get(host).map(|occupied| (occupied.since, occupied.last_seen))
    }

    /// How many hosts are connected.
    pub fn connected(&self) -> usize {
        self.lock().taken.len()
    }

    /// The IDs of hosts that changed, from now on.
    pub fn watch(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// Something about a host changed outside of its reports.
    pub fn changed(&self, host: &str) {
        // No watcher is no error.
        let _ = self.changes.send(host.to_owned());
    }

    /// The map stays whole whatever happens while it is held: no code in here can stop half-way.
    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.fleet.lock();
        if seats.taken.get(&self.host).is_some_and(|occupied| occupied.seat == self.number) {
            seats.taken.remove(&self.host);
            drop(seats);
            self.fleet.changed(&self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn a_second_connection_replaces_the_first_and_outlives_its_end() {
        let fleet = Fleet::default();
        let first = fleet.sit("h", 0, now());
        let second = fleet.sit("h", 0, now());
        assert_eq!(*first.end.borrow(), Some(End::Replaced));
        drop(first);
        assert!(fleet.presence("h").is_some(), "the first one's end does not free the second one's seat");
        assert_eq!(*second.end.borrow(), None);
        drop(second);
        assert!(fleet.presence("h").is_none());
    }

    #[test]
    fn acknowledgements_only_rise_and_reach_only_the_seat_that_reported() {
        let fleet = Fleet::default();
        let first = fleet.sit("h", 3, now());
        fleet.stored("h", first.number, 2, now());
        assert_eq!(*first.acked.borrow(), 3);
        let second = fleet.sit("h", 3, now());
        fleet.stored("h", first.number, 9, now());
        assert_eq!(*second.acked.borrow(), 3);
    }

    #[test]
    fn whoever_sits_down_while_the_hub_stops_is_sent_away() {
        let fleet = Fleet::default();
        let before = fleet.sit("a", 0, now());
        fleet.stop();
        let after = fleet.sit("b", 0, now());
        assert_eq!((*before.end.borrow(), *after.end.borrow()), (Some(End::Stopping), Some(End::Stopping)));
    }

    #[test]
    fn watchers_hear_of_coming_reporting_and_going() {
        let fleet = Fleet::default();
        let mut changes = fleet.watch();
        let seat = fleet.sit("h", 0, now());
        fleet.stored("h", seat.number, 1, now());
        drop(seat);
        for _ in 0..3 {
            assert_eq!(changes.try_recv().unwrap(), "h");
        }
        assert!(changes.try_recv().is_err());
    }
}
