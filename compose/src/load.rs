//! The stages of loading, in order: read and parse; per file fill in variables, extends, include, merge, check, write
//! out short forms; then defaults, paths, implied settings, profiles, consistency, and the result.

use std::collections::BTreeMap;

use crate::budget::{Budget, Weight};
use crate::canonical;
use crate::codes;
use crate::diagnostics::{At, Finding, Findings, Sources, Stop};
use crate::extends::Bases;
use crate::files::{FileError, FileKind, Files};
use crate::interpolate::{self, Environment, Lookup};
use crate::merge::{self, Resets};
use crate::node::{Node, Value};
use crate::{Options, dotenv, finish, parse, paths, schema};

/// Bytes of a compose file.
pub(crate) const MAX_COMPOSE_FILE: u64 = 4 << 20;
/// Bytes of an env or label file.
pub(crate) const MAX_ENV_FILE: u64 = 1 << 20;
/// Files that one load opens, included and extended ones counted as often as they are used.
const MAX_FILES: usize = 256;

/// Services of a project, included ones counted.
const MAX_SERVICES: usize = 1000;

/// Names looked for when no file is named, the first one found being taken; then its override.
const DEFAULT_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const DEFAULT_OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What a load has at hand and gathers.
pub(crate) struct Loader<'a> {
    files: &'a dyn Files,
    /// Folder that files must be in, when confined.
    confines: Option<String>,
    /// Number of files opened.
    opened: usize,
    pub(crate) budget: Budget,
    pub(crate) sources: Sources,
    pub(crate) findings: Findings,
    /// What services extend, by file.
    pub(crate) bases: Bases,
}

/// Where the files of a project, or of an included one, stand.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Folder that relative paths are seen from.
    pub(crate) directory: String,
    /// Values of variables.
    pub(crate) environment: Environment,
    /// Files that led here, for cycles.
    pub(crate) trail: Vec<String>,
}

/// A project before it is turned into JSON or the model.
pub(crate) struct Raw {
    pub(crate) root: Node,
    pub(crate) name: String,
}

/// A parsed file.
pub(crate) struct Parsed {
    pub(crate) path: String,
    pub(crate) file: u32,
    pub(crate) documents: Vec<Node>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(files: &'a dyn Files, options: &Options) -> Self {
        let confines = options.confined.then(|| project_directory(options));
        Self {
            files,
            confines,
            opened: 0,
            budget: Budget::default(),
            sources: Sources::default(),
            findings: Findings::default(),
            bases: Bases::default(),
        }
    }

    pub(crate) fn fail<T>(&mut self, finding: Finding) -> Result<T, Stop> {
        self.findings.error(finding);
        Err(Stop)
    }

    /// Counts what is about to be made.
    pub(crate) fn spend(&mut self, weight: Weight, at: At) -> Result<(), Stop> {
        self.budget.spend(weight, at).or_else(|finding| self.fail(finding))
    }

    /// Whether a path is within the confines, by name.
    pub(crate) fn is_allowed(&self, path: &str) -> bool {
        self.confines.as_ref().is_none_or(|root| paths::within(root, &paths::clean(path)).is_some())
    }

    pub(crate) fn kind(&self, path: &str) -> Option<FileKind> {
        if self.is_allowed(path) { self.files.kind(path) } else { None }
    }

    /// Reads a file that is referred to at `at`.
    pub(crate) fn read(&mut self, path: &str, limit: u64, at: At) -> Result<String, Stop> {
        self.opened += 1;
        if self.opened > MAX_FILES {
            return self.fail(Finding::new(
                &codes::LIMIT,
                at,
                format!("more than {MAX_FILES} files are read"),
            ));
        }
        let read = if self.is_allowed(path) {
            self.files.read(path, limit)
        } else {
            Err(FileError::Escapes(path.into()))
        };
        let content = match read {
            Ok(content) => content,
            Err(error) => {
                let code = match error {
                    FileError::Escapes(_) => &codes::ESCAPES,
                    FileError::TooLarge { .. } => &codes::LIMIT,
                    FileError::Missing(_) | FileError::Io { .. } => &codes::FILE_MISSING,
                };
                return self.fail(Finding::new(code, at, error.to_string()));
            }
        };
        self.spend(Weight::text(content.len()), at)?;
        match String::from_utf8(content) {
            Ok(text) => Ok(text),
            Err(_) => self.fail(Finding::new(&codes::UNREADABLE, at, format!("{path}: not UTF-8 text"))),
        }
    }

    /// Reads and parses a compose file that is referred to at `at`.
    pub(crate) fn parse(&mut self, path: &str, at: At) -> Result<Parsed, Stop> {
        let text = self.read(path, MAX_COMPOSE_FILE, at)?;
        let file = self.sources.add(path, &text);
        match parse::parse(&text, file, &mut self.budget) {
            Ok(documents) => Ok(Parsed { path: path.to_owned(), file, documents }),
            Err(finding) => self.fail(finding),
        }
    }

    /// Reads an env or label file that is referred to at `at`.
    pub(crate) fn env_file<'e>(
        &mut self,
        path: &str,
        raw: bool,
        lookup: Lookup<'_, 'e>,
        at: At,
    ) -> Result<BTreeMap<String, String>, Stop> {
        let text = self.read(path, MAX_ENV_FILE, at)?;
        let file = self.sources.add(path, "");
        let parsed = if raw { dotenv::parse_raw(&text, lookup) } else { dotenv::parse(&text, lookup) };
        let values = parsed.or_else(|malformed| {
            let at = At { file, line: malformed.line, column: 1 };
            self.fail(match malformed.reason {
                dotenv::Reason::Text(reason) => Finding::new(&codes::UNREADABLE, at, reason),
                dotenv::Reason::Variable(problem) => interpolate::finding(&problem, at),
            })
        })?;
        let weight = values.iter().map(|(key, value)| Weight::value(key.len() + value.len())).sum();
        self.spend(weight, at)?;
        Ok(values)
    }

    /// Adds the variables of env files to an environment, whose own values win.
    pub(crate) fn add_env_files(
        &mut self,
        environment: &mut Environment,
        files: &[(String, At)],
    ) -> Result<(), Stop> {
        let mut added = Environment::new();
        for (path, at) in files {
            let values = self.env_file(
                path,
                false,
                &|name| environment.get(name).or_else(|| added.get(name)).map(String::as_str),
                *at,
            )?;
            added.extend(values);
        }
        for (key, value) in added {
            environment.entry(key).or_insert(value);
        }
        Ok(())
    }

    /// One project or included project: its files merged, defaults set and paths made absolute.
    pub(crate) fn load_files(&mut self, files: Vec<Parsed>, scope: &Scope) -> Result<Node, Stop> {
        let mut project = merge::empty();
        for file in files {
            project = self.load_file(file, project, scope)?;
        }
        finish::defaults(&mut project);
        finish::resolve_paths(&mut project, &scope.directory, &scope.environment, &mut self.findings);
        finish::bare_variables(&mut project, &scope.environment);
        Ok(project)
    }

    fn load_file(&mut self, file: Parsed, mut project: Node, scope: &Scope) -> Result<Node, Stop> {
        for mut document in file.documents {
            self.prepare(&mut document, file.file)?;
            let resets = Resets::take_from(&mut document);
            interpolate::apply(&mut document, &scope.environment, &mut self.findings, &mut self.budget);
            self.extend_services(&mut document, &file.path, scope, &resets)?;
            resets.apply(&mut project);
            self.include(&mut document, &file.path, scope)?;
            project = match merge::merge(project, document, &mut Vec::new()) {
                Ok(merged) => merged,
                Err(finding) => return self.fail(finding),
            };
            let services =
                project.get("services").and_then(Node::as_map).map_or(0, |services| services.len());
            if services > MAX_SERVICES {
                let message = format!("the project has more than {MAX_SERVICES} services");
                return self.fail(Finding::new(&codes::LIMIT, project.at, message));
            }
            merge::unique(&mut project);
            schema::check::project(&mut project, &mut self.findings);
            self.findings.stop_on_errors()?;
            if let Some(version) = project.as_map_mut().and_then(|map| map.remove("version")) {
                let finding =
                    Finding::new(&codes::NOT_HANDLED, version.key, "`version` has no meaning any more");
                self.findings.warn(finding.help("remove it"));
            }
            canonical::apply(&mut project, &mut self.findings);
            merge::unique(&mut project);
            self.findings.stop_on_errors()?;
            canonical::check_size(&project, &mut self.findings);
            self.findings.stop_on_errors()?;
        }
        Ok(project)
    }

    /// A compose file is a mapping.
    pub(crate) fn prepare(&mut self, document: &mut Node, file: u32) -> Result<(), Stop> {
        if document.as_map().is_some() {
            return Ok(());
        }
        let at = if document.is_null() { At { file, line: 0, column: 0 } } else { document.at };
        let message = format!("a compose file must be a mapping, and this is {}", document.kind());
        self.fail(Finding::new(&codes::UNREADABLE, at, message))
    }
}

/// The project's folder. Where no file is named and nothing confines us, it is the nearest folder upwards that has a
/// compose file, so that commands work from inside of a project.
pub(crate) fn find_project(loader: &Loader<'_>, options: &Options) -> String {
    let start = project_directory(options);
    if !options.files.is_empty() || options.confined || !paths::is_absolute(&start) {
        return start;
    }
    let mut folder = start.clone();
    while default_file(loader, &folder, &DEFAULT_FILES).is_none() {
        if folder == "/" {
            return start;
        }
        folder = paths::parent(&folder);
    }
    folder
}

fn default_file(loader: &Loader<'_>, folder: &str, names: &[&str]) -> Option<String> {
    let mut files = names.iter().map(|name| paths::join(folder, name));
    files.find(|path| loader.kind(path) == Some(FileKind::File))
}

/// The project's folder as the options say it: as given, else that of the first file.
pub(crate) fn project_directory(options: &Options) -> String {
    if !options.project_directory.is_empty() {
        return paths::clean(&options.project_directory);
    }
    options.files.first().map_or_else(|| ".".to_owned(), |file| paths::parent(&paths::clean(file)))
}

/// Everything up to the consistency check.
pub(crate) fn load(loader: &mut Loader<'_>, options: &Options) -> Result<Raw, Stop> {
    let directory = find_project(loader, options);
    let files = parse_files(loader, options, &directory)?;
    let mut environment = options.environment.clone();
    let env_files = env_files(loader, options, &directory);
    loader.add_env_files(&mut environment, &env_files)?;
    let name = project_name(loader, options, &files, &environment, &directory)?;
    environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    let profiles = profiles(options, &environment);

    let trail = files.iter().map(|file| file.path.clone()).collect();
    let scope = Scope { directory, environment, trail };
    let mut root = loader.load_files(files, &scope)?;
    if root.as_map().is_none_or(|map| map.is_empty()) {
        return loader.fail(Finding::new(&codes::UNREADABLE, At::default(), "the compose file is empty"));
    }
    finish::normalise(&mut root, &name, &scope.environment);
    loader.findings.stop_on_errors()?;

    let disabled = finish::disable_by_profile(&mut root, &profiles);
    crate::validate::check(&root, &disabled, &mut loader.findings);
    loader.findings.stop_on_errors()?;
    finish::resolve_env_files(loader, &mut root, &scope.environment)?;
    loader.findings.stop_on_errors()?;
    finish::drop_unused(&mut root);
    Ok(Raw { root, name })
}

/// The project's own files, parsed; all errors of all files.
pub(crate) fn parse_files(
    loader: &mut Loader<'_>,
    options: &Options,
    directory: &str,
) -> Result<Vec<Parsed>, Stop> {
    let named: Vec<String> = if options.files.is_empty() {
        let Some(main) = default_file(loader, directory, &DEFAULT_FILES) else {
            let message = format!("no compose file in {directory}");
            let help = format!("add one of {}, or name the file", DEFAULT_FILES.join(", "));
            return loader.fail(Finding::new(&codes::FILE_MISSING, At::default(), message).help(help));
        };
        let over = default_file(loader, directory, &DEFAULT_OVERRIDES);
        [Some(main), over].into_iter().flatten().collect()
    } else if options.project_directory.is_empty() {
        options.files.iter().map(|file| paths::clean(file)).collect()
    } else {
        options.files.iter().map(|file| paths::join(directory, file)).collect()
    };
    let parsed: Vec<Result<Parsed, Stop>> =
        named.iter().map(|path| loader.parse(path, At::default())).collect();
    parsed.into_iter().collect()
}

fn env_files(loader: &Loader<'_>, options: &Options, directory: &str) -> Vec<(String, At)> {
    if !options.env_files.is_empty() {
        return options.env_files.iter().map(|file| (paths::join(directory, file), At::default())).collect();
    }
    let default = paths::join(directory, ".env");
    match loader.kind(&default) {
        Some(FileKind::File) => vec![(default, At::default())],
        _ => Vec::new(),
    }
}

fn profiles(options: &Options, environment: &Environment) -> Vec<String> {
    if !options.profiles.is_empty() {
        return options.profiles.clone();
    }
    let given = environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
    given.split(',').map(|profile| profile.trim().to_owned()).filter(|profile| !profile.is_empty()).collect()
}

/// The name: as given, else `COMPOSE_PROJECT_NAME`, else `name:`, else the folder's.
fn project_name(
    loader: &mut Loader<'_>,
    options: &Options,
    files: &[Parsed],
    environment: &Environment,
    directory: &str,
) -> Result<String, Stop> {
    let set = |name: &&String| !name.is_empty();
    let given = options.project_name.as_ref().filter(set);
    let given = given.or_else(|| environment.get("COMPOSE_PROJECT_NAME").filter(set));
    if let Some(given) = given {
        if normal_name(given) != *given {
            let message = format!("`{given}` is not a project name");
            let help = "use lower-case letters, digits, `-` and `_`, starting with a letter or digit";
            return loader.fail(Finding::new(&codes::NAME, At::default(), message).help(help));
        }
        return Ok(given.clone());
    }
    let documents = files.iter().flat_map(|file| &file.documents);
    let named = documents
        .filter_map(|document| document.get("name")?.as_str().map(|name| (name, document.get("name"))))
        .rfind(|(name, _)| !name.is_empty());
    // A malformed name is told when its file is filled in.
    let (candidate, at) = match named {
        Some((name, node)) => {
            let filled = interpolate::substitute(name, &|name| environment.get(name).map(String::as_str));
            let filled = filled.map(|filled| filled.text);
            (filled.unwrap_or_else(|_| "x".to_owned()), node.map_or_else(At::default, |node| node.at))
        }
        None => (paths::file_name(directory).to_owned(), At::default()),
    };
    let name = normal_name(&candidate);
    if name.is_empty() {
        let finding = Finding::new(&codes::NAME, at, "the project has no name");
        return loader.fail(finding.help("set `name:` in the compose file, or give a project name"));
    }
    Ok(name)
}

/// Lower-case, characters that Docker does not allow left out, `_` and `-` trimmed from the start.
pub(crate) fn normal_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Value of a top-level extension over several files: mappings merge by key, anything else is replaced.
pub(crate) fn merged_extension(files: &[Parsed], key: &str) -> Option<Node> {
    fn lay_over(base: Node, over: Node) -> Node {
        match (base, over) {
            (
                Node { value: Value::Map(mut base), .. },
                Node { value: Value::Map(over), at, mark, substituted },
            ) => {
                for (key, mut entry) in over {
                    if let Some(before) = base.remove(&key) {
                        entry.node = lay_over(before.node, entry.node);
                    }
                    base.insert(key, entry);
                }
                Node { value: Value::Map(base), at, mark, substituted }
            }
            (_, over) => over,
        }
    }
    let documents = files.iter().flat_map(|file| &file.documents);
    documents.filter_map(|document| document.get(key).cloned()).reduce(lay_over)
}
