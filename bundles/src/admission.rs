//! One way in for a bundle, whether it comes as a file or blob by blob over the tether.
//!
//! [`Admission::open`] verifies the documents; from then on it says which blob is next, checks each as its
//! bytes pass, and in the end gives what was admitted and what may be remembered. It does no I/O and never holds
//! more than one manifest's bytes. States follow each other by type: no blob without verified documents, no
//! [`Admitted`] without every blob.

use sha2::{Digest as _, Sha256};

use crate::codes::{self, Code, Coded};
use crate::digest::Digest;
use crate::json::MAX_SIZE;
use crate::layout::{self, Blob, Compression, Content, Expected, Fault};
use crate::roles::Release;
use crate::unpack::{LayerCheck, UnpackError};
use crate::verify::{self, Context, Document, Documents, Refusal, Trust, Verified};

/// Why a bundle was not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Its signed documents were refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its layout breaks a rule.
    #[error(transparent)]
    Layout(#[from] Fault),
    /// A blob is not what its name says.
    #[error("{kind} {wanted}: its content has digest {found}", kind = .blob.kind.name(), wanted = .blob.digest)]
    BlobDigest {
        /// What was expected.
        blob: Box<Blob>,
        /// What came.
        found: Digest,
    },
    /// A blob is longer or shorter than listed.
    #[error("{kind} {digest}: {found} bytes where {wanted} were listed", kind = .blob.kind.name(), digest = .blob.digest, wanted = .blob.size)]
    BlobSize {
        /// What was expected.
        blob: Box<Blob>,
        /// Bytes that came, at least.
        found: u64,
    },
    /// A compressed layer does not unpack as it should.
    #[error("layer {digest} {reason}")]
    Unpack {
        /// Which.
        digest: Digest,
        /// Why.
        reason: UnpackError,
    },
    /// A blob was handed in that is not the next one.
    #[error("{found} was handed in where {wanted:?} is next")]
    OutOfOrder {
        /// What is next.
        wanted: Option<Digest>,
        /// What was handed in.
        found: Digest,
    },
}

impl Coded for AdmissionError {
    fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Layout(fault) => fault.code(),
            Self::BlobDigest { .. } | Self::BlobSize { .. } => codes::CONTENT,
            Self::Unpack { .. } => codes::UNPACK,
            Self::OutOfOrder { .. } => codes::BLOBS,
        }
    }
}

/// A bundle whose documents are verified and whose blobs are coming.
#[derive(Debug)]
pub struct Admission {
    verified: Verified,
    docker: Vec<u8>,
    expected: Expected,
    /// What layers may still unpack to, of what was signed.
    unpack_budget: u64,
}

/// A bundle that has been verified whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The release, and what may be remembered of it.
    pub verified: Verified,
    /// What is in it.
    pub content: Content,
}

/// The check of one blob while its bytes pass. Made by [`Admission::begin`], spent by [`Admission::accept`].
#[derive(Debug)]
pub struct Intake {
    blob: Blob,
    hash: Sha256,
    count: u64,
    /// Bytes of metadata.
    bytes: Vec<u8>,
    layer: Option<LayerCheck>,
}

impl Intake {
    /// The blob that is checked.
    #[must_use]
    pub const fn blob(&self) -> &Blob {
        &self.blob
    }

    /// The blob is stored already and was unpacked then: comparing its bytes with its digest is enough.
    pub(crate) fn already_unpacked(&mut self) {
        self.layer = None;
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as it is known that the blob is not the right one.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), AdmissionError> {
        self.count = self.count.saturating_add(bytes.len() as u64);
        if self.count > self.blob.size {
            return Err(AdmissionError::BlobSize { blob: Box::new(self.blob.clone()), found: self.count });
        }
        self.hash.update(bytes);
        if self.blob.kind.is_metadata() {
            self.bytes.extend_from_slice(bytes);
        }
        if let Some(layer) = &mut self.layer {
            let digest = self.blob.digest;
            layer.write(bytes).map_err(|reason| AdmissionError::Unpack { digest, reason })?;
        }
        Ok(())
    }
}

impl Admission {
    /// Verifies the documents.
    ///
    /// # Errors
    /// A [`Refusal`] or a [`Fault`]; nothing may be stored then.
    pub fn open(documents: &Documents, trust: &Trust, context: &Context<'_>) -> Result<Self, AdmissionError> {
        bounded(documents)?;
        let roots = verify::roots(trust, &documents.roots)?;
        let verified = verify::release(trust, context, &roots, documents)?;
        Self::enter(documents, verified)
    }

    fn enter(documents: &Documents, verified: Verified) -> Result<Self, AdmissionError> {
        if documents.oci_layout != layout::OCI_LAYOUT {
            let reason = "not an OCI image layout of version 1.0.0, or spelt otherwise".into();
            return Err(Fault::Malformed { what: "oci-layout".into(), reason }.into());
        }
        let mut expected = Expected::new(&documents.index, verified.release.content_bytes)?;
        let mut unpack_budget = verified.release.unpacked_bytes;
        if let Some(delta) = &verified.delta {
            expected = expected.with_delta(delta);
            let left_out = delta.left_out.iter().map(|one| one.unpacked);
            let mut unpacked = left_out.chain(delta.patches.iter().map(|one| one.unpacked));
            let rest = unpacked.try_fold(unpack_budget, u64::checked_sub);
            let over =
                || Fault::Delta(format!("it unpacks to more than the {unpack_budget} bytes signed for"));
            unpack_budget = rest.ok_or_else(over)?;
        }
        Ok(Self { verified, docker: documents.manifest.clone(), expected, unpack_budget })
    }

    /// The same walk with documents whose signatures nobody has checked: for showing what is in a bundle.
    #[cfg(feature = "build")]
    pub(crate) fn unverified(documents: &Documents, verified: Verified) -> Result<Self, AdmissionError> {
        bounded(documents)?;
        Self::enter(documents, verified)
    }

    /// What the documents say, and what is left out.
    #[must_use]
    pub const fn verified(&self) -> &Verified {
        &self.verified
    }

    /// The blob that must come next; `None` when all have come.
    #[must_use]
    pub fn next_needed(&self) -> Option<&Blob> {
        self.expected.next()
    }

    /// Every blob that is known to be needed still, in order. Complete once no metadata is among them.
    pub fn remaining(&self) -> impl Iterator<Item = &Blob> {
        self.expected.remaining()
    }

    /// What is known of a digest, whether it has come or not.
    #[must_use]
    pub fn listed(&self, digest: &Digest) -> Option<&Blob> {
        self.expected.listed(digest)
    }

    /// Begins the check of the next blob; `None` when all have come.
    ///
    /// # Errors
    /// [`AdmissionError::Unpack`] when no decoder could be made.
    pub fn begin(&self) -> Result<Option<Intake>, AdmissionError> {
        let Some(blob) = self.expected.next().cloned() else { return Ok(None) };
        let layer = match blob.layer {
            // A plain layer's digest is its DiffID: hashing it once is enough.
            None | Some((Compression::None, _)) => None,
            Some((compression, diff_id)) => {
                let check = LayerCheck::new(compression, diff_id, self.unpack_budget);
                Some(check.map_err(|reason| AdmissionError::Unpack { digest: blob.digest, reason })?)
            }
        };
        Ok(Some(Intake { blob, hash: Sha256::new(), count: 0, bytes: Vec::new(), layer }))
    }

    /// Ends the check of the next blob and takes it.
    ///
    /// # Errors
    /// When it is not what was listed; the caller drops what it has stored of it.
    pub fn accept(&mut self, intake: Intake) -> Result<(), AdmissionError> {
        self.in_order(intake.blob.digest)?;
        if intake.count != intake.blob.size {
            return Err(AdmissionError::BlobSize { blob: Box::new(intake.blob), found: intake.count });
        }
        let found = Digest::from_bytes(intake.hash.finalize().into());
        if found != intake.blob.digest {
            return Err(AdmissionError::BlobDigest { blob: Box::new(intake.blob), found });
        }
        if intake.blob.kind == layout::Kind::Layer {
            let digest = intake.blob.digest;
            let unpacked = match intake.layer {
                Some(check) => check.finish(),
                None if intake.count > self.unpack_budget => Err(UnpackError::Bomb(self.unpack_budget)),
                None => Ok(intake.count),
            };
            let unpacked = unpacked.map_err(|reason| AdmissionError::Unpack { digest, reason })?;
            self.unpack_budget = self.unpack_budget.saturating_sub(unpacked);
        }
        Ok(self.expected.take(&intake.bytes)?)
    }

    /// Takes the next blob, whole and in memory: [`begin`](Self::begin), write and [`accept`](Self::accept) in one.
    ///
    /// # Errors
    /// As those.
    pub fn accept_bytes(&mut self, digest: &Digest, bytes: &[u8]) -> Result<(), AdmissionError> {
        self.in_order(*digest)?;
        let Some(mut intake) = self.begin()? else { return Ok(()) };
        intake.write(bytes)?;
        self.accept(intake)
    }

    /// Takes the next blob, a file or a layer, on the word of the caller, who verified it when it stored it.
    ///
    /// # Errors
    /// [`AdmissionError::OutOfOrder`] when it is not the next one or is metadata, which has to be read.
    pub fn accept_present(&mut self, digest: &Digest) -> Result<(), AdmissionError> {
        self.in_order(*digest)?;
        if self.expected.next().is_some_and(|blob| blob.kind.is_metadata()) {
            return Err(AdmissionError::OutOfOrder { wanted: Some(*digest), found: *digest });
        }
        Ok(self.expected.take(&[])?)
    }

    /// Ends the admission.
    ///
    /// # Errors
    /// [`Fault::Missing`] when blobs have not come, or one that only the whole shows.
    pub fn finish(self) -> Result<Admitted, AdmissionError> {
        let content = self.expected.finish(&self.docker)?;
        fitting(&self.verified.release, &content)?;
        Ok(Admitted { verified: self.verified, content })
    }

    /// Everything that the bundle holds, as soon as nothing but layers is still to come; `None` before that. What the
    /// whole shows has been checked then, but for the sum of its sizes: an archive may hold what nothing lists.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn listing(&self) -> Result<Option<Content>, AdmissionError> {
        if !self.expected.is_listed() {
            return Ok(None);
        }
        let content = self.expected.whole(&self.docker)?;
        fitting(&self.verified.release, &content)?;
        Ok(Some(content))
    }

    fn in_order(&self, found: Digest) -> Result<(), AdmissionError> {
        let wanted = self.expected.next().map(|blob| blob.digest);
        if wanted == Some(found) { Ok(()) } else { Err(AdmissionError::OutOfOrder { wanted, found }) }
    }
}

/// The release names the product that is in the bundle.
fn fitting(release: &Release, content: &Content) -> Result<(), Fault> {
    let product = &content.product;
    if (&release.product, &release.version) == (&product.product, &product.version) {
        return Ok(());
    }
    let reason = format!(
        "it says {} {}, the release {} {}",
        product.product, product.version, release.product, release.version
    );
    Err(Fault::Product(reason))
}

/// No document is looked at before its size is.
fn bounded(documents: &Documents) -> Result<(), Refusal> {
    let roots = documents.roots.iter().map(|root| (Document::Root, root));
    let others = [
        (Document::Release, &documents.release),
        (Document::OciLayout, &documents.oci_layout),
        (Document::Index, &documents.index),
        (Document::Manifest, &documents.manifest),
    ];
    let delta = documents.delta.iter().map(|delta| (Document::Delta, delta));
    for (document, bytes) in roots.chain(others).chain(delta) {
        if bytes.len() > MAX_SIZE {
            let reason = format!("{} bytes are more than the {MAX_SIZE} allowed", bytes.len());
            return Err(Refusal::Malformed { document, reason });
        }
    }
    Ok(())
}
