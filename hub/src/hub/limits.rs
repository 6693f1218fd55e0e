//! How often one address may try to enrol. Pure: time comes in.
//!
//! A bucket per address refills at a steady pace. An attempt takes one drop and gives it back when it succeeds; a
//! refused one costs many. So a customer's whole fleet behind one address gets in, and guessing at tokens is hopeless.

use jiff::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;

/// Drops in a full bucket.
const CAPACITY: f64 = 600.0;
/// Drops that come back in a second.
const REFILL: f64 = 10.0;
/// What a refused attempt costs, if need be on credit: ten in a row, then one in six seconds.
const REFUSED: f64 = 60.0;
/// Addresses remembered; beyond, the fullest buckets (those that matter least) are forgotten.
const ADDRESSES: usize = 10_000;

/// The buckets.
#[derive(Debug, Default)]
pub struct Attempts {
    buckets: HashMap<IpAddr, (f64, Timestamp)>,
}

impl Attempts {
    /// Takes a drop for an attempt; false if there is none.
    pub fn allow(&mut self, peer: IpAddr, now: Timestamp) -> bool {
        if self.buckets.len() >= ADDRESSES && !self.buckets.contains_key(&peer) {
            self.forget(now);
        }
        let level = self.level(peer, now);
        let allowed = level >= 1.0;
        self.buckets.insert(peer, (if allowed { level - 1.0 } else { level }, now));
        allowed
    }

    /// The attempt just allowed enrolled a host.
    pub fn accepted(&mut self, peer: IpAddr, now: Timestamp) {
        let level = self.level(peer, now) + 1.0;
        self.buckets.insert(peer, (level.min(CAPACITY), now));
    }

    /// The attempt just allowed was refused.
    pub fn refused(&mut self, peer: IpAddr, now: Timestamp) {
        let level = self.level(peer, now) - REFUSED;
        self.buckets.insert(peer, (level.max(-REFUSED), now));
    }

    fn level(&self, peer: IpAddr, now: Timestamp) -> f64 {
        self.buckets.get(&peer).map_or(CAPACITY, |(level, at)| {
            let seconds = now.duration_since(*at).as_secs_f64().max(0.0);
            (level + seconds * REFILL).min(CAPACITY)
        })
    }

    /// Forgets buckets that have filled up; if none has, the fuller half.
    fn forget(&mut self, now: Timestamp) {
        let mut levels: Vec<f64> = self.buckets.keys().map(|peer| self.level(*peer, now)).collect();
        levels.sort_by(f64::total_cmp);
        let threshold = levels.get(levels.len() / 2).copied().unwrap_or(CAPACITY);
        let keep: Vec<IpAddr> =
            self.buckets.keys().filter(|peer| self.level(**peer, now) < threshold).copied().collect();
        self.buckets.retain(|peer, _| keep.contains(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn peer(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(n).into()
    }

    #[test]
    fn guessing_is_slowed_to_one_attempt_in_six_seconds() {
        let mut attempts = Attempts::default();
        let mut guess = |seconds| {
            let allowed = attempts.allow(peer(1), at(seconds));
            if allowed {
                attempts.refused(peer(1), at(seconds));
            }
            allowed
        };
        assert_eq!((0..100).filter(|_| guess(0)).count(), 10);
        let later = (1..=600).filter(|second| guess(*second)).count();
        assert!((90..=100).contains(&later), "{later}");
    }

    #[test]
    fn one_address_does_not_slow_another_and_attempts_under_way_are_bounded() {
        let mut attempts = Attempts::default();
        assert_eq!((0..1000).filter(|_| attempts.allow(peer(1), at(0))).count(), 600);
        assert!(attempts.allow(peer(2), at(0)));
    }

    #[test]
    fn good_enrolments_are_never_slowed() {
        let mut attempts = Attempts::default();
        for _ in 0..10_000 {
            assert!(attempts.allow(peer(1), at(0)));
            attempts.accepted(peer(1), at(0));
        }
    }

    #[test]
    fn memory_is_bounded_and_guessers_are_remembered_longest() {
        let mut attempts = Attempts::default();
        for _ in 0..10 {
            attempts.allow(peer(0), at(0));
            attempts.refused(peer(0), at(0));
        }
        for n in 1..=3 * ADDRESSES as u32 {
            attempts.allow(peer(n), at(0));
        }
        assert!(attempts.buckets.len() <= ADDRESSES);
        assert!(!attempts.allow(peer(0), at(0)));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away_and_does_not_lock_out() {
        let mut attempts = Attempts::default();
        assert!(attempts.allow(peer(1), at(1000)));
        assert!(attempts.allow(peer(1), at(0)));
    }
}
