//! Images out of a folder or one static binary, so that nobody needs a registry or an engine to make one.
//!
//! Deterministic: entries sorted, times zero, owner root, modes as they are.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::assemble::{ImageInput, LayerInput, Source};
use crate::digest::Digest;
use crate::layout::{Platform, media};

/// The folder as the only layer; what runs is for the compose file to say.
pub(super) fn dir(
    reference: &str,
    folder: &Path,
    platform: &Platform,
    staging: &Path,
) -> Result<ImageInput, String> {
    let layer = layer(staging, |tar| append(tar, folder, Path::new("")))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(image(reference, platform, &serde_json::json!({}), layer))
}

/// The binary as `/NAME`, which is the entry point.
pub(super) fn binary(
    reference: &str,
    file: &Path,
    platform: &Platform,
    staging: &Path,
) -> Result<ImageInput, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let bytes = fs::read(file).map_err(|error| failed(&error))?;
    let architecture = static_elf(&bytes).map_err(|reason| failed(&reason))?;
    if architecture != platform.architecture {
        return Err(failed(&format_args!("is for {architecture}, the bundle for {}", platform.architecture)));
    }
    let name =
        file.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed(&"has no usable name"))?;
    let layer = layer(staging, |tar| {
        let mut header = header(::tar::EntryType::Regular, 0o755);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice())
    })
    .map_err(|error| failed(&error))?;
    let config = serde_json::json!({"Entrypoint": [format!("/{name}")], "WorkingDir": "/"});
    Ok(image(reference, platform, &config, layer))
}

fn image(reference: &str, platform: &Platform, config: &serde_json::Value, layer: LayerInput) -> ImageInput {
    let config = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "kedgectl bundle build"}],
    });
    ImageInput::new(reference, config.to_string().into_bytes(), vec![layer])
}

/// Hashes what is written.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// What was written to, with the digest and the number of the bytes.
    pub(super) fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::from_bytes(self.hash.finalize().into()), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

type Tar = ::tar::Builder<Hashing<BufWriter<fs::File>>>;

/// A layer in a file of the staging folder, which goes when that goes.
fn layer(staging: &Path, fill: impl FnOnce(&mut Tar) -> io::Result<()>) -> io::Result<LayerInput> {
    let (file, path) = tempfile::NamedTempFile::new_in(staging)?.keep().map_err(|error| error.error)?;
    let mut tar = ::tar::Builder::new(Hashing::new(BufWriter::new(file)));
    fill(&mut tar)?;
    let mut out = tar.into_inner()?;
    out.flush()?;
    let (_, digest, size) = out.finish();
    let source = Source::Part { path, offset: 0, size };
    Ok(LayerInput { media_type: media::LAYER.into(), digest, size, unpacked: size, source })
}

/// Appends the content of a folder, sorted by name, folders before what is in them.
fn append(tar: &mut Tar, folder: &Path, within: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder.join(within))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for name in entries {
        let inside: PathBuf = within.join(name);
        let path = folder.join(&inside);
        let meta = fs::symlink_metadata(&path)?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            tar.append_data(&mut header(::tar::EntryType::Directory, mode), &inside, io::empty())?;
            append(tar, folder, &inside)?;
        } else if meta.is_symlink() {
            tar.append_link(&mut header(::tar::EntryType::Symlink, 0o777), &inside, fs::read_link(&path)?)?;
        } else if meta.is_file() {
            let mut header = header(::tar::EntryType::Regular, mode);
            header.set_size(meta.len());
            // A file that grows meanwhile must not tear the archive.
            tar.append_data(&mut header, &inside, io::Read::take(fs::File::open(&path)?, meta.len()))?;
        } else {
            return Err(io::Error::other(format!("{} is neither file, folder nor link", path.display())));
        }
    }
    Ok(())
}

fn header(kind: ::tar::EntryType, mode: u32) -> ::tar::Header {
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// The architecture of a 64-bit little-endian ELF file that needs no loader. An image without a file system around it has
/// none, and the engine's message for that ("no such file") sends people the wrong way.
fn static_elf(bytes: &[u8]) -> Result<&'static str, &'static str> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at.checked_add(size)?)?;
        Some(field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("is not a 64-bit Linux binary");
    }
    let cut = "is cut off";
    let table = usize::try_from(number(32, 8).ok_or(cut)?).map_err(|_| cut)?;
    let (size, count) = (number(54, 2).ok_or(cut)?, number(56, 2).ok_or(cut)?);
    for index in 0..count {
        let at =
            usize::try_from(index * size).ok().and_then(|offset| table.checked_add(offset)).ok_or(cut)?;
        if number(at, 4).ok_or(cut)? == PT_INTERP {
            return Err("is dynamically linked; build it static, for instance for a musl target");
        }
    }
    match number(18, 2) {
        Some(62) => Ok("amd64"),
        Some(183) => Ok("arm64"),
        _ => Err("is for an architecture other than amd64 and arm64"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn elf(machine: u8, interpreter: bool) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[18], bytes[32], bytes[54], bytes[56]) = (machine, 64, 56, 1);
        bytes[64] = if interpreter { 3 } else { 1 };
        bytes
    }

    #[test]
    fn only_static_binaries_are_packed() {
        assert_eq!(static_elf(&elf(62, false)), Ok("amd64"));
        assert_eq!(static_elf(&elf(183, false)), Ok("arm64"));
        assert!(static_elf(&elf(62, true)).unwrap_err().contains("dynamically"));
        assert!(static_elf(&elf(8, false)).unwrap_err().contains("architecture"));
        assert!(static_elf(&elf(62, false)[..70]).is_ok());
        assert!(static_elf(&elf(62, false)[..65]).unwrap_err().contains("cut"));
        assert!(static_elf(b"#!/bin/sh").unwrap_err().contains("binary"));
    }

    #[test]
    fn a_folder_makes_the_same_layer_whenever_and_wherever() {
        let staging = tempfile::tempdir().unwrap();
        let make = |order: [&str; 3]| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("sub")).unwrap();
            for name in order {
                fs::write(folder.path().join(name), name).unwrap();
                fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o640)).unwrap();
            }
            std::os::unix::fs::symlink("../b", folder.path().join("sub/link")).unwrap();
            let platform = Platform { architecture: "amd64".into(), os: "linux".into(), variant: None };
            dir("a:1", folder.path(), &platform, staging.path()).unwrap()
        };
        let (one, two) = (make(["b", "a", "sub/c"]), make(["sub/c", "a", "b"]));
        assert_eq!(one.manifest, two.manifest);
        let mut bytes = Vec::new();
        one.layers[0].source.open().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), one.layers[0].digest);
        let mut names = Vec::new();
        for entry in ::tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            names.push(entry.path().unwrap().display().to_string());
        }
        assert_eq!(names, ["a", "b", "sub", "sub/c", "sub/link"]);
    }
}
