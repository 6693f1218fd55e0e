//! Whether the time can be believed: releases and certificates expire by it.

use async_trait::async_trait;

use super::{Check, Finding, Place};

/// 2025-01-01, before anything that this agent could be given was signed.
const LONG_AGO: i64 = 1_735_689_600;

/// The check.
pub(super) struct Clock;

#[async_trait]
impl Check for Clock {
    fn id(&self) -> &'static str {
        "clock"
    }

    fn what(&self) -> &'static str {
        "Clock"
    }

    async fn look(&self, place: &Place) -> Finding {
        let saw = format!("{:.0}", place.now);
        let set = "Set the time (timedatectl set-time), and let systemd-timesyncd or chrony keep it";
        if place.now.as_second() < LONG_AGO {
            return Finding::bad(saw, set);
        }
        let known = place.status.as_ref().and_then(|status| status.clock).filter(|clock| clock.suspect);
        if let Some(clock) = known {
            return Finding::bad(
                format!("{saw}, which is {} s behind what signed documents say", clock.behind_seconds),
                set,
            );
        }
        // systemd-timesyncd leaves this file once it has set the clock; others leave nothing.
        if place.path("/run/systemd/timesync/synchronized").exists() {
            return Finding::good(format!("{saw}, set over the network"));
        }
        Finding::good(format!("{saw}, as far as this host can tell"))
    }
}
