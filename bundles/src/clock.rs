//! What time it is, on a host whose clock may be wrong or lie.
//!
//! Expiry is only worth something if the clock cannot be set back. The time that counts is the latest of the wall clock,
//! the last time seen here (kept across restarts, carried on by the monotonic clock), the newest moment at which
//! a verified document was issued, and the time that the hub told. A clock that is far *ahead* must not poison what is
//! kept: on the word of the wall clock alone a start moves it by at most [`JUMP`], and one document by at most [`LEARN`], so
//! that mending the clock mends everything.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far behind what is known the wall clock may be before it is reported as suspect.
pub const SUSPECT: SignedDuration = SignedDuration::from_hours(24);

/// How far a start may move [`Seen`] on the word of the wall clock alone: the host may have been off for as long.
pub const JUMP: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How far one document may move [`Seen`]: signed by somebody whose own clock may be wrong.
pub const LEARN: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The last time seen: what is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Never falls.
    #[serde(with = "crate::roles::utc")]
    pub latest: Timestamp,
}

/// What a look at all clocks says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time that counts.
    pub now: Timestamp,
    /// How far the wall clock is behind it, if that is more than [`SUSPECT`].
    pub behind: Option<SignedDuration>,
}

/// All clocks of a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// As it was when the process started, moved up by [`Clocks::learn`].
    base: Seen,
    /// Monotonic time that had passed when `base` was set.
    at: SignedDuration,
}

impl Clocks {
    /// The clocks at the start of a process.
    ///
    /// `kept` is what is on disk, `known` the newest moment that a verified document proves. With neither, nothing but the
    /// wall clock is known.
    #[must_use]
    pub fn start(kept: Option<Seen>, known: Option<Timestamp>, wall: Timestamp) -> Self {
        let floor = kept.map(|seen| seen.latest).max(known);
        let latest = match floor {
            Some(floor) => floor.max(wall.min(later(floor, JUMP))),
            None => wall,
        };
        Self { base: Seen { latest }, at: SignedDuration::ZERO }
    }

    /// Takes note of a moment that has certainly come: a document was issued then, or the hub said so. `elapsed` is the
    /// monotonic time since the start.
    pub fn learn(&mut self, moment: Timestamp, elapsed: SignedDuration) {
        let seen = self.seen(elapsed);
        *self = Self {
            base: Seen { latest: seen.latest.max(moment.min(later(seen.latest, LEARN))) },
            at: elapsed.max(self.at),
        };
    }

    /// The last time seen, for the disk.
    #[must_use]
    pub fn seen(&self, elapsed: SignedDuration) -> Seen {
        let passed = elapsed.saturating_sub(self.at).max(SignedDuration::ZERO);
        Seen { latest: later(self.base.latest, passed) }
    }

    /// The time that counts.
    #[must_use]
    pub fn read(&self, wall: Timestamp, elapsed: SignedDuration) -> Reading {
        let seen = self.seen(elapsed).latest;
        let behind = seen.duration_since(wall);
        Reading { now: wall.max(seen), behind: (behind > SUSPECT).then_some(behind) }
    }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn days(days: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn a_clock_that_is_set_back_gains_nothing_and_is_reported() {
        let today = time("2026-06-10T00:00:00Z");
        let kept = Some(Seen { latest: today });
        let clocks = Clocks::start(kept, None, today);
        let reading = clocks.read(today - days(30), days(2));
        assert_eq!(reading.now, today + days(2), "ticks go on");
        assert_eq!(reading.behind, Some(days(32)));
        let restarted = Clocks::start(Some(clocks.seen(days(2))), None, today - days(30));
        assert_eq!(restarted.read(today - days(30), days(0)).now, today + days(2));
    }

    #[test]
    fn an_hour_of_difference_is_not_worth_a_word() {
        let today = time("2026-06-10T00:00:00Z");
        let clocks = Clocks::start(Some(Seen { latest: today }), None, today);
        assert_eq!(clocks.read(today - SignedDuration::from_hours(1), days(0)).behind, None);
    }

    #[test]
    fn a_clock_far_ahead_poisons_nothing() {
        let today = time("2026-06-10T00:00:00Z");
        let ahead = time("2099-01-01T00:00:00Z");
        let mut kept = Seen { latest: today };
        let clocks = Clocks::start(Some(kept), None, ahead);
        assert_eq!(clocks.read(ahead, days(0)).now, ahead, "while it is wrong, it is believed");
        kept = clocks.seen(days(1));
        let mended = Clocks::start(Some(kept), None, today + days(1));
        assert_eq!(mended.read(today + days(1), days(0)).now, today + JUMP + days(1));
    }

    #[test]
    fn documents_and_the_hub_move_it_as_far_as_they_say() {
        let today = time("2026-06-10T00:00:00Z");
        let mut clocks = Clocks::start(None, Some(today), time("1970-01-01T00:10:00Z"));
        assert_eq!(clocks.read(time("1970-01-01T00:10:00Z"), days(0)).now, today, "no battery");
        clocks.learn(today + days(40), days(1));
        assert_eq!(clocks.read(today, days(3)).now, today + days(42));
        clocks.learn(today, days(4));
        assert_eq!(clocks.read(today, days(4)).now, today + days(43), "it never falls");
        clocks.learn(today + days(40_000), days(4));
        assert_eq!(
            clocks.read(today, days(4)).now,
            today + days(43) + LEARN,
            "a vendor's clock may be wrong too"
        );
    }

    #[test]
    fn a_first_start_believes_the_wall_clock() {
        let today = time("2026-06-10T00:00:00Z");
        assert_eq!(
            Clocks::start(None, None, today).read(today, days(0)),
            Reading { now: today, behind: None }
        );
    }
}
