//! Whether the engine answers and is new enough.

use async_trait::async_trait;

use super::{Check, Finding, Place};

/// The oldest that is tested.
const OLDEST: (u32, u32) = (20, 10);

/// The check.
pub(super) struct Version;

#[async_trait]
impl Check for Version {
    fn id(&self) -> &'static str {
        "engine"
    }

    fn what(&self) -> &'static str {
        "Docker Engine"
    }

    async fn look(&self, place: &Place) -> Finding {
        let info = match place.info().await {
            Ok(info) => info,
            Err(why) => {
                return Finding::bad(
                    why,
                    "Start Docker: systemctl start docker, and see journalctl -u docker",
                );
            }
        };
        let mut numbers = info.version.split('.').map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let saw = format!("version {}, API {}", info.version, info.api);
        if version < OLDEST {
            return Finding::bad(saw, format!("Install Docker Engine {}.{} or newer", OLDEST.0, OLDEST.1));
        }
        Finding::good(saw)
    }
}
