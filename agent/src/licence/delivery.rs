//! The licence as containers read it: the signed file itself, in a folder that is mounted read-only. A renewal replaces the
//! file; nothing is restarted for it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
/// When the store cannot be read or the folder cannot be written.
pub fn deliver(world: &World, deployment: &str, product: &str) -> Result<(), Problem> {
    // What is read and what is written belong together: two at once could leave the older one.
    let _alone = world.licensing.blocking_lock();
    write(&world.deployment_folder(deployment), world.store.get::<LicenceRecord>(product)?.as_ref())
}

pub(super) fn write(deployment: &Path, record: Option<&LicenceRecord>) -> Result<(), Problem> {
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

/// The same for every deployment of a product.
///
/// # Errors
/// When one cannot be written.
pub(super) async fn to_all(world: &Arc<World>, product: &str) -> Result<(), Problem> {
    let (world, product) = (Arc::clone(world), product.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let deployments = world.store.scan::<DeploymentRecord>("")?;
        let mut its = deployments.iter().filter(|deployment| deployment.product == product);
        its.try_for_each(|deployment| deliver(&world, &deployment.name, &product))
    });
    written
        .await
        .map_err(|e| Problem::from_error(&crate::codes::INTERNAL, &e).at("delivering the licence"))?
}
