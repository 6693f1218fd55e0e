//! Whether the hub's name, or the proxy's in front of it, can be looked up.

use async_trait::async_trait;

use super::{Check, Finding, Place};
use crate::tether;

/// The check.
pub(super) struct Dns;

#[async_trait]
impl Check for Dns {
    fn id(&self) -> &'static str {
        "dns"
    }

    fn what(&self) -> &'static str {
        "Name of the hub"
    }

    async fn look(&self, place: &Place) -> Finding {
        let Some(hub) = place.hub() else {
            return Finding::skipped("there is no hub; --hub URL names one");
        };
        let next = match tether::next_hop(hub, place.config.proxy.as_deref()) {
            Ok(next) => next,
            Err(problem) => return Finding::bad(problem.message, problem.code.remedy),
        };
        match tokio::net::lookup_host((next.host.as_str(), next.port)).await {
            Ok(mut found) => match found.next() {
                Some(address) => Finding::good(format!("{} is {}", next.host, address.ip())),
                None => Finding::bad(format!("{} has no address", next.host), MEND),
            },
            Err(error) => Finding::bad(format!("{}: {error}", next.host), MEND),
        }
    }
}

const MEND: &str =
    "Set a name server that knows it (resolvectl status, /etc/resolv.conf), or add it to /etc/hosts";
