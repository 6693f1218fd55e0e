//! Whether the kernel has what containers need.

use async_trait::async_trait;

use super::{Check, Finding, Place};

/// That of the oldest distributions that the programs run on.
const OLDEST: (u32, u32) = (4, 18);

/// The check.
pub(super) struct Kernel;

#[async_trait]
impl Check for Kernel {
    fn id(&self) -> &'static str {
        "kernel"
    }

    fn what(&self) -> &'static str {
        "Kernel"
    }

    async fn look(&self, place: &Place) -> Finding {
        let Some(release) = place.read("/proc/sys/kernel/osrelease") else {
            return Finding::skipped("/proc does not tell");
        };
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version < OLDEST {
            return Finding::warning(
                release,
                format!("Nothing older than {}.{} is tested: upgrade the distribution", OLDEST.0, OLDEST.1),
            );
        }
        // Docker switches it on when it starts; a rule of the host that switches it off again cuts off every container.
        if place.read("/proc/sys/net/ipv4/ip_forward").as_deref() == Some("0") && place.info().await.is_ok() {
            return Finding::bad(
                format!("{release}, and forwarding between networks is off"),
                "Containers reach nobody. Set net.ipv4.ip_forward=1 in /etc/sysctl.d, and run sysctl --system",
            );
        }
        Finding::good(release)
    }
}
