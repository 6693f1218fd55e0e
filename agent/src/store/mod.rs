//! What this host must not forget, in sled behind typed records and one durability barrier.
//!
//! Everything is written through [`Store::commit`], which returns only when the bytes would survive a power
//! cut: batch, flush, then `sync_all` on sled's file, because sled 0.34 ends a flush with `sync_file_range`,
//! which writes neither the file's size nor the device's cache. Nothing is acknowledged, sent or acted upon
//! before that. This module is the only one that names sled.
//!
//! Keys are text, `table/part/part`; values are JSON with the record's version in front, so that a newer
//! agent can read what an older one wrote. One flat key space makes every commit atomic across tables.
//!
//! The store is small (kilobytes). Blobs are files of `images::content`; the audit log is a file of its own.

mod lock;
mod records;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub use lock::FolderLock;
pub use records::*;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codes;
use crate::problem::Problem;

/// Memory that sled may use to cache pages, bytes. The whole store is smaller than this.
const CACHE_BYTES: u64 = 2 * 1024 * 1024;

/// A kind of record: where it lives and which version of its form is written.
pub trait Record: Serialize + DeserializeOwned {
    /// Table, the first part of the key.
    const TABLE: &'static str;
    /// Version of the form that is written; readers accept this and older ones.
    const VERSION: u32;
    /// The rest of the key.
    fn key(&self) -> String;
}

/// Records to put and remove, all or none.
#[derive(Debug, Default)]
pub struct Writes {
    puts: Vec<(String, Vec<u8>)>,
    removals: Vec<String>,
}

#[derive(Serialize, serde::Deserialize)]
struct Versioned<T> {
    v: u32,
    r: T,
}

impl Writes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a record, replacing the one with the same key.
    ///
    /// # Errors
    /// When the record cannot be encoded, which is a defect.
    pub fn put<R: Record>(mut self, record: &R) -> Result<Self, Problem> {
        let value = serde_json::to_vec(&Versioned { v: R::VERSION, r: record })
            .map_err(|e| Problem::from_error(&codes::INTERNAL, &e).at(R::TABLE))?;
        self.puts.push((full_key::<R>(&record.key()), value));
        Ok(self)
    }

    /// Removes the record with this key, if it is there.
    #[must_use]
    pub fn remove<R: Record>(mut self, key: &str) -> Self {
        self.removals.push(full_key::<R>(key));
        self
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.removals.is_empty()
    }
}

fn full_key<R: Record>(key: &str) -> String {
    format!("{}/{key}", R::TABLE)
}

/// Whether a commit ends in the barrier. Only the power-cut test takes it away, to see that it would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Flush, then `sync_all`.
    Barrier,
    /// Flush only, as sled alone would have it.
    FlushOnly,
}

/// The open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` after a write failed: sled refuses every write from then on, also when there is space again, so the next
    /// use opens the file anew.
    open: RwLock<Option<Open>>,
    folder: PathBuf,
    durability: Durability,
    /// One commit at a time: the barrier covers all that came before it anyway.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Open {
    db: sled::Db,
    file: Arc<File>,
}

impl Store {
    /// Opens or creates the store in `folder`, and reads every record once, so that damage is found now.
    ///
    /// # Errors
    /// [`codes::STORE_DAMAGED`] naming the file when it does not open or a record cannot be read.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
        Self::open_with(folder, Durability::Barrier)
    }

    /// [`Store::open`] with the barrier of one's choice.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(folder: &Path, durability: Durability) -> Result<Self, Problem> {
        std::fs::create_dir_all(folder).map_err(|e| state_folder(folder, &e))?;
        let open = RwLock::new(Some(Open::at(folder)?));
        let inner = Inner { open, folder: folder.to_owned(), durability, turn: tokio::sync::Mutex::new(()) };
        let store = Self { inner: Arc::new(inner) };
        store.check_or_make_birth_record(folder)?;
        Ok(store)
    }

    /// sled opens a file of rubbish as an empty store. An agent that believed it would forget every deployment,
    /// so the first record ever written is expected for as long as a file beside the store says it was written.
    fn check_or_make_birth_record(&self, folder: &Path) -> Result<(), Problem> {
        let marker = folder.join("born");
        if self.get::<BirthRecord>("")?.is_some() {
            return Ok(());
        }
        if marker.exists() {
            let file = folder.join("db");
            return Err(Problem::new(
                &codes::STORE_DAMAGED,
                format!("{}: it opens, but what was in it is gone", file.display()),
            ));
        }
        self.commit_blocking(
            Writes::new().put(&BirthRecord { agent: env!("CARGO_PKG_VERSION").to_owned() })?,
        )?;
        // The files' names must survive too; once is enough.
        write_file(&marker, b"", 0o600)?;
        folder.parent().map_or(Ok(()), sync_folder)
    }

    /// Writes all of `writes` or nothing, and returns once it would survive a power cut.
    ///
    /// # Errors
    /// [`codes::STORE_WRITE`]. The caller must not act on what it wanted to write.
    pub async fn commit(&self, writes: Writes) -> Result<(), Problem> {
        if writes.is_empty() {
            return Ok(());
        }
        let _turn = self.inner.turn.lock().await;
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || inner.commit(writes))
            .await
            .map_err(|e| Problem::from_error(&codes::INTERNAL, &e).at("writing the store"))?
    }

    /// [`Store::commit`] where there is no runtime.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit_blocking(&self, writes: Writes) -> Result<(), Problem> {
        self.inner.commit(writes)
    }

    /// The record with this key.
    ///
    /// # Errors
    /// [`codes::STORE_DAMAGED`] when it cannot be read.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, Problem> {
        let key = full_key::<R>(key);
        let value = self.inner.db()?.get(&key).map_err(|e| self.inner.unreadable(&key, &e.to_string()))?;
        value.map(|bytes| self.inner.decode(&key, &bytes)).transpose()
    }

    /// All records of a kind whose key starts with `prefix`, in key order.
    ///
    /// # Errors
    /// [`codes::STORE_DAMAGED`] when one cannot be read.
    pub fn scan<R: Record>(&self, prefix: &str) -> Result<Vec<R>, Problem> {
        self.scan_some(prefix, usize::MAX)
    }

    /// The first `most` records of [`Store::scan`].
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub fn scan_some<R: Record>(&self, prefix: &str, most: usize) -> Result<Vec<R>, Problem> {
        let prefix = full_key::<R>(prefix);
        let mut records = Vec::new();
        for entry in self.inner.db()?.scan_prefix(&prefix).take(most) {
            let (key, value) = entry.map_err(|e| self.inner.unreadable(&prefix, &e.to_string()))?;
            records.push(self.inner.decode(&String::from_utf8_lossy(&key), &value)?);
        }
        Ok(records)
    }

    /// How many records of a kind there are.
    pub fn count<R: Record>(&self) -> usize {
        self.inner.db().map_or(0, |db| db.scan_prefix(full_key::<R>("")).count())
    }

    /// The record of a kind with the highest key.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn last<R: Record>(&self) -> Result<Option<R>, Problem> {
        let prefix = full_key::<R>("");
        // Forwards, though it asks for the last: sled's way backwards costs the binary a constant of 1 MiB.
        match self.inner.db()?.scan_prefix(&prefix).fold(None, |_, entry| Some(entry)) {
            Some(entry) => {
                let (key, value) = entry.map_err(|e| self.inner.unreadable(&prefix, &e.to_string()))?;
                Ok(Some(self.inner.decode(&String::from_utf8_lossy(&key), &value)?))
            }
            None => Ok(None),
        }
    }
}

impl Open {
    /// Opens the store and reads every record once. sled panics on some damage instead of returning an error; a typed error
    /// ends in a message, not in a crash loop.
    fn at(folder: &Path) -> Result<Self, Problem> {
        let damaged = |why: String| {
            Problem::new(&codes::STORE_DAMAGED, format!("{}: {why}", folder.join("db").display()))
        };
        let db = catch_unwind(AssertUnwindSafe(|| {
            let db =
                sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None).open()?;
            for entry in db.iter() {
                entry?;
            }
            Ok::<_, sled::Error>(db)
        }))
        .map_err(|_| damaged("it cannot be opened: its content is not consistent".to_owned()))?
        .map_err(|e| damaged(e.to_string()))?;
        let file = File::open(folder.join("db")).map_err(|e| state_folder(folder, &e))?;
        Ok(Self { db, file: Arc::new(file) })
    }
}

impl Inner {
    /// The open store; opened anew if a write has failed before.
    fn open(&self) -> Result<Open, Problem> {
        if let Some(open) = &*self.open.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(open.clone());
        }
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(Open::at(&self.folder)?);
            tracing::info!(folder = %self.folder.display(), "the store was opened anew after a write had failed");
        }
        slot.clone().ok_or_else(|| self.write_failed("it is not open"))
    }

    fn db(&self) -> Result<sled::Db, Problem> {
        Ok(self.open()?.db)
    }

    fn commit(&self, writes: Writes) -> Result<(), Problem> {
        let open = self.open()?;
        let mut batch = sled::Batch::default();
        for key in writes.removals {
            batch.remove(key.into_bytes());
        }
        for (key, value) in writes.puts {
            batch.insert(key.into_bytes(), value);
        }
        // A full disk shows up as a panic in some paths of sled; to the caller it is a failed write either way.
        let written = catch_unwind(AssertUnwindSafe(|| {
            open.db.apply_batch(batch)?;
            open.db.flush()?;
            match self.durability {
                Durability::Barrier => open.file.sync_all().map_err(sled::Error::from),
                Durability::FlushOnly => Ok(()),
            }
        }));
        let problem = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(sled::Error::Io(error))) if error.kind() == std::io::ErrorKind::StorageFull => {
                self.write_failed("the disk is full")
            }
            Ok(Err(error)) => self.write_failed(&error.to_string()),
            Err(_) => self.write_failed("the write was not possible"),
        };
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        Err(problem)
    }

    fn write_failed(&self, why: &str) -> Problem {
        Problem::new(&codes::STORE_WRITE, format!("{}: {why}", self.folder.join("db").display()))
    }

    fn decode<R: Record>(&self, key: &str, bytes: &[u8]) -> Result<R, Problem> {
        let versioned: Versioned<R> =
            serde_json::from_slice(bytes).map_err(|e| self.unreadable(key, &e.to_string()))?;
        if versioned.v > R::VERSION {
            return Err(self.unreadable(
                key,
                &format!("written by a newer agent (form {}, this one knows {})", versioned.v, R::VERSION),
            ));
        }
        Ok(versioned.r)
    }

    fn unreadable(&self, key: &str, why: &str) -> Problem {
        Problem::new(
            &codes::STORE_DAMAGED,
            format!("{}: record {key}: {why}", self.folder.join("db").display()),
        )
    }
}

/// Makes the names in a folder survive a power cut.
///
/// # Errors
/// [`codes::STATE_FOLDER`] naming the folder.
pub fn sync_folder(folder: &Path) -> Result<(), Problem> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| state_folder(folder, &e))
}

/// Writes a small file so that after a power cut there is the old content or the new, never a mixture.
///
/// # Errors
/// [`codes::STATE_FOLDER`] naming the file.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), Problem> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| state_folder(path, &e))?;
    sync_folder(folder)
}

/// The problem of a path of ours that cannot be used.
pub fn state_folder(path: &Path, error: &std::io::Error) -> Problem {
    let code =
        if error.kind() == std::io::ErrorKind::StorageFull { &codes::NO_SPACE } else { &codes::STATE_FOLDER };
    Problem::new(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
