//! The licence as containers read it: the signed file itself, in a folder that is mounted read-only. A renewal replaces the
//! file; nothing is restarted for it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::problem::Problem;
use crate::store::{DeploymentRecord, LicenceRecord, state_folder, write_file};
use crate::world::World;

/// Name of the file in the folder.
const FILE: &str = "licence.json";

/// The folder that a deployment's containers see.
pub fn folder(deployment: &Path) -> PathBuf {
    deployment.join("licence")
}

/// Brings the folder of a deployment to what it should hold: the product's licence, or nothing yet. Blocks.
///
/// # Errors
/// When it cannot be written.
pub fn deliver(deployment: &Path, record: Option<&LicenceRecord>) -> Result<(), Problem> {
    let folder = folder(deployment);
    // Containers run as whoever they like: the folder is theirs to read.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder);
    made.map_err(|e| state_folder(&folder, &e))?;
    let file = folder.join(FILE);
    match record {
        Some(record) if std::fs::read(&file).ok().as_deref() != Some(record.file.as_bytes()) => {
            write_file(&file, record.file.as_bytes(), 0o644)
        }
        _ => Ok(()),
    }
}

/// The same for every deployment of the licence's product.
///
/// # Errors
/// When one cannot be written.
pub(super) async fn to_all(world: &World, record: &LicenceRecord) -> Result<(), Problem> {
    let deployments = world.store.scan::<DeploymentRecord>("")?;
    let folders: Vec<PathBuf> = deployments
        .iter()
        .filter(|deployment| deployment.product == record.product)
        .map(|deployment| world.deployment_folder(&deployment.name))
        .collect();
    let record = record.clone();
    let written = tokio::task::spawn_blocking(move || {
        folders.iter().try_for_each(|folder| deliver(folder, Some(&record)))
    });
    written
        .await
        .map_err(|e| Problem::from_error(&crate::codes::INTERNAL, &e).at("delivering the licence"))?
}
