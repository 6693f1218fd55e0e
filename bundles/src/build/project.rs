//! The vendor's folder: compose files, the `x-kedge` section, and every file that the project needs on the customer's host.
//!
//! Which files those are is not guessed: the compose loader reads through a recorder, so whatever it reads (included and extended
//! files, env files) is what the host will read again. Files that containers mount (configs, bind mounts within
//! the folder) are added. A secret's file is refused: what is in a bundle is not secret.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kedge_compose::model::{FileSource, MountKind, Project, Service};
use kedge_compose::{DirFiles, FileError, FileKind, Files, Options as ComposeOptions, paths};

use super::{BuildError, Options};
use crate::assemble::FileInput;
use crate::layout::limits;
use crate::parameters::{Parameter, ParameterKind};
use crate::product::{Declaration, EXTENSION, Product};

/// What the folder says.
pub(super) struct Loaded {
    pub(super) product: Product,
    pub(super) files: Vec<FileInput>,
    /// Source of each image, by the reference that services use.
    pub(super) images: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// Remembers which files were read, in order.
struct Recorder {
    inner: DirFiles,
    read: RefCell<Vec<String>>,
}

impl Files for Recorder {
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let bytes = self.inner.read(path, limit)?;
        let mut read = self.read.borrow_mut();
        if !read.iter().any(|known| known == path) {
            read.push(path.to_owned());
        }
        Ok(bytes)
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        self.inner.kind(path)
    }
}

pub(super) fn load(options: &Options) -> Result<Loaded, BuildError> {
    let dir = options.dir.canonicalize().map_err(BuildError::file(&options.dir))?;
    let root = dir.to_str().ok_or_else(|| BuildError::Folder("its path is not UTF-8".into()))?;
    let inner = DirFiles::confined(&dir).map_err(|error| BuildError::Folder(error.to_string()))?;
    let recorder = Recorder { inner, read: RefCell::default() };
    let mut compose = ComposeOptions {
        files: options.compose.clone(),
        project_directory: root.to_owned(),
        confined: true,
        ..ComposeOptions::default()
    };
    let Some(section) = kedge_compose::extension(&recorder, &compose, EXTENSION)? else {
        return Err(BuildError::Declaration(format!(
            "the compose file has no top-level `{EXTENSION}` section"
        )));
    };
    let declared = Declaration::from_value(&section).map_err(BuildError::Declaration)?;
    compose.files = match (options.compose.is_empty(), declared.compose.is_empty()) {
        (false, _) => options.compose.clone(),
        (true, false) => declared.compose.clone(),
        (true, true) => recorder
            .read
            .borrow()
            .iter()
            .filter_map(|path| paths::within(root, path))
            .map(str::to_owned)
            .collect(),
    };
    let env_files = match &declared.env {
        Some(files) => files.clone(),
        None if dir.join(".env").is_file() => vec![".env".into()],
        None => Vec::new(),
    };
    let product = declared
        .product(options.version.as_deref(), compose.files.clone(), env_files.clone())
        .map_err(BuildError::Declaration)?;

    compose.env_files = env_files;
    compose.profiles = declared.profiles.clone();
    compose.project_name = Some(product.product.replace('.', "-"));
    compose.environment =
        declared.parameters.iter().map(|(name, one)| (name.clone(), stand_in(one))).collect();
    let loaded = kedge_compose::load(&recorder, &compose)?;

    let services = loaded.project.services.keys().map(String::as_str);
    crate::collectors::check_services(&product.diagnostics, services).map_err(BuildError::Declaration)?;

    let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let mut wanted: BTreeSet<String> = product.compose.iter().chain(&product.env_files).cloned().collect();
    for path in recorder.read.borrow().iter() {
        wanted.insert(inside(root, path)?);
    }
    mounted(&loaded.project, root, &mut wanted, &mut warnings)?;
    let files = wanted.iter().map(|path| file(&dir, path)).collect::<Result<_, _>>()?;
    let images = images(&loaded.project, &declared, &options.images)?;
    Ok(Loaded { product, files, images, warnings })
}

/// A value to load the project with where the customer will give one; it ends up nowhere.
fn stand_in(parameter: &Parameter) -> String {
    let given = parameter.default.clone().or_else(|| parameter.options.first().cloned());
    given.unwrap_or_else(|| match parameter.kind {
        ParameterKind::Integer => parameter.min.unwrap_or(1).to_string(),
        ParameterKind::Boolean => "true".into(),
        ParameterKind::String | ParameterKind::Secret => "stand-in".into(),
    })
}

/// Where each image comes from: the command line, then `x-kedge`, then the engine.
fn images(
    project: &Project,
    declared: &Declaration,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, BuildError> {
    let services = project.services.values().flat_map(Service::images);
    let used: BTreeSet<&str> = services.chain(declared.tools.as_deref()).collect();
    for reference in declared.images.keys().chain(given.keys()) {
        if !used.contains(reference.as_str()) {
            let used: Vec<_> = used.into_iter().collect();
            let reason = format!("images: no service uses {reference:?}; they use {}", used.join(", "));
            return Err(BuildError::Declaration(reason));
        }
    }
    let source = |reference: &str| given.get(reference).or_else(|| declared.images.get(reference)).cloned();
    Ok(used
        .into_iter()
        .filter(|reference| !reference.is_empty())
        .map(|reference| (reference.to_owned(), source(reference).unwrap_or_else(|| "engine".into())))
        .collect())
}

/// Adds the files that containers mount.
fn mounted(
    project: &Project,
    root: &str,
    wanted: &mut BTreeSet<String>,
    warnings: &mut Vec<String>,
) -> Result<(), BuildError> {
    for (name, secret) in &project.secrets {
        if let FileSource::File(path) = &secret.source {
            return Err(BuildError::Folder(format!(
                "secret {name} comes from the file {path}, and what is in a bundle is not secret; \
                 declare a parameter of type secret and use `environment:` instead"
            )));
        }
    }
    for config in project.configs.values() {
        if let FileSource::File(path) = &config.source {
            wanted.insert(inside(root, path)?);
        }
    }
    for (name, service) in &project.services {
        for mount in service.volumes.iter().filter(|mount| mount.kind == MountKind::Bind) {
            let Some(source) = &mount.source else { continue };
            let Some(within) = paths::within(root, source) else {
                warnings
                    .push(format!("service {name} mounts {source}, which each customer's host must have"));
                continue;
            };
            // The folder itself is "." within it; paths below it must not begin with that.
            let path = if within == "." { PathBuf::from(root) } else { Path::new(root).join(within) };
            if path.is_file() {
                wanted.insert(within.to_owned());
            } else if path.is_dir() {
                folder(root, &path, wanted)?;
            }
        }
    }
    Ok(())
}

/// Adds every file of a folder.
fn folder(root: &str, path: &Path, wanted: &mut BTreeSet<String>) -> Result<(), BuildError> {
    for entry in fs::read_dir(path).map_err(BuildError::file(path))? {
        let entry = entry.map_err(BuildError::file(path))?;
        let inner = entry.path();
        let kind = entry.file_type().map_err(BuildError::file(&inner))?;
        if kind.is_dir() {
            folder(root, &inner, wanted)?;
        } else if kind.is_file() {
            wanted.insert(inside(root, &inner.to_string_lossy())?);
        } else {
            let shown = inner.display();
            return Err(BuildError::Folder(format!(
                "{shown} is mounted, but is neither a file nor a folder"
            )));
        }
        if wanted.len() > limits::FILES {
            let shown = path.display();
            let most = limits::FILES;
            return Err(BuildError::Folder(format!(
                "{shown} holds more than the {most} files that a bundle may have; put them into an image"
            )));
        }
    }
    Ok(())
}

/// The path within the project, for a file that has to be in the bundle.
fn inside(root: &str, path: &str) -> Result<String, BuildError> {
    let within = paths::within(root, path).map(str::to_owned);
    within.ok_or_else(|| BuildError::Folder(format!("{path} is outside the project's folder; move it there")))
}

fn file(dir: &Path, path: &str) -> Result<FileInput, BuildError> {
    let place: PathBuf = dir.join(path);
    let real = place.canonicalize().map_err(BuildError::file(&place))?;
    let meta = fs::metadata(&real).map_err(BuildError::file(&place))?;
    if !real.starts_with(dir) || !meta.is_file() {
        return Err(BuildError::Folder(format!("{path} is not a file within the project's folder")));
    }
    if meta.len() > limits::FILE {
        let most = limits::FILE;
        return Err(BuildError::Folder(format!(
            "{path} has {} bytes, more than {most}; put it into an image",
            meta.len()
        )));
    }
    let bytes = fs::read(&real).map_err(BuildError::file(&place))?;
    Ok(FileInput { path: path.into(), bytes, executable: meta.permissions().mode() & 0o111 != 0 })
}
