//! Which proxy the way to the hub leads through, and whether it is one that can be used.

use async_trait::async_trait;

use super::{Check, Finding, Place};
use crate::tether;

/// The check.
pub(super) struct Proxy;

#[async_trait]
impl Check for Proxy {
    fn id(&self) -> &'static str {
        "proxy"
    }

    fn what(&self) -> &'static str {
        "Proxy"
    }

    async fn look(&self, place: &Place) -> Finding {
        let Some(hub) = place.hub() else { return Finding::skipped("there is no hub to reach") };
        let next = match tether::next_hop(hub, place.config.proxy.as_deref()) {
            Ok(next) if !next.is_proxy => return Finding::good("none; the hub is reached directly"),
            Ok(next) => next,
            Err(problem) => return Finding::bad(problem.message, problem.code.remedy),
        };
        // The agent's environment is the unit's, not the one that this runs in.
        let saw = format!("{}:{}", next.host, next.port);
        if place.config.proxy.is_none() {
            return Finding::warning(
                format!("{saw}, from this shell's environment"),
                "The service does not see it: name it as `proxy` in agent.toml",
            );
        }
        Finding::good(saw)
    }
}
