//! A bundle out of a registry: its documents, then each blob in the order of the archive, verified as it passes by the same
//! [`Admission`] as on a host. The registry chooses nothing: what is not signed is refused, and the file gets its name
//! only when all of it is.

use std::io::Write as _;
use std::path::Path;

use futures_util::StreamExt as _;

use super::artifact::{self, is_manifest};
use super::reader::Reader;
use super::{Credentials, Fault as _, Patience, Place, RegistryError, failed, is_loopback, patiently};
use crate::admission::{Admission, Admitted, Intake};
use crate::build::output::Beside;
use crate::build::pack::Hashing;
use crate::build::{BuildError, Progress};
use crate::digest::Digest;
use crate::layout::blob_path;
use crate::reader;
use crate::tar::{self, BLOCK};
use crate::verify::{Context, Documents, Trust};

/// A bundle in a registry, whose documents have been read and nothing of which has been verified.
pub struct Remote {
    connection: Connection,
    digest: Digest,
    head: Vec<u8>,
    documents: Documents,
}

/// A bundle that was pulled and verified.
#[derive(Debug)]
pub struct Pulled {
    /// What it is.
    pub admitted: Admitted,
    /// Digest of the index that the tag pointed to.
    pub index: Digest,
    /// Digest of the file.
    pub file: Digest,
    /// Bytes of the file.
    pub bytes: u64,
}

impl Remote {
    /// Reads the documents of the bundle at `place`.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn open(place: &Place, credentials: &Credentials) -> Result<Self, RegistryError> {
        let connection = Connection::open(place, credentials).await?;
        let not_a_bundle = |reason| RegistryError::NotABundle { place: place.to_string(), reason };
        let name = place.0.digest().or(place.0.tag()).unwrap_or_default();
        let index = manifest(&connection, name).await?;
        let listing = artifact::documents_of(&index).map_err(not_a_bundle)?;
        let listing = manifest(&connection, &listing.digest.to_string()).await?;
        let mut documents = Vec::new();
        for (name, one) in artifact::listed(&listing).map_err(not_a_bundle)? {
            let mut bytes = Vec::new();
            let fetched = Fetch { connection: &connection, digest: one.digest, size: one.size };
            fetched
                .run(&mut |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                })
                .await?;
            if Digest::of(&bytes) != one.digest {
                return Err(not_a_bundle(format!("{name:.80} is not what its digest says")));
            }
            documents.push((name, bytes));
        }
        let head = artifact::join(&documents);
        // The archive's own reader says whether these are all documents, in their order.
        let documents =
            reader::documents(head.as_slice()).map_err(|error| not_a_bundle(error.to_string()))?;
        Ok(Self { connection, digest: Digest::of(&index), head, documents })
    }

    /// The documents, unverified.
    #[must_use]
    pub const fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Pulls all of it into the file `output`.
    ///
    /// # Errors
    /// [`RegistryError`]; there is then no file, and one that was there is as it was.
    pub async fn pull(
        self,
        output: &Path,
        trust: &Trust,
        context: &Context<'_>,
        progress: &dyn Progress,
    ) -> Result<Pulled, RegistryError> {
        let mut admission = Admission::open(&self.documents, trust, context)?;
        progress.begin("pulling blobs", Some(admission.verified().release.content_bytes));
        let mut out = Hashing::new(Beside::create(output)?);
        let failed = || BuildError::file(output);
        out.write_all(&self.head).map_err(failed())?;
        while let Some(mut intake) = admission.begin()? {
            let blob = intake.blob().clone();
            out.write_all(&tar::header(&blob_path(&blob.digest), blob.size)).map_err(failed())?;
            let mut take = |piece: &[u8], intake: &mut Intake| -> Result<(), RegistryError> {
                intake.write(piece)?;
                out.write_all(piece).map_err(failed())?;
                progress.advance(piece.len() as u64);
                Ok(())
            };
            if is_manifest(blob.kind)
                && let Some(bytes) = self.manifest_if_there(&blob.digest).await?
            {
                take(&bytes, &mut intake)?;
            } else {
                let fetch = Fetch { connection: &self.connection, digest: blob.digest, size: blob.size };
                fetch.run(&mut |piece| take(piece, &mut intake)).await?;
            }
            admission.accept(intake)?;
            out.write_all(&[0; BLOCK][..tar::padding(blob.size)]).map_err(failed())?;
        }
        let admitted = admission.finish()?;
        out.write_all(&[0; 2 * BLOCK]).map_err(failed())?;
        let (out, file, bytes) = out.finish();
        out.persist()?;
        progress.end();
        Ok(Pulled { admitted, index: self.digest, file, bytes })
    }

    /// A manifest, which in a delta may be a mere blob.
    async fn manifest_if_there(&self, digest: &Digest) -> Result<Option<Vec<u8>>, RegistryError> {
        let Connection { registry, reader } = &self.connection;
        let name = digest.to_string();
        let ask = async || match reader.manifest(&name).await {
            Err(error) if error.status() == Some(404) => Ok(None),
            other => other.map(Some),
        };
        patiently(registry, &format!("getting the manifest {name}"), ask).await
    }
}

/// A registry to which we are logged in, and a repository there.
struct Connection {
    registry: String,
    reader: Reader,
}

impl Connection {
    async fn open(place: &Place, credentials: &Credentials) -> Result<Self, RegistryError> {
        let registry = place.0.resolve_registry().to_owned();
        let login = credentials.for_registry(place.registry()).await;
        let login = login.map_err(|reason| RegistryError::Login { registry: registry.clone(), reason })?;
        let what = "logging in";
        let reader = Reader::new(&place.0, is_loopback(&registry), login);
        let reader = reader.map_err(|error| failed(&registry, what, &error))?;
        patiently(&registry, what, async || reader.log_in().await).await?;
        Ok(Self { registry, reader })
    }
}

/// A manifest by tag or digest; what has a digest is what it says.
async fn manifest(connection: &Connection, name: &str) -> Result<Vec<u8>, RegistryError> {
    let Connection { registry, reader } = connection;
    let what = format!("getting the manifest {name}");
    let bytes = patiently(registry, &what, async || reader.manifest(name).await).await?;
    if name.contains(':') && Digest::of(&bytes).to_string() != name {
        let (registry, reason) = (registry.clone(), "it gave another one".into());
        return Err(RegistryError::Registry { registry, what, reason });
    }
    Ok(bytes)
}

/// One blob on its way here.
struct Fetch<'a> {
    connection: &'a Connection,
    digest: Digest,
    size: u64,
}

impl Fetch<'_> {
    /// Hands over the bytes as they come. A connection that breaks is taken up again where it broke. Whether they are the
    /// right ones is for the caller to say; more than `size` never come.
    async fn run(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let Self { connection, digest, size } = self;
        let name = digest.to_string();
        let what = format!("getting {name}");
        let mut have = 0;
        let mut patience = Patience::default();
        while have < *size {
            let before = have;
            let (mut stream, mut skip) = match connection.reader.blob(&name, have).await {
                Ok((true, stream)) => (stream, 0),
                Ok((false, stream)) => (stream, have),
                Err(error) if error.passes() && patience.wait().await => continue,
                // The rest of a blob that ends here does not exist.
                Err(_) if have > 0 => return Err(self.cut(have)),
                Err(error) => return Err(failed(&connection.registry, &what, &error)),
            };
            while have < *size
                && let Some(Ok(piece)) = stream.next().await
            {
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
                skip -= skipped as u64;
                let wanted = usize::try_from(*size - have).unwrap_or(usize::MAX);
                let piece = &piece[skipped..];
                let piece = &piece[..piece.len().min(wanted)];
                take(piece)?;
                have += piece.len() as u64;
            }
            if have < *size && have == before && !patience.wait().await {
                return Err(self.cut(have));
            }
        }
        Ok(())
    }

    fn cut(&self, have: u64) -> RegistryError {
        RegistryError::Registry {
            registry: self.connection.registry.clone(),
            what: format!("getting {}", self.digest),
            reason: format!("it ends after {have} of {} bytes", self.size),
        }
    }
}
