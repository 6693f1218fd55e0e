//! Time, passed in, so that every rule about it can be tested without waiting.

use std::time::Duration;

use jiff::Timestamp;

use crate::support::core::Moment;

/// What time it is.
pub trait Clock: Send + Sync {
    /// Wall clock.
    fn now(&self) -> Timestamp;

    /// The clock that nobody can set: Linux' `CLOCK_BOOTTIME`, and the kernel's name for this boot.
    fn moment(&self) -> Moment {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since =
            Duration::new(since.tv_sec.unsigned_abs(), u32::try_from(since.tv_nsec).unwrap_or_default());
        Moment { boot: boot.trim().to_owned(), since }
    }
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
