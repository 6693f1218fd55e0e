//! Verified content on disk: blobs by digest, and the documents of releases.
//!
//! ```text
//! content/blobs/<hex>            a blob, complete and verified when it was stored
//! content/partial/<hex>          a blob in the making; kept across restarts for the tether to go on with
//! content/releases/<hex>/…       the documents of a release all of whose blobs were verified
//! ```
//!
//! A blob is written under `partial`, flushed, renamed, and the folder flushed: a name under `blobs` stands for
//! content that was verified. Disks change bits all the same: its size is compared before it is counted on, its digest
//! when it is read. Layers are let go once the engine holds them; everything else is small and stays as long as
//! its release is referred to.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kedge_bundle::digest::Digest;
use kedge_bundle::verify::Documents;

use crate::problem::Problem;
use crate::store::{state_folder, sync_folder};

/// The content store.
#[derive(Debug, Clone)]
pub struct Content {
    root: PathBuf,
}

/// A blob being written. Dropped before [`BlobWriter::finish`], its bytes stay under `partial`.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
    partial: PathBuf,
    done: PathBuf,
}

impl Content {
    /// Opens or creates the store below `root`.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub fn open(root: PathBuf) -> Result<Self, Problem> {
        let content = Self { root };
        for folder in [content.blobs(), content.partials(), content.releases_folder()] {
            fs::create_dir_all(&folder).map_err(|e| state_folder(&folder, &e))?;
        }
        Ok(content)
    }

    /// The folder everything is below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn releases_folder(&self) -> PathBuf {
        self.root.join("releases")
    }

    /// Where the blob is, if it is here.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether the blob is here, with the size it must have. One of another size was damaged since it was verified, and is
    /// removed. Whoever reads it compares its digest: a name alone is not believed.
    pub fn holds(&self, digest: &Digest, size: u64) -> bool {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() == size => true,
            Ok(_) => {
                tracing::warn!(path = %path.display(), "a blob was damaged on disk; it is let go of");
                let _ = fs::remove_file(&path);
                false
            }
            Err(_) => false,
        }
    }

    /// The same for a blob small enough to be read at once, whose digest is compared as well.
    pub fn holds_whole(&self, digest: &Digest, size: u64) -> bool {
        if !self.holds(digest, size) {
            return false;
        }
        let whole = self.read_blob(digest, size).is_ok();
        if !whole {
            tracing::warn!(%digest, "a blob was damaged on disk; it is let go of");
            self.remove_blob(digest);
        }
        whole
    }

    /// Whether a blob of this size is here. Whoever reads it compares its digest.
    pub fn holds_size(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.blob_path(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Whether something is here under this name. Whoever reads it compares its digest.
    pub fn has(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.blob_path(digest)).is_ok_and(|meta| meta.is_file())
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// When it is not here.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, Problem> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|e| state_folder(&path, &e))
    }

    /// Reads a small blob and checks its digest again.
    ///
    /// # Errors
    /// When it is not here, larger than `most` bytes or damaged.
    pub fn read_blob(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, Problem> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        self.open_blob(digest)?
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| state_folder(&path, &e))?;
        if bytes.len() as u64 > most || Digest::of(&bytes) != *digest {
            return Err(Problem::new(
                &crate::codes::STATE_FOLDER,
                format!("{}: its content is not what its name says", path.display()),
            ));
        }
        Ok(bytes)
    }

    /// How much of a blob an interrupted fetch has left; reading it gives those bytes.
    pub fn partial(&self, digest: &Digest) -> Option<(File, u64)> {
        let file = File::open(self.partials().join(digest.hex())).ok()?;
        let size = file.metadata().ok()?.len();
        (size > 0).then_some((file, size))
    }

    /// Begins a blob, or goes on after the bytes that [`Content::partial`] gave.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn writer(&self, digest: &Digest, go_on: bool) -> Result<BlobWriter, Problem> {
        let partial = self.partials().join(digest.hex());
        let file = OpenOptions::new()
            .write(true)
            .append(go_on)
            .truncate(!go_on)
            .create(true)
            .mode(0o600)
            .open(&partial)
            .map_err(|e| state_folder(&partial, &e))?;
        Ok(BlobWriter { file, partial, done: self.blob_path(digest) })
    }

    /// Removes a blob, if it is here.
    pub fn remove_blob(&self, digest: &Digest) {
        let _ = fs::remove_file(self.blob_path(digest));
    }

    /// Removes what an interrupted fetch has left of a blob.
    pub fn remove_partial(&self, digest: &Digest) {
        let _ = fs::remove_file(self.partials().join(digest.hex()));
    }

    /// Keeps the documents of a release. From then on the release counts as being here.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save_documents(&self, release: &Digest, documents: &Documents) -> Result<(), Problem> {
        let folder = self.releases_folder().join(release.hex());
        if folder.is_dir() {
            return Ok(());
        }
        let making = self.releases_folder().join(format!("{}.tmp", release.hex()));
        let write = || -> std::io::Result<()> {
            if making.is_dir() {
                fs::remove_dir_all(&making)?;
            }
            fs::create_dir(&making)?;
            let put = |name: &str, bytes: &[u8]| -> std::io::Result<()> {
                let mut file = File::create_new(making.join(name))?;
                file.write_all(bytes)?;
                file.sync_all()
            };
            put("oci-layout", &documents.oci_layout)?;
            put("index.json", &documents.index)?;
            put("manifest.json", &documents.manifest)?;
            put("release.json", &documents.release)?;
            for (root, number) in documents.roots.iter().zip(1..) {
                put(&format!("root-{number}.json"), root)?;
            }
            File::open(&making)?.sync_all()?;
            fs::rename(&making, &folder)
        };
        write().map_err(|e| state_folder(&folder, &e))?;
        sync_folder(&self.releases_folder())
    }

    /// The documents of a release that is here.
    ///
    /// # Errors
    /// When it is not.
    pub fn documents(&self, release: &Digest) -> Result<Documents, Problem> {
        let folder = self.releases_folder().join(release.hex());
        let read = |name: &str| fs::read(folder.join(name)).map_err(|e| state_folder(&folder.join(name), &e));
        let mut documents = Documents {
            oci_layout: read("oci-layout")?,
            index: read("index.json")?,
            manifest: read("manifest.json")?,
            release: read("release.json")?,
            roots: Vec::new(),
            // How it came is forgotten.
            delta: None,
        };
        for number in 1.. {
            let name = format!("root-{number}.json");
            if !folder.join(&name).exists() {
                break;
            }
            documents.roots.push(read(&name)?);
        }
        Ok(documents)
    }

    /// Every release that is here, in the order of their digests.
    pub fn releases(&self) -> Vec<Digest> {
        let entries = fs::read_dir(self.releases_folder()).into_iter().flatten().flatten();
        let digests = entries.filter_map(|entry| Digest::from_hex(entry.file_name().to_str()?).ok());
        digests.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether the release's documents are here.
    pub fn has_release(&self, release: &Digest) -> bool {
        self.releases_folder().join(release.hex()).is_dir()
    }

    /// Everything here that is not among those releases and blobs.
    pub fn beside(&self, releases: &BTreeSet<Digest>, blobs: &BTreeSet<Digest>) -> Unneeded {
        let names = |set: &BTreeSet<Digest>| set.iter().map(Digest::hex).collect::<BTreeSet<_>>();
        let beside = |folder: PathBuf, keep: BTreeSet<String>| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let path = |entry: fs::DirEntry| {
                (!keep.contains(&*entry.file_name().to_string_lossy())).then(|| entry.path())
            };
            entries.filter_map(path).collect::<Vec<_>>()
        };
        let mut files = beside(self.blobs(), names(blobs));
        // What an interrupted fetch of a needed blob has left is gone on with.
        files.extend(beside(self.partials(), names(blobs)));
        let bytes = files.iter().filter_map(|path| Some(fs::symlink_metadata(path).ok()?.len())).sum();
        Unneeded { releases: beside(self.releases_folder(), names(releases)), files, bytes }
    }
}

/// What can be let go of.
#[derive(Debug, Default)]
pub struct Unneeded {
    /// Folders of documents.
    pub releases: Vec<PathBuf>,
    /// Blobs, and such in the making.
    pub files: Vec<PathBuf>,
    /// Bytes of those.
    pub bytes: u64,
}

impl Unneeded {
    /// Removes it. Best effort: what cannot be removed now is removed the next time.
    pub fn remove(&self) {
        for path in self.releases.iter().chain(&self.files) {
            let is_folder = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
            let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "could not remove what is no longer needed");
            }
        }
    }
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.file.write_all(bytes).map_err(|e| state_folder(&self.partial, &e))
    }

    /// The blob is complete and verified: gives it its name, durably.
    ///
    /// # Errors
    /// When it cannot be flushed or renamed.
    pub fn finish(self) -> Result<(), Problem> {
        let done = self.done.clone();
        self.finish_as(&done)
    }

    /// The same under another name, where only the whole showed which blob it is.
    ///
    /// # Errors
    /// When it cannot be flushed or renamed.
    pub fn finish_as(self, done: &Path) -> Result<(), Problem> {
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.partial, done))
            .map_err(|e| state_folder(done, &e))?;
        done.parent().map_or(Ok(()), sync_folder)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_its_name_only_once_finished_and_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content::open(folder.path().to_owned()).unwrap();
        let digest = Digest::of(b"hello");
        content.writer(&digest, false).unwrap().write(b"hel").unwrap();
        assert!(!content.holds(&digest, 5));
        assert_eq!(content.partial(&digest).unwrap().1, 3);
        let mut writer = content.writer(&digest, true).unwrap();
        writer.write(b"lo").unwrap();
        writer.finish().unwrap();
        assert!(content.holds(&digest, 5) && content.partial(&digest).is_none());
        assert_eq!(content.read_blob(&digest, 5).unwrap(), b"hello");
        assert!(content.read_blob(&digest, 4).is_err());
    }

    #[test]
    fn a_damaged_blob_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content::open(folder.path().to_owned()).unwrap();
        let digest = Digest::of(b"hello");
        fs::write(content.blob_path(&digest), b"hellO").unwrap();
        assert!(content.read_blob(&digest, 100).unwrap_err().message.contains("not what its name says"));
        assert!(content.holds(&digest, 5), "its size is right");
        assert!(!content.holds_whole(&digest, 5) && !content.blob_path(&digest).exists());
        fs::write(content.blob_path(&digest), b"hell").unwrap();
        assert!(!content.holds(&digest, 5) && !content.blob_path(&digest).exists());
    }

    #[test]
    fn documents_come_back_as_they_were_and_only_what_is_named_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content::open(folder.path().to_owned()).unwrap();
        let documents = Documents {
            oci_layout: b"a".to_vec(),
            index: b"b".to_vec(),
            manifest: b"c".to_vec(),
            release: b"d".to_vec(),
            roots: vec![b"e".to_vec(), b"f".to_vec()],
            delta: None,
        };
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        content.save_documents(&one, &documents).unwrap();
        content.save_documents(&two, &documents).unwrap();
        assert_eq!(content.documents(&one).unwrap(), documents);
        assert_eq!(content.releases().len(), 2);
        content.beside(&[two].into(), &BTreeSet::new()).remove();
        assert!(!content.has_release(&one) && content.has_release(&two));
    }
}
