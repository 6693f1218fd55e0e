//! Time, passed in, so that every rule about it can be tested without waiting.

use jiff::Timestamp;

/// What time it is.
pub trait Clock: Send + Sync {
    /// Wall clock.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// `now` as the records and protocols have it: RFC 3339, UTC, whole seconds.
pub fn stamp(clock: &dyn Clock) -> String {
    let now = clock.now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
