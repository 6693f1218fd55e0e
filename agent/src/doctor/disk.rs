//! Whether there is room for releases and for what the engine unpacks of them.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{Check, Finding, Place};
use crate::engine::ImageStore;
use crate::engine::types::CONTAINERD;
use crate::images::room;

/// Room for a release of a middling size beside what must stay free, bytes.
const COMFORT: u64 = 2 << 30;

/// The check.
pub(super) struct Disk;

#[async_trait]
impl Check for Disk {
    fn id(&self) -> &'static str {
        "disk"
    }

    fn what(&self) -> &'static str {
        "Free disk"
    }

    async fn look(&self, place: &Place) -> Finding {
        let folders = folders(place).await;
        let free = |folder: &PathBuf| existing(folder).map(|there| (room::usage(there).0, folder.clone()));
        let Some((free, folder)) = folders.iter().filter_map(free).min() else {
            return Finding::skipped("no folder could be looked at");
        };
        let saw = format!("{} MiB free for {}", free >> 20, folder.display());
        let reserve = place.config.limits.reserve_bytes;
        if free <= reserve {
            return Finding::bad(saw, format!("Free space there: {} MiB always stay free", reserve >> 20));
        }
        if free < reserve.saturating_add(COMFORT) {
            return Finding::warning(
                saw,
                "A large release may not fit: free space there, or give it a larger disk",
            );
        }
        Finding::good(saw)
    }
}

/// The state's, the engine's, and containerd's where that keeps the images.
pub(super) async fn folders(place: &Place) -> Vec<PathBuf> {
    let mut folders = vec![place.config.state_dir.clone()];
    if let Ok(info) = place.info().await {
        folders.push(PathBuf::from(&info.root_dir));
        let containerd = place.path(CONTAINERD);
        if info.store == ImageStore::Containerd && containerd.is_dir() {
            folders.push(containerd);
        }
    }
    folders
}

/// The folder, or the first above it that is there.
fn existing(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|path| path.exists())
}
