//! The bundle's file: written whole or not at all, signed later, looked into.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::BuildError;
use crate::assemble::write_documents;
use crate::codes::{self, Code, Coded};
use crate::delta::Delta;
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::layout::Content;
use crate::reader::{self, Discard, Error, Imported};
use crate::roles::{Release, Role, Root};
use crate::sign::{self, SignError, Signer};
use crate::verify::{Documents, Refusal};

/// A file in the making: written beside its place, and moved there when it is complete and on the disk. Dropped before,
/// it leaves nothing.
pub(super) struct Beside {
    out: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Beside {
    pub(super) fn create(path: &Path) -> Result<Self, BuildError> {
        let place = path.parent().filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        let temporary =
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).tempfile_in(place);
        let out = BufWriter::with_capacity(1 << 20, temporary.map_err(BuildError::file(path))?);
        Ok(Self { out, path: path.into() })
    }

    /// Gives the file its name.
    pub(super) fn persist(self) -> Result<(), BuildError> {
        let Self { out, path } = self;
        let attempt = || -> io::Result<()> {
            let temporary = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            temporary.as_file().sync_all()?;
            temporary.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        attempt().map_err(BuildError::file(&path))
    }
}

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A folder beside the output, for what has to be stored on the way; it goes when it is dropped.
pub(super) fn staging(output: &Path) -> Result<tempfile::TempDir, BuildError> {
    let place = output.parent().filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempdir_in(place).map_err(BuildError::file(place))
}

/// Writes a file whole or not at all.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), BuildError> {
    let mut out = Beside::create(path)?;
    write(&mut out).map_err(BuildError::file(path))?;
    out.persist()
}

/// Why a bundle was not signed or could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Opening or writing the file.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Reading the archive.
    #[error(transparent)]
    Read(#[from] Error<std::convert::Infallible>),
    /// A bundle that nothing can be built on, or with.
    #[error("{path} {reason}", path = .path.display())]
    Base {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Signing.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A document inside.
    #[error(transparent)]
    Document(#[from] Refusal),
}

impl Coded for BundleError {
    fn code(&self) -> Code {
        match self {
            Self::Build(error) => error.code(),
            Self::Read(error) => error.code(),
            Self::Base { .. } => codes::DELTA_INPUT,
            Self::Sign(error) => error.code(),
            Self::Document(refusal) => refusal.code(),
        }
    }
}

/// Adds the signer's signature to the release of a bundle and to the list of what a thin one leaves out, or renews it, and writes the result to `output`, which may be
/// the same file. The release's own bytes, and so its digest, stay what they were.
///
/// # Errors
/// [`BundleError`]; `output` is then as it was.
pub fn sign_bundle(input: &Path, output: &Path, signer: &dyn Signer) -> Result<(), BundleError> {
    let mut file = File::open(input).map_err(BuildError::file(input))?;
    let documents = reader::documents(BufReader::new(&file))?;
    // Documents have one spelling, so writing them again says where the blobs begin.
    let mut head = Vec::new();
    write_documents(&mut head, &documents).map_err(BuildError::file(input))?;
    let release = sign::add_to(Role::Release, &documents.release, signer)?;
    let delta = documents.delta.as_deref().map(|delta| sign::add_to_delta(delta, signer)).transpose()?;
    let signed = Documents { release, delta, ..documents };
    file.seek(SeekFrom::Start(head.len() as u64)).map_err(BuildError::file(input))?;
    replace(output, |out| {
        write_documents(out, &signed)?;
        io::copy(&mut file, out).map(drop)
    })?;
    Ok(())
}

/// What a bundle says of itself. Digests were checked, signatures and dates were not: say so wherever it is shown.
#[derive(Debug)]
pub struct Inspection {
    /// The release.
    pub release: Release,
    /// The release's digest.
    pub digest: Digest,
    /// Key IDs of the signatures on the release.
    pub signatures: Vec<String>,
    /// The last root of the chain.
    pub root: Root,
    /// Fingerprints of the chain, version 1 first.
    pub fingerprints: Vec<Digest>,
    /// What is in it, come or left out.
    pub content: Content,
    /// What a thin bundle leaves out.
    pub delta: Option<Delta>,
}

/// Looks into a bundle without trusting or distrusting it.
///
/// # Errors
/// [`BundleError`] when it is damaged.
pub fn inspect(path: &Path) -> Result<Inspection, BundleError> {
    let file = File::open(path).map_err(BuildError::file(path))?;
    let Imported { documents, admitted } =
        reader::inspect(BufReader::with_capacity(1 << 20, file), &mut Discard)?;
    let open = |role: Role, bytes: &[u8]| {
        Envelope::parse(bytes)
            .map_err(|error| Refusal::Malformed { document: role.into(), reason: error.to_string() })
    };
    let release = open(Role::Release, &documents.release)?;
    let roots = documents.roots.iter().map(|bytes| open(Role::Root, bytes)).collect::<Result<Vec<_>, _>>()?;
    Ok(Inspection {
        digest: admitted.verified.digest,
        delta: admitted.verified.delta,
        signatures: release.signatures.into_iter().map(|one| one.keyid).collect(),
        release: admitted.verified.release,
        root: admitted.verified.root,
        fingerprints: roots.iter().map(|root| Digest::of(&root.payload)).collect(),
        content: admitted.content,
    })
}
