//! Package databases: which files they are, and what they say. Read line by line; a field that is longer than any real one is
//! cut, a file that is not what its name says gives nothing.

use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;

use super::tape::Fault;

/// Longest field that is kept, characters.
const MAX_FIELD: usize = 256;
/// Longest line that is looked at, bytes; the rest of it is skipped.
const MAX_LINE: usize = 8 << 10;
/// Largest `package.json` that is read, bytes.
const MAX_JSON: u64 = 1 << 20;
/// Longest head of a Python package's metadata, bytes.
const MAX_HEAD: u64 = 256 << 10;

/// What kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Debian's, one file for all packages.
    Dpkg,
    /// Debian's, one file for each package, as images without a package manager have it.
    DpkgPart,
    /// Alpine's.
    Apk,
    /// Red Hat's and SUSE's; not read.
    Rpm,
    /// A Python package's metadata.
    Python,
    /// A package of Node.js.
    Npm,
    /// Not a database: which distribution it is.
    OsRelease,
}

impl Kind {
    /// Its name, where it is a database of many packages.
    pub(super) const fn database(self) -> Option<&'static str> {
        match self {
            Self::Dpkg | Self::DpkgPart => Some("dpkg"),
            Self::Apk => Some("apk"),
            Self::Rpm => Some("rpm"),
            Self::Python | Self::Npm | Self::OsRelease => None,
        }
    }
}

/// Who packaged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ecosystem {
    Deb,
    Apk,
    Python,
    Npm,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    pub(super) ecosystem: Ecosystem,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: Option<String>,
    /// The source package, where it has another name.
    pub(super) source: Option<String>,
    /// As the database words it.
    pub(super) licence: Option<String>,
}

impl Package {
    fn new(ecosystem: Ecosystem, name: String, version: String) -> Option<Self> {
        let complete = !name.is_empty() && !version.is_empty();
        let (architecture, source, licence) = (None, None, None);
        complete.then_some(Self { ecosystem, name, version, architecture, source, licence })
    }

    /// What it takes to keep it, about, bytes.
    pub(super) fn weight(&self) -> usize {
        let more = [&self.architecture, &self.source, &self.licence];
        256 + self.name.len()
            + self.version.len()
            + more.iter().filter_map(|one| Some(one.as_ref()?.len())).sum::<usize>()
    }
}

/// Which distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    /// `debian`, `alpine`…
    pub(super) id: String,
    /// `12`, `3.21.3`…
    pub(super) version: String,
}

/// What a file is, by its path.
pub(super) fn kind(path: &str) -> Option<Kind> {
    let (folder, name) = path.rsplit_once('/')?;
    let parent = folder.rsplit('/').next().unwrap_or_default();
    match (path, folder) {
        ("etc/os-release" | "usr/lib/os-release", _) => return Some(Kind::OsRelease),
        ("var/lib/dpkg/status", _) => return Some(Kind::Dpkg),
        ("lib/apk/db/installed" | "usr/lib/apk/db/installed", _) => return Some(Kind::Apk),
        (_, "var/lib/dpkg/status.d") if !name.ends_with(".md5sums") => return Some(Kind::DpkgPart),
        (_, "var/lib/rpm" | "usr/lib/sysimage/rpm" | "usr/share/rpm")
            if matches!(name, "Packages" | "Packages.db" | "rpmdb.sqlite") =>
        {
            return Some(Kind::Rpm);
        }
        _ => {}
    }
    match name {
        "METADATA" if parent.ends_with(".dist-info") => Some(Kind::Python),
        "PKG-INFO" if parent.ends_with(".egg-info") || parent == "EGG-INFO" => Some(Kind::Python),
        _ if name.ends_with(".egg-info") => Some(Kind::Python),
        "package.json" if is_node_package(folder) => Some(Kind::Npm),
        _ => None,
    }
}

/// `…/node_modules/NAME` or `…/node_modules/@SCOPE/NAME`.
fn is_node_package(folder: &str) -> bool {
    let mut parts = folder.rsplit('/');
    let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    !last.starts_with('@')
        && (before == "node_modules" || before.starts_with('@') && parts.next() == Some("node_modules"))
}

/// Reads a file of this kind; what is kept takes at most `most` bytes.
pub(super) fn read(
    kind: Kind,
    content: &mut impl Read,
    size: u64,
    most: usize,
) -> Result<(Vec<Package>, Option<Distribution>), Fault> {
    Ok(match kind {
        Kind::Dpkg | Kind::DpkgPart => (stanzas(content, most, dpkg)?, None),
        Kind::Apk => (stanzas(content, most, apk)?, None),
        Kind::Rpm => (Vec::new(), None),
        Kind::Python => (python(content)?.into_iter().collect(), None),
        Kind::Npm if size > MAX_JSON => (Vec::new(), None),
        Kind::Npm => (npm(content)?.into_iter().collect(), None),
        Kind::OsRelease => (Vec::new(), Some(os_release(content)?)),
    })
}

/// The fields of one stanza, each cut.
#[derive(Default)]
struct Stanza(Vec<(String, String)>);

impl Stanza {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }
}

/// Keys that are looked at, of both databases.
const KEYS: [&str; 10] = ["Package", "Version", "Architecture", "Status", "Source", "P", "V", "A", "L", "o"];

/// Reads `KEY: VALUE` lines in stanzas that blank lines part.
fn stanzas(
    content: &mut impl Read,
    most: usize,
    package: impl Fn(&Stanza) -> Option<Package>,
) -> Result<Vec<Package>, Fault> {
    let mut lines = Lines(BufReader::with_capacity(MAX_LINE, content));
    let (mut packages, mut weight) = (Vec::new(), 0_usize);
    let mut stanza = Stanza::default();
    loop {
        let line = lines.next()?;
        match &line {
            Some(line) if !line.trim().is_empty() => {
                let (key, value) = line.split_once(':').unwrap_or_default();
                // The first of each counts, so a stanza is never larger than its keys.
                if KEYS.contains(&key) && stanza.get(key).is_none() {
                    stanza.0.push((key.to_owned(), clip(value.trim(), MAX_FIELD)));
                }
            }
            _ => {
                if let Some(package) = package(&std::mem::take(&mut stanza)) {
                    weight += package.weight();
                    if weight > most {
                        return Err(Fault::TooMuch);
                    }
                    packages.push(package);
                }
            }
        }
        if line.is_none() {
            return Ok(packages);
        }
    }
}

fn dpkg(stanza: &Stanza) -> Option<Package> {
    // `install ok installed`; removed packages may leave their configuration and their entry behind.
    if stanza.get("Status").is_some_and(|status| status.split_whitespace().next_back() != Some("installed")) {
        return None;
    }
    let package = Package::new(Ecosystem::Deb, stanza.text("Package"), stanza.text("Version"))?;
    // `NAME (VERSION)` where the source's version is another one.
    let source = stanza.get("Source").and_then(|source| source.split_whitespace().next());
    Some(Package {
        architecture: stanza.get("Architecture").map(str::to_owned),
        source: source.filter(|source| *source != package.name).map(str::to_owned),
        ..package
    })
}

fn apk(stanza: &Stanza) -> Option<Package> {
    let package = Package::new(Ecosystem::Apk, stanza.text("P"), stanza.text("V"))?;
    Some(Package {
        architecture: stanza.get("A").map(str::to_owned),
        source: stanza.get("o").filter(|source| *source != package.name).map(str::to_owned),
        licence: stanza.get("L").map(str::to_owned),
        ..package
    })
}

/// The head of a package's metadata, up to the first blank line.
fn python(content: &mut impl Read) -> Result<Option<Package>, Fault> {
    let mut lines = Lines(BufReader::new(content.take(MAX_HEAD)));
    let (mut name, mut version, mut licence) = (String::new(), String::new(), None);
    while let Some(line) = lines.next()?.filter(|line| !line.trim().is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or_default();
        let value = clip(value.trim(), MAX_FIELD);
        match key {
            "Name" if name.is_empty() => name = value,
            "Version" if version.is_empty() => version = value,
            "License-Expression" => licence = Some(value),
            "License" if licence.is_none() && !value.is_empty() && value != "UNKNOWN" => {
                licence = Some(value)
            }
            _ => {}
        }
    }
    Ok(Package::new(Ecosystem::Python, name, version).map(|package| Package { licence, ..package }))
}

/// What a `package.json` says of itself.
#[derive(Deserialize)]
struct NodePackage {
    name: String,
    version: String,
    #[serde(default)]
    license: serde_json::Value,
}

fn npm(content: &mut impl Read) -> Result<Option<Package>, Fault> {
    let mut bytes = Vec::new();
    content.take(MAX_JSON).read_to_end(&mut bytes)?;
    // Tests of packages are full of files of this name that are no package.
    let Ok(found) = serde_json::from_slice::<NodePackage>(&bytes) else { return Ok(None) };
    let licence = found.license.as_str().or_else(|| found.license.get("type")?.as_str());
    let licence = licence.map(|text| clip(text, MAX_FIELD));
    let (name, version) = (clip(&found.name, MAX_FIELD), clip(&found.version, MAX_FIELD));
    Ok(Package::new(Ecosystem::Npm, name, version).map(|package| Package { licence, ..package }))
}

fn os_release(content: &mut impl Read) -> Result<Distribution, Fault> {
    let mut lines = Lines(BufReader::new(content.take(MAX_HEAD)));
    let mut distribution = Distribution::default();
    while let Some(line) = lines.next()? {
        let (key, value) = line.split_once('=').unwrap_or_default();
        let value = || clip(value.trim().trim_matches(['"', '\'']), 64);
        match key {
            "ID" => distribution.id = value(),
            "VERSION_ID" => distribution.version = value(),
            _ => {}
        }
    }
    Ok(distribution)
}

/// Lines, each cut.
struct Lines<R>(R);

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let count = (&mut self.0).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if count == MAX_LINE {
            self.skip_line()?;
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.0.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            match buffer.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.0.consume(end + 1);
                    return Ok(());
                }
                None => {
                    let all = buffer.len();
                    self.0.consume(all);
                }
            }
        }
    }
}

/// A text without control characters, at most so many characters of it.
pub(super) fn clip(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}
