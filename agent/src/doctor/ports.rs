//! Whether the ports that a stack wants are free.

use async_trait::async_trait;

use super::{Check, Finding, Place};
use crate::deploy::compile::PublishedPort;
use crate::deploy::ports::taken;
use crate::engine::Filter;

/// The check.
pub(super) struct Ports;

#[async_trait]
impl Check for Ports {
    fn id(&self) -> &'static str {
        "ports"
    }

    fn what(&self) -> &'static str {
        "Ports"
    }

    async fn look(&self, place: &Place) -> Finding {
        if place.ports.is_empty() {
            return Finding::skipped("none was named; --port NUMBER names one that a stack wants");
        }
        let wanted: Vec<PublishedPort> = place
            .ports
            .iter()
            .map(|port| PublishedPort {
                service: "the stack".to_owned(),
                host_ip: String::new(),
                port: *port,
                protocol: "tcp".to_owned(),
            })
            .collect();
        // What a deployment of ours holds is where it belongs.
        let containers = place.engine.list_containers(&Filter::default()).await.unwrap_or_default();
        let ours: Vec<_> = containers.iter().filter(|container| container.is_ours()).collect();
        let found = taken(&wanted, &ours);
        if found.is_empty() {
            return Finding::good("free, or ours already");
        }
        Finding::bad(
            found.join("; "),
            "Stop what uses it (`ss -ltnp` shows it), or choose another port with --set",
        )
    }
}
