//! Building a bundle: a folder with a compose file in, one file out.
//!
//! | module | does |
//! |---|---|
//! | `project` | the compose file, its `x-kedge` section, and the files that belong to it |
//! | `images` | where each image comes from |
//! | `archive`, `engine`, `registry`, `pack` | the sources: archives of `docker save` and OCI, the local engine, a registry, folders and binaries |
//! | `registry` | also: whole bundles to and from a registry |
//! | `sbom` | what a bundle is made of, as SPDX or CycloneDX |
//! | `output` | the file: written beside its place and moved there when complete; signing and looking into it later |
//! | `opened` | a bundle's file, and where each blob lies in it |
//! | `thin` | what an update costs, and the bundle that carries no more than that |
//!
//! The same input gives the same bytes: times, owners and orders come from nowhere but the input. Images are read in place
//! (parts of archives, downloads in one temporary folder beside the output), so building needs the size of the images once.

mod archive;
mod engine;
mod images;
mod opened;
mod output;
mod pack;
mod project;
mod registry;
mod sbom;
#[cfg(test)]
mod tests;
mod thin;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::assemble::{Terms, assemble};
use crate::codes::{self, Code, Coded};
use crate::layout::{Content, Fault, Platform};
use crate::roles::Release;
use crate::sign::{self, SignError, Signer};

pub use images::ImageSource;
pub use output::{BundleError, Inspection, inspect, sign_bundle};
pub use registry::{Credentials, Place, Pulled, Push, Pushed, RegistryError, Remote, push};
pub use sbom::{Bill, BillError, BillFormat};
pub use thin::{Costs, How, LayerCost, Thin, ThinOutput, build_thin, diff, thin};

/// Hears how far long work has come. Calls come in the order begin, advance…, end.
pub trait Progress: Send + Sync {
    /// Work begins; `total` in bytes where it is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// It is done.
    fn end(&self);
}

/// Progress that nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project's folder.
    pub dir: PathBuf,
    /// Compose files relative to it; empty looks for the usual names.
    pub compose: Vec<String>,
    /// Wins over the version in `x-kedge`.
    pub version: Option<String>,
    /// Image sources by reference; win over those in `x-kedge`.
    pub images: BTreeMap<String, String>,
    /// Which of a multi-platform image's platforms.
    pub platform: Platform,
    /// For registries.
    pub credentials: Credentials,
    /// Registries that are spoken to without TLS, as `host:port`.
    pub insecure_registries: Vec<String>,
    /// The engine's socket.
    pub engine_socket: PathBuf,
    /// Stream, numbers, audience and dates.
    pub terms: Terms,
    /// The chain of root envelopes.
    pub roots: Vec<Vec<u8>>,
}

/// The platform that this binary was built for, as OCI spells it.
#[must_use]
pub fn host_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { architecture: architecture.into(), os: "linux".into(), variant: None }
}

/// A bundle that was built.
#[derive(Debug)]
pub struct Built {
    /// What its release says.
    pub release: Release,
    /// What is in it.
    pub content: Content,
    /// What is worth knowing and stopped nothing.
    pub warnings: Vec<String>,
}

/// Why no bundle was built. Nothing is left at the output's place.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The compose files, with places.
    #[error("{0}")]
    Compose(#[from] kedge_compose::Errors),
    /// The project's folder.
    #[error("{0}")]
    Folder(String),
    /// The `x-kedge` section.
    #[error("x-kedge: {0}")]
    Declaration(String),
    /// An image.
    #[error("image {reference}: {reason}")]
    Image {
        /// As the compose file refers to it.
        reference: String,
        /// Why it could not be had.
        reason: String,
    },
    /// A file.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was put together breaks a rule of the layout.
    #[error(transparent)]
    Layout(#[from] Fault),
    /// The release could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Coded for BuildError {
    fn code(&self) -> Code {
        match self {
            Self::Compose(errors) => {
                let kedge_compose::codes::Code { id, exit, retry, cause, remedy } = *errors.code();
                Code { id, exit, retry, cause, remedy }
            }
            Self::Folder(_) => codes::PROJECT,
            Self::Declaration(_) => codes::PRODUCT_DOCUMENT,
            Self::Image { .. } => codes::IMAGE,
            Self::File { .. } => codes::OUTPUT,
            Self::Layout(fault) => fault.code(),
            Self::Sign(error) => error.code(),
        }
    }
}

impl BuildError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}

/// Builds a bundle into the file `output`. Without signers it is complete but unsigned, for [`sign_bundle`].
///
/// # Errors
/// [`BuildError`].
pub async fn build(
    options: &Options,
    output: &Path,
    signers: &[&dyn Signer],
    progress: &dyn Progress,
) -> Result<Built, BuildError> {
    let project = project::load(options)?;
    let staging = output::staging(output)?;
    let mut inputs = Vec::new();
    for (reference, source) in &project.images {
        let source = ImageSource::parse(source, reference, &options.dir)
            .map_err(|reason| BuildError::Image { reference: reference.clone(), reason })?;
        let input = images::fetch(reference, &source, options, staging.path(), progress)
            .await
            .map_err(|reason| BuildError::Image { reference: reference.clone(), reason })?;
        inputs.push(input);
    }
    let draft = assemble(&project.product, project.files, inputs)?;
    let release = draft.release(options.terms.clone(), &options.roots);
    let envelope = sign::release(&release, signers)?;
    progress.begin("writing the bundle", Some(draft.content_bytes));
    output::replace(output, |out| {
        draft.write(out, &options.roots, &envelope, &mut |bytes| progress.advance(bytes))
    })?;
    progress.end();
    Ok(Built { release, content: draft.content, warnings: project.warnings })
}
