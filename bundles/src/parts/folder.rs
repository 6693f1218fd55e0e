//! Parts as files: found in a folder, whatever they are called, and made there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Fault, HEAD, Head, Joined, Open, arrange};
use crate::codes::{self, Code, Coded};

/// What went wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder holds no part at all.
    #[error("{}: there is no part of a bundle in this folder", .0.display())]
    Nothing(PathBuf),
    /// They are not the parts of one bundle.
    #[error("{}: {fault}", path.display())]
    Parts {
        /// The folder, or the part that is wrong.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// A part would lie where something lies already.
    #[error("{} is there already: remove it, or name another folder", .0.display())]
    Exists(PathBuf),
    /// The size asked for does not serve.
    #[error("parts of {size} bytes: a bundle of {total} bytes can be cut into at most {} parts", super::MOST)]
    Size {
        /// Asked for.
        size: u64,
        /// Of the bundle.
        total: u64,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::File { .. } => codes::READ,
            Self::Nothing(_) | Self::Parts { .. } | Self::Exists(_) | Self::Size { .. } => codes::PARTS,
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::File { path: path.to_owned(), source }
}

/// The bundle whose parts lie in a folder, and its bytes. Files that are no parts do not matter.
///
/// # Errors
/// [`Error`], before anything is read but heads.
pub fn open(folder: &Path) -> Result<(Joined, u64), Error> {
    let (mut parts, mut unread) = (Vec::new(), None);
    for entry in std::fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        // A link to a part is as good as the part.
        if !std::fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        match head(&path) {
            Ok(Some(head)) => parts.push((head, path)),
            Ok(None) => {}
            // It matters only if a part is missing: this may be it.
            Err(error) => unread = Some(error),
        }
    }
    let arranged = match (parts.is_empty(), unread) {
        (true, None) => return Err(Error::Nothing(folder.to_owned())),
        (true, Some(error)) => return Err(error),
        (false, unread) => arrange(parts).map_err(|fault| match unread {
            Some(error) if matches!(fault, Fault::Missing { .. }) => error,
            _ => Error::Parts { path: folder.to_owned(), fault },
        }),
    };
    let parts = arranged?;
    for (head, path) in &parts {
        let size = std::fs::metadata(path).map_err(at(path))?.len();
        if Some(size) != head.bytes.checked_add(HEAD as u64) {
            return Err(Error::Parts { path: path.clone(), fault: Fault::Damaged(head.number) });
        }
    }
    let total = parts.first().map(|(head, _)| head.total).unwrap_or_default();
    let open = |(head, path): (Head, PathBuf)| -> (Head, Open) {
        let open = move || -> io::Result<Box<dyn Read + Send>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(HEAD as u64))?;
            Ok(Box::new(file))
        };
        (head, Box::new(open))
    };
    Ok((Joined::new(parts.into_iter().map(open).collect()), total))
}

/// The head of a file that is a part.
fn head(path: &Path) -> Result<Option<Head>, Error> {
    let mut bytes = [0; HEAD];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => Ok(Head::parse(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Cuts a bundle into parts of at most `size` bytes, `NAME.1-of-3` and so on in `folder`. `copied` hears of bytes: there are
/// three times as many as the bundle has. Gives the files.
///
/// # Errors
/// [`Error`]; what was written of the parts is removed then.
#[cfg(feature = "build")]
pub fn split(
    bundle: &Path,
    folder: &Path,
    size: u64,
    copied: &mut dyn FnMut(u64),
) -> Result<Vec<PathBuf>, Error> {
    let mut file = File::open(bundle).map_err(at(bundle))?;
    let total = file.metadata().map_err(at(bundle))?.len();
    let pieces = super::pieces(total, size).ok_or(Error::Size { size, total })?;
    let name = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = digest(&mut file, copied).map_err(at(bundle))?;
    let mut made = Vec::new();
    let mut offset = 0;
    for (number, bytes) in &pieces {
        let path = folder.join(format!("{name}.{number}-of-{}", pieces.len()));
        let head = Head {
            number: *number,
            count: u32::try_from(pieces.len()).unwrap_or(super::MOST),
            bytes: *bytes,
            total,
            bundle: digest,
            digest: crate::digest::Digest::from_bytes([0; 32]),
        };
        let result = File::create_new(&path).and_then(|mut part| {
            made.push(path.clone());
            write(&mut file, offset, head, &mut part, copied)
        });
        if let Err(error) = result {
            for path in made {
                let _ = std::fs::remove_file(path);
            }
            let is_there = error.kind() == io::ErrorKind::AlreadyExists;
            return Err(if is_there { Error::Exists(path) } else { at(&path)(error) });
        }
        offset += bytes;
    }
    Ok(made)
}

#[cfg(feature = "build")]
fn digest(file: &mut File, copied: &mut dyn FnMut(u64)) -> io::Result<crate::digest::Digest> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    super::hash(&mut Heard { source: file, copied }, &mut hash)?;
    Ok(crate::digest::Digest::from_bytes(hash.finalize().into()))
}

#[cfg(feature = "build")]
fn write(
    bundle: &mut File,
    offset: u64,
    head: Head,
    part: &mut File,
    copied: &mut dyn FnMut(u64),
) -> io::Result<()> {
    use std::io::Write as _;
    let bytes = head.bytes;
    let mut source = bundle.try_clone()?;
    bundle.seek(SeekFrom::Start(offset))?;
    let head = head.sealed(&mut Heard { source: bundle.take(bytes), copied: &mut *copied })?;
    part.write_all(&head.encode())?;
    source.seek(SeekFrom::Start(offset))?;
    if io::copy(&mut Heard { source: source.take(bytes), copied }, part)? != bytes {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the bundle is shorter than it was"));
    }
    part.sync_all()
}

/// Tells of what is read.
#[cfg(feature = "build")]
struct Heard<'a, R> {
    source: R,
    copied: &'a mut dyn FnMut(u64),
}

#[cfg(feature = "build")]
impl<R: Read> Read for Heard<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        (self.copied)(read as u64);
        Ok(read)
    }
}

#[cfg(all(test, feature = "build"))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_parts_is_the_bundle_whatever_the_files_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        let bundle = folder.path().join("shop.kedge");
        std::fs::write(&bundle, &bytes).unwrap();
        let stick = folder.path().join("stick");
        std::fs::create_dir(&stick).unwrap();
        let mut heard = 0;
        let parts = split(&bundle, &stick, 65_536, &mut |more| heard += more).unwrap();
        assert_eq!((parts.len(), heard), (4, 3 * bytes.len() as u64));
        assert!(parts.iter().all(|part| std::fs::metadata(part).unwrap().len() < 65_536));
        assert!(
            matches!(split(&bundle, &stick, 65_536, &mut |_| {}), Err(Error::Exists(_))),
            "they are there"
        );
        assert_eq!(open(&stick).unwrap().1, bytes.len() as u64, "and stay");
        std::fs::rename(&parts[2], stick.join("a")).unwrap();
        std::fs::write(stick.join("README.txt"), "hello").unwrap();
        // What cannot be read, not even by root.
        std::os::unix::fs::symlink("/proc/self/mem", stick.join("odd")).unwrap();
        let mut joined = Vec::new();
        open(&stick).unwrap().0.read_to_end(&mut joined).unwrap();
        assert!(joined == bytes);
        std::fs::remove_file(stick.join("a")).unwrap();
        let error = open(&stick).map(|_| ()).unwrap_err();
        assert!(
            matches!(&error, Error::File { path, .. } if path.ends_with("odd")),
            "it may be the part: {error}"
        );
        std::fs::remove_file(stick.join("odd")).unwrap();
        let error = open(&stick).map(|_| ()).unwrap_err();
        assert!(error.to_string().ends_with("part 3 of 4 is missing"), "{error}");
        assert!(matches!(open(folder.path()), Err(Error::Nothing(_))));
    }

    #[test]
    fn a_part_that_is_cut_off_is_named_before_anything_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("b");
        std::fs::write(&bundle, vec![7; 5000]).unwrap();
        let parts = split(&bundle, folder.path(), 4096, &mut |_| {}).unwrap();
        File::options().write(true).open(&parts[1]).unwrap().set_len(600).unwrap();
        let error = open(folder.path()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("b.2-of-2: part 2 was damaged or cut off"), "{error}");
        assert!(matches!(split(&bundle, folder.path(), 1024, &mut |_| {}), Err(Error::Size { .. })));
    }
}
