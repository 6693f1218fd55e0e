//! The project's files on this host, where containers can mount them.
//!
//! ```text
//! deployments/NAME/files/<digest>/…      what the release brings, by content: same content, same path, same container
//! deployments/NAME/private/<digest>/…    contents of secrets, by a salted digest: the path tells nothing
//! deployments/NAME/binds/<path>          folders that a container fills; data: never removed without a local word
//! ```
//!
//! The content's digest is in the path, so a changed file changes the mount and with it the container, and a file that did
//! not change disturbs nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kedge_bundle::parameters::Resolved;
use kedge_compose::model::{FileMount, FileObject, FileSource, Project};
use sha2::{Digest, Sha256};

use super::secrets::private_folder;
use crate::codes;
use crate::plan::desired::{FileUse, HostFile};
use crate::problem::Problem;
use crate::store::{state_folder, sync_folder, write_file};

/// Where the compose loader believes the project to be. No such folder has to exist.
pub const PROJECT_ROOT: &str = "/project";

/// A file of the bundle.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// Content.
    pub bytes: Vec<u8>,
    /// Mode 0755 instead of 0644.
    pub executable: bool,
}

/// Puts files where containers can mount them, as the compiler of a project asks for them.
pub struct Placer<'a> {
    folder: PathBuf,
    salt: Vec<u8>,
    bundle: &'a BTreeMap<String, BundleFile>,
    project: &'a Project,
    values: &'a Resolved,
    /// Plan only: say where files would be and write nothing.
    dry_run: bool,
    problems: RefCell<Vec<Problem>>,
}

/// One file to be written below a folder named by a digest.
struct Piece<'a> {
    path: String,
    bytes: &'a [u8],
    mode: u32,
    owner: Option<(u32, u32)>,
}

impl<'a> Placer<'a> {
    /// For the deployment whose folder this is.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(
        folder: PathBuf,
        bundle: &'a BTreeMap<String, BundleFile>,
        project: &'a Project,
        values: &'a Resolved,
        dry_run: bool,
    ) -> Result<Self, Problem> {
        let salt = salt(&folder, dry_run)?;
        Ok(Self { folder, salt, bundle, project, values, dry_run, problems: RefCell::default() })
    }

    /// Where a file that the project mounts is on this host; `None` if there is no such file.
    pub fn place(&self, used: &FileUse<'_>) -> Option<HostFile> {
        let placed = match used {
            FileUse::Bind { path, may_be_missing } => self.bind(path, *may_be_missing),
            FileUse::Config { key, mount } => self.object(self.project.configs.get(*key)?, mount, false),
            FileUse::Secret { key, mount } => self.object(self.project.secrets.get(*key)?, mount, true),
        };
        placed.unwrap_or_else(|problem| {
            self.problems.borrow_mut().push(problem);
            None
        })
    }

    /// What went wrong while placing.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn bind(&self, path: &str, may_be_missing: bool) -> Result<Option<HostFile>, Problem> {
        let Some(inside) = within_project(path) else {
            // A path of the host itself, which the guard has allowed; or our own for licences, which a dry run does not make.
            let ours = Path::new(path) == crate::licence::folder(&self.folder);
            let there = may_be_missing || ours || Path::new(path).exists();
            return Ok(there.then(|| HostFile { path: path.to_owned(), digest: None, is_ours: ours }));
        };
        if let Some(file) = self.bundle.get(inside) {
            let mode = if file.executable { 0o755 } else { 0o644 };
            let name = file_name(inside);
            let piece = Piece { path: name.to_owned(), bytes: &file.bytes, mode, owner: None };
            return self.write("files", &[piece], name, &[]).map(Some);
        }
        let prefix = if inside.is_empty() { String::new() } else { format!("{inside}/") };
        let name = if inside.is_empty() { "project" } else { file_name(inside) };
        let pieces: Vec<Piece<'_>> = self
            .bundle
            .iter()
            .filter_map(|(path, file)| Some((path.strip_prefix(&prefix)?, file)))
            .map(|(rest, file)| Piece {
                path: format!("{name}/{rest}"),
                bytes: &file.bytes,
                mode: if file.executable { 0o755 } else { 0o644 },
                owner: None,
            })
            .collect();
        if !pieces.is_empty() {
            return self.write("files", &pieces, name, &[]).map(Some);
        }
        if !may_be_missing {
            return Ok(None);
        }
        let folder = bind_folder(&data_folder(&self.folder), inside, !self.dry_run)?;
        Ok(Some(HostFile { path: folder.to_string_lossy().into_owned(), digest: None, is_ours: true }))
    }

    fn object(
        &self,
        object: &FileObject,
        mount: &FileMount,
        is_secret: bool,
    ) -> Result<Option<HostFile>, Problem> {
        let secret;
        let (bytes, private): (&[u8], bool) = match &object.source {
            FileSource::File(path) => match within_project(path).and_then(|inside| self.bundle.get(inside)) {
                Some(file) => (&file.bytes, is_secret),
                None => return Ok(None),
            },
            FileSource::Content(text) => (text.as_bytes(), is_secret),
            FileSource::Environment(name) => {
                if let Some(value) = self.values.secrets.get(name) {
                    secret = value.clone();
                    (secret.reveal().as_bytes(), true)
                } else if let Some(value) = self.values.values.get(name) {
                    (value.as_bytes(), is_secret)
                } else {
                    return Ok(None);
                }
            }
            FileSource::External => return Ok(None),
        };
        let number = |text: &Option<String>| text.as_deref().and_then(|t| t.parse::<u32>().ok());
        let owner = match (number(&mount.uid), number(&mount.gid)) {
            (None, None) => None,
            (uid, gid) => Some((uid.unwrap_or(0), gid.unwrap_or(0))),
        };
        let name = file_name(&mount.target);
        let piece = Piece { path: name.to_owned(), bytes, mode: mount.mode.unwrap_or(0o444), owner };
        let (below, salt): (_, &[u8]) = if private { ("private", &self.salt) } else { ("files", &[]) };
        self.write(below, &[piece], name, salt).map(Some)
    }

    /// Writes the pieces below a folder named by their digest, all or none, and gives the path of `name` in it.
    fn write(&self, below: &str, pieces: &[Piece<'_>], name: &str, salt: &[u8]) -> Result<HostFile, Problem> {
        let digest = digest(pieces, salt);
        let parent = self.folder.join(below);
        let done = parent.join(&digest);
        if !self.dry_run && !done.is_dir() {
            private_folder(&parent)?;
            let making = parent.join(format!("{digest}.tmp"));
            write_all(&making, pieces).map_err(|e| state_folder(&making, &e))?;
            fs::rename(&making, &done).map_err(|e| state_folder(&done, &e))?;
            sync_folder(&parent)?;
        }
        let path = done.join(name).to_string_lossy().into_owned();
        Ok(HostFile { path, digest: Some(digest), is_ours: true })
    }
}

/// Where folders lie that containers of the deployment fill, below the deployment's own.
pub fn data_folder(deployment: &Path) -> PathBuf {
    deployment.join("binds")
}

/// Removes what no mount of `used` is below. Best effort; data under `binds` is never touched.
pub fn keep_only(folder: &Path, used: &BTreeSet<PathBuf>) {
    for below in ["files", "private"] {
        let Ok(entries) = fs::read_dir(folder.join(below)) else { continue };
        for entry in entries.flatten() {
            if !used.iter().any(|path| path.starts_with(entry.path())) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Removes a deployment's folder, and gives those folders in it that could not be removed. One that stays is not in the way of
/// the others.
pub fn remove_all(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let left: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)).is_err())
        .collect();
    if left.is_empty() {
        let _ = fs::remove_dir(folder);
    }
    left
}

fn within_project(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PROJECT_ROOT)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
}

fn file_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("file")
}

fn salt(folder: &Path, dry_run: bool) -> Result<Vec<u8>, Problem> {
    let path = folder.join("salt");
    match fs::read(&path) {
        Ok(salt) if salt.len() == 32 => Ok(salt),
        _ if dry_run => Ok(vec![0; 32]),
        _ => {
            private_folder(folder)?;
            let salt: [u8; 32] = rand::random();
            write_file(&path, &salt, 0o600)?;
            Ok(salt.to_vec())
        }
    }
}

fn digest(pieces: &[Piece<'_>], salt: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(salt);
    for piece in pieces {
        let owner = piece.owner.map(|(u, g)| format!("{u}:{g}")).unwrap_or_default();
        hash.update(format!("{}\0{:o}\0{owner}\0{}\0", piece.path, piece.mode, piece.bytes.len()));
        hash.update(piece.bytes);
    }
    // Half of it is plenty to tell contents apart and keeps paths short.
    hex::encode(&hash.finalize()[..16])
}

fn write_all(making: &Path, pieces: &[Piece<'_>]) -> std::io::Result<()> {
    if making.is_dir() {
        fs::remove_dir_all(making)?;
    }
    fs::create_dir(making)?;
    for piece in pieces {
        let path = making.join(&piece.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create_new(&path)?;
        file.write_all(piece.bytes)?;
        file.set_permissions(Permissions::from_mode(piece.mode))?;
        if let Some((uid, gid)) = piece.owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.sync_all()?;
    }
    File::open(making)?.sync_all()
}

/// A folder of a deployment that its containers write to. They may have put links there, which the engine would follow to
/// wherever on the host they lead: those are refused.
fn bind_folder(root: &Path, inside: &str, make: bool) -> Result<PathBuf, Problem> {
    let failed = |path: &Path, e: std::io::Error| state_folder(path, &e);
    if make {
        fs::create_dir_all(root).map_err(|e| failed(root, e))?;
    }
    let mut path = root.to_owned();
    for part in Path::new(inside).components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_symlink() => {
                let why =
                    format!("`{inside}` leads through a link that a container has made: {}", path.display());
                return Err(Problem::new(&codes::GUARD, why));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && make => {
                fs::create_dir(&path).map_err(|e| failed(&path, e))?;
            }
            _ => {}
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use kedge_bundle::parameters::Secret;

    use super::*;

    fn bundle(files: &[(&str, &str)]) -> BTreeMap<String, BundleFile> {
        files
            .iter()
            .map(|(path, text)| {
                ((*path).to_owned(), BundleFile { bytes: text.as_bytes().to_vec(), executable: false })
            })
            .collect()
    }

    fn place(folder: &Path, bundle: &BTreeMap<String, BundleFile>, path: &str) -> Option<HostFile> {
        let (project, values) = (Project::default(), Resolved::default());
        let placer = Placer::new(folder.to_owned(), bundle, &project, &values, false).unwrap();
        placer.place(&FileUse::Bind { path, may_be_missing: false })
    }

    #[test]
    fn the_same_content_has_the_same_path_and_other_content_another() {
        let folder = tempfile::tempdir().unwrap();
        let one = place(folder.path(), &bundle(&[("a.conf", "1")]), "/project/a.conf").unwrap();
        let again = place(folder.path(), &bundle(&[("a.conf", "1"), ("b", "x")]), "/project/a.conf").unwrap();
        let other = place(folder.path(), &bundle(&[("a.conf", "2")]), "/project/a.conf").unwrap();
        assert_eq!(one, again);
        assert_ne!(one.path, other.path);
        assert_eq!(fs::read_to_string(other.path).unwrap(), "2");
    }

    #[test]
    fn a_link_that_a_container_has_made_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("binds");
        let data = bind_folder(&root, "data/deep", true).unwrap();
        assert!(data.is_dir() && bind_folder(&root, "data", true).is_ok());
        std::os::unix::fs::symlink("/", root.join("data/x")).unwrap();
        for inside in ["data/x", "data/x/etc", "data/x/nothing"] {
            assert_eq!(bind_folder(&root, inside, true).unwrap_err().code, codes::GUARD, "{inside}");
        }
        assert!(bind_folder(&root, "not/yet", false).is_ok() && !root.join("not").exists());
    }

    #[test]
    fn a_folder_of_the_bundle_is_placed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let files = bundle(&[("conf/a", "1"), ("conf/d/b", "2"), ("confetti", "3")]);
        let placed = place(folder.path(), &files, "/project/conf").unwrap();
        assert_eq!(fs::read_to_string(Path::new(&placed.path).join("d/b")).unwrap(), "2");
        assert!(!Path::new(&placed.path).join("etti").exists());
    }

    #[test]
    fn what_is_nowhere_is_none_unless_it_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(place(folder.path(), &bundle(&[]), "/project/data"), None);
        let (files, project, values) = (bundle(&[]), Project::default(), Resolved::default());
        let placer = Placer::new(folder.path().to_owned(), &files, &project, &values, false).unwrap();
        let placed = placer.place(&FileUse::Bind { path: "/project/data", may_be_missing: true }).unwrap();
        assert!(Path::new(&placed.path).is_dir());
        assert_eq!(placed.digest, None);
    }

    #[test]
    fn a_secrets_path_does_not_tell_its_content_and_its_mode_is_honoured() {
        let folder = tempfile::tempdir().unwrap();
        let mut project = Project::default();
        let source = FileSource::Environment("PW".into());
        project.secrets.insert("pw".into(), FileObject { source, ..FileObject::default() });
        let mut values = Resolved::default();
        values.secrets.insert("PW".into(), Secret::new("hunter2".into()));
        let files = BTreeMap::new();
        let placer = Placer::new(folder.path().to_owned(), &files, &project, &values, false).unwrap();
        let mount = FileMount { target: "/run/secrets/pw".into(), mode: Some(0o400), ..FileMount::default() };
        let placed = placer.place(&FileUse::Secret { key: "pw", mount: &mount }).unwrap();
        assert!(placed.path.contains("/private/"));
        let plain = Piece { path: "pw".into(), bytes: b"hunter2", mode: 0o400, owner: None };
        assert!(!placed.path.contains(&digest(&[plain], &[])));
        assert_eq!(fs::metadata(&placed.path).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(fs::read_to_string(&placed.path).unwrap(), "hunter2");
    }

    #[test]
    fn a_dry_run_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("deployment");
        let (files, project, values) = (bundle(&[("a", "1")]), Project::default(), Resolved::default());
        let placer = Placer::new(inside.clone(), &files, &project, &values, true).unwrap();
        assert!(placer.place(&FileUse::Bind { path: "/project/a", may_be_missing: false }).is_some());
        assert!(!inside.exists());
    }

    #[test]
    fn a_folder_goes_with_all_that_is_in_it_and_what_stays_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("shop");
        fs::create_dir_all(inside.join("binds/data")).unwrap();
        fs::write(inside.join("salt"), "x").unwrap();
        assert_eq!(remove_all(&inside), Vec::<PathBuf>::new());
        assert!(!inside.exists());
        assert_eq!(remove_all(&inside), Vec::<PathBuf>::new(), "nothing is left of nothing");
        if rustix::process::geteuid().is_root() {
            // Root can remove everything. `./test host` sees it as the agent's own user.
            return;
        }
        fs::create_dir_all(inside.join("binds/data")).unwrap();
        fs::create_dir_all(inside.join("files")).unwrap();
        fs::set_permissions(inside.join("binds"), Permissions::from_mode(0o500)).unwrap();
        assert_eq!(remove_all(&inside), [inside.join("binds")]);
        assert!(!inside.join("files").exists());
        fs::set_permissions(inside.join("binds"), Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn what_is_not_used_is_removed_and_data_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let one = place(folder.path(), &bundle(&[("a", "1")]), "/project/a").unwrap();
        let two = place(folder.path(), &bundle(&[("a", "2")]), "/project/a").unwrap();
        fs::create_dir_all(folder.path().join("binds/data")).unwrap();
        keep_only(folder.path(), &[PathBuf::from(&two.path)].into());
        assert!(!Path::new(&one.path).exists() && Path::new(&two.path).exists());
        assert!(folder.path().join("binds/data").is_dir());
    }
}
