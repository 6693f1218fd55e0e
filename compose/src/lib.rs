//! Compose files, read strictly: YAML in, a typed [`model::Project`] or errors that name file, line and column out.
//!
//! Pure: no clock, no network, no Docker, and files only through [`Files`], so that the same code reads a developer's
//! folder and the files of a signed bundle. The map, in the order in which things happen:
//!
//! | module | does |
//! |---|---|
//! | [`files`], [`paths`] | where files come from, confined or not; paths as text |
//! | `parse`, `scalar`, `node` | YAML to a tree that knows its places; scalars as go-yaml reads them |
//! | `interpolate`, `dotenv` | variables in values; env files |
//! | `extends`, `include`, `merge` | several services and files become one |
//! | `schema` | the table of all keys: checked against, and printed by |
//! | `canonical` | short forms written out: ports, mounts, command lines, sizes, durations |
//! | `finish`, `validate` | defaults, absolute paths, profiles, env files; references and contradictions |
//! | `convert` | the tree to the [`model`] |
//! | `load` | the stages in order |
//! | `budget` | how much a load may cost, whatever its files say |
//! | `references` | what a project refers to, without loading it |
//! | [`diagnostics`], [`codes`] | what is wrong, where, and what to do |
//!
//! What is accepted and how it is understood is what Docker Compose 2.26.1 accepts and understands, with later keys
//! of the specification added. [`config`] prints the project as it would; [`load`] goes on to the model and refuses
//! what cannot be honoured on a customer's host.

mod budget;
mod canonical;
pub mod codes;
mod convert;
pub mod diagnostics;
mod dotenv;
mod extends;
pub mod files;
mod finish;
mod include;
mod interpolate;
mod load;
mod merge;
pub mod model;
mod node;
mod parse;
pub mod paths;
mod references;
mod scalar;
mod schema;
mod validate;
mod values;

use std::collections::BTreeMap;

pub use diagnostics::{Diagnostic, Errors};
pub use files::{DirFiles, FileError, FileKind, Files, MemoryFiles};
pub use interpolate::Variable;
pub use schema::service_keys;

/// What to load, and with which values.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Compose files, later ones laid over earlier ones; absolute, or relative to `project_directory`. Empty looks for
    /// `compose.yaml` and its kin there and, unless confined, in the folders above.
    pub files: Vec<String>,
    /// The project's folder, absolute when host paths are to be; empty takes the folder of the first file.
    pub project_directory: String,
    /// Name of the project; `None` takes `COMPOSE_PROJECT_NAME`, then `name:`, then the folder's name.
    pub project_name: Option<String>,
    /// Active profiles; `*` is all. Empty takes `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// Variables. They win over those of `env_files`. `HOME` is what `~` stands for.
    pub environment: BTreeMap<String, String>,
    /// Files with further variables, absolute or relative to `project_directory`; empty takes its `.env`, when there is one.
    pub env_files: Vec<String>,
    /// Refuse files outside `project_directory`: what a bundle says is not to read the host's files.
    pub confined: bool,
}

impl Options {
    /// Makes all paths absolute as seen from `folder`: what a command line does with its working directory.
    #[must_use]
    pub fn seen_from(mut self, folder: &str) -> Self {
        for path in self.files.iter_mut().chain(&mut self.env_files) {
            *path = paths::join(folder, path);
        }
        if !self.project_directory.is_empty() || self.files.is_empty() {
            self.project_directory = paths::join(folder, &self.project_directory);
        }
        self
    }
}

/// A project, loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What the planner works from.
    pub project: model::Project,
    /// What `docker compose config --format json` prints.
    pub canonical: serde_json::Value,
    /// What is worth knowing and no error.
    pub warnings: Vec<Diagnostic>,
}

/// A project as Docker Compose would print it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What `docker compose config --format json` prints.
    pub canonical: serde_json::Value,
    /// What is worth knowing and no error.
    pub warnings: Vec<Diagnostic>,
}

/// Loads a project to be run.
///
/// # Errors
/// All that is wrong with it, keys that cannot be honoured on a customer's host included.
pub fn load(files: &dyn Files, options: &Options) -> Result<Loaded, Errors> {
    let mut loader = load::Loader::new(files, options);
    let Ok(raw) = load::load(&mut loader, options) else {
        return Err(loader.findings.into_errors(&loader.sources));
    };
    convert::refuse(&raw.root, &mut loader);
    let project = convert::project(&raw, &mut loader.findings);
    if loader.findings.stop_on_errors().is_err() {
        return Err(loader.findings.into_errors(&loader.sources));
    }
    let canonical = schema::render::project(&raw.root);
    Ok(Loaded { project, canonical, warnings: loader.findings.into_warnings(&loader.sources) })
}

/// Loads a project only to print it: what cannot be honoured on a customer's host, such as `build`, is printed too.
///
/// # Errors
/// All that is wrong with it.
pub fn config(files: &dyn Files, options: &Options) -> Result<Config, Errors> {
    let mut loader = load::Loader::new(files, options);
    match load::load(&mut loader, options) {
        Ok(raw) => Ok(Config {
            canonical: schema::render::project(&raw.root),
            warnings: loader.findings.into_warnings(&loader.sources),
        }),
        Err(_) => Err(loader.findings.into_errors(&loader.sources)),
    }
}

/// A top-level extension such as `x-kedge`, as written: read before variables are filled in, since it may say which
/// variables there are. Over several files, mappings merge by key and anything else is replaced. Included files do
/// not count.
///
/// # Errors
/// When a file is missing or not readable as YAML.
pub fn extension(
    files: &dyn Files,
    options: &Options,
    key: &str,
) -> Result<Option<serde_json::Value>, Errors> {
    let mut loader = load::Loader::new(files, options);
    let directory = load::find_project(&loader, options);
    match load::parse_files(&mut loader, options, &directory) {
        Ok(parsed) => Ok(load::merged_extension(&parsed, key).as_ref().map(schema::render::plain)),
        Err(_) => Err(loader.findings.into_errors(&loader.sources)),
    }
}

/// The variables that the project refers to, by name, those of included and extended files too; not those inside the
/// top-level extensions named in `except`. Files whose path itself comes from a variable are not looked into.
///
/// # Errors
/// When a file is missing or not readable as YAML.
pub fn variables(files: &dyn Files, options: &Options, except: &[&str]) -> Result<Vec<Variable>, Errors> {
    let mut loader = load::Loader::new(files, options);
    match references::variables(&mut loader, options, except) {
        Ok(found) => Ok(found),
        Err(_) => Err(loader.findings.into_errors(&loader.sources)),
    }
}
