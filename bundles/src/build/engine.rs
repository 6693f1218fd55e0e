//! Images that the local engine has, as `docker save` gives them.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::{Options, Progress, archive};
use crate::assemble::ImageInput;

/// Saving a large image can keep silent for long while the engine puts it together.
const TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) async fn export(
    reference: &str,
    name: &str,
    options: &Options,
    staging: &Path,
    progress: &dyn Progress,
) -> Result<ImageInput, String> {
    let socket = options.engine_socket.display().to_string();
    let unreachable = |error: bollard::errors::Error| {
        format!(
            "the engine at {socket} does not answer: {error}; start Docker, or name another source in x-kedge.images"
        )
    };
    let engine = bollard::Docker::connect_with_unix(&socket, TIMEOUT.as_secs(), bollard::API_DEFAULT_VERSION)
        .map_err(unreachable)?
        .negotiate_version()
        .await
        .map_err(unreachable)?;
    let found = engine.inspect_image(name).await.map_err(|error| match error {
        bollard::errors::Error::DockerResponseServerError { status_code: 404, .. } => {
            format!("the engine does not have {name}; pull or build it first, or name another source in x-kedge.images")
        }
        other => other.to_string(),
    })?;
    let id = found.id.ok_or("the engine gives it no ID")?;
    let failed = |error: std::io::Error| format!("{}: {error}", staging.display());
    let (file, path) = tempfile::NamedTempFile::new_in(staging)
        .map_err(failed)?
        .keep()
        .map_err(|error| failed(error.error))?;
    let mut out = tokio::fs::File::from_std(file);
    progress.begin(&format!("saving {name}"), found.size.and_then(|size| u64::try_from(size).ok()));
    // By ID: the name may be moved to another image while this runs.
    let mut stream = std::pin::pin!(engine.export_image(&id));
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| format!("the engine stopped saving it: {error}"))?;
        out.write_all(&piece).await.map_err(failed)?;
        progress.advance(piece.len() as u64);
    }
    out.flush().await.map_err(failed)?;
    progress.end();
    archive::docker(reference, &path, None, progress)
}
