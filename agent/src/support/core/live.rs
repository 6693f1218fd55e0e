//! An open session's own clockwork: how long it may last, how much may leave, and how long nothing may happen.

use std::time::Duration;

use super::grant::Reason;

/// How long the line may be lost.
pub const TETHER_LOST: Duration = Duration::from_secs(30);

/// What an open session is measured by. All times are of the clock that nobody can set, since boot.
#[derive(Debug, Clone)]
pub struct Live {
    deadline: Duration,
    idle: Duration,
    bytes_left: u64,
    active: Duration,
    heard: Duration,
}

impl Live {
    /// A session that opens now.
    pub fn opened(now: Duration, lasts: Duration, idle: Duration, max_bytes: u64) -> Self {
        Self { deadline: now.saturating_add(lasts), idle, bytes_left: max_bytes, active: now, heard: now }
    }

    /// The engineer was heard of.
    pub fn heard(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// Something was done, or came of something.
    pub fn active(&mut self, now: Duration) {
        self.active = self.active.max(now);
    }

    /// So many bytes are about to leave.
    ///
    /// # Errors
    /// [`Reason::Quota`] when they may not.
    pub fn spend(&mut self, bytes: usize) -> Result<(), Reason> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => {
                // What follows may be small enough again, and would leave with a hole before it.
                self.bytes_left = 0;
                Err(Reason::Quota)
            }
        }
    }

    /// Why it is over, if it is.
    pub fn due(&self, now: Duration) -> Option<Reason> {
        if now >= self.deadline {
            Some(Reason::Deadline)
        } else if now.saturating_sub(self.heard) >= TETHER_LOST {
            Some(Reason::TetherLost)
        } else if now.saturating_sub(self.active) >= self.idle {
            Some(Reason::Idle)
        } else {
            None
        }
    }

    /// Time until its deadline.
    pub fn left(&self, now: Duration) -> Duration {
        self.deadline.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_ends_at_its_deadline_when_nobody_is_heard_and_when_nothing_happens() {
        let mut live = Live::opened(s(100), s(1000), s(300), 10);
        assert_eq!(live.due(s(129)), None);
        assert_eq!(live.due(s(130)), Some(Reason::TetherLost));
        live.heard(s(399));
        assert_eq!(live.due(s(399)), None);
        assert_eq!(live.due(s(400)), Some(Reason::Idle));
        live.active(s(1099));
        live.heard(s(1099));
        assert_eq!(live.due(s(1099)), None);
        assert_eq!(live.due(s(1100)), Some(Reason::Deadline));
        assert_eq!(live.left(s(1090)), s(10));
    }

    #[test]
    fn no_byte_leaves_beyond_the_quota_nor_after_it_was_reached() {
        let mut live = Live::opened(s(0), s(10), s(10), 10);
        assert_eq!(live.spend(6), Ok(()));
        assert_eq!(live.spend(5), Err(Reason::Quota));
        assert_eq!(live.spend(1), Err(Reason::Quota));
    }
}
