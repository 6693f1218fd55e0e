//! Whether the hub can be reached, and whose certificate it shows.

use async_trait::async_trait;

use super::{Check, Finding, Place};
use crate::tether;

/// The check.
pub(super) struct Hub;

#[async_trait]
impl Check for Hub {
    fn id(&self) -> &'static str {
        "hub"
    }

    fn what(&self) -> &'static str {
        "Hub"
    }

    async fn look(&self, place: &Place) -> Finding {
        let Some(hub) = place.hub() else {
            return Finding::skipped("this host has none, and takes bundles from files");
        };
        let line = place.status.as_ref().and_then(|status| status.tether.as_ref());
        if line.is_some_and(|line| line.connected && line.hub == hub) {
            return Finding::good(format!("the agent is connected with {hub}"));
        }
        // Nothing is said to it, so it does not have to be trusted here; whom the agent trusts, enrolment decides.
        match tether::look(hub, place.config.proxy.as_deref(), place.now).await {
            Ok(seen) if seen.valid => Finding::good(format!("{hub} shows a certificate for {}", seen.names)),
            Ok(seen) => Finding::bad(
                format!(
                    "{hub} shows a certificate for {} that is valid from {} to {}",
                    seen.names, seen.from, seen.to
                ),
                "Set this host's clock if it is wrong; else tell the vendor",
            ),
            Err(problem) => Finding::bad(problem.message, problem.code.remedy),
        }
    }
}
