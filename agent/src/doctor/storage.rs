//! How the engine keeps images and layers.

use async_trait::async_trait;

use super::{Check, Finding, Place};
use crate::engine::ImageStore;

/// The check.
pub(super) struct Storage;

#[async_trait]
impl Check for Storage {
    fn id(&self) -> &'static str {
        "storage"
    }

    fn what(&self) -> &'static str {
        "Docker's storage"
    }

    async fn look(&self, place: &Place) -> Finding {
        let Ok(info) = place.info().await else { return Finding::skipped("the engine does not answer") };
        let store = match info.store {
            ImageStore::Classic => "",
            ImageStore::Containerd => ", images in containerd's store",
        };
        let saw = format!("{}{store}, in {}", info.storage_driver, info.root_dir);
        match info.storage_driver.as_str() {
            "vfs" => Finding::warning(
                saw,
                "vfs copies every layer whole. Use overlay2: it needs ext4, or xfs made with ftype=1, below Docker's folder",
            ),
            "aufs" | "devicemapper" | "overlay" => Finding::warning(
                saw,
                "Newer Docker releases no longer have this driver: move to overlay2 before upgrading",
            ),
            _ => Finding::good(saw),
        }
    }
}
