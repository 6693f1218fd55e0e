//! Collectors: what a product wants gathered into a diagnostics bundle besides what every bundle holds.
//!
//! The vendor declares them as `diagnostics` of the `x-kedge` section, and whoever builds the bundle sees the mistakes. A
//! collector runs a command beside a service, reads a file of a service's container, or asks a service over HTTP; how long it may
//! take and how much it may say is bounded. The customer sees each result and decides whether it leaves.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::product::seconds;

/// Most collectors of a product.
pub const MOST: usize = 32;
/// The longest that one may take, seconds.
pub const LONGEST: u64 = 60;
/// The most that one may give, bytes.
pub const MOST_BYTES: u64 = 1 << 20;

/// What is usual, seconds and bytes.
const USUAL: (u64, u64) = (10, 256 << 10);
/// Most words of a command, and bytes of one.
const WORDS: (usize, usize) = (64, 1024);
/// Longest path, bytes.
const PATH: usize = 512;

/// A collector, as the bundle carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// The service.
    pub service: String,
    /// What is gathered there.
    #[serde(flatten)]
    pub source: Source,
    /// How long it may take, 1 to [`LONGEST`].
    pub timeout_seconds: u64,
    /// How much it may give, 1 to [`MOST_BYTES`]; of more, the end is kept.
    pub max_bytes: u64,
}

/// Where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// What these words say, run by no shell in a container beside the service.
    Command(Vec<String>),
    /// A file in the service's own container.
    File(String),
    /// What the service answers.
    Http {
        /// The port that it listens on, within its own network.
        port: u16,
        /// With the `/` that it begins with.
        path: String,
    },
}

/// A collector, as the compose file declares it: a service, and one of `command`, `file` and `http`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredCollector {
    /// The service.
    pub service: String,
    /// Words of a command.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Path of a file.
    #[serde(default)]
    pub file: Option<String>,
    /// Port and path, `8080/metrics`.
    #[serde(default)]
    pub http: Option<String>,
    /// As `90s`; 10 seconds where nothing is said.
    #[serde(default)]
    pub timeout: Option<String>,
    /// 262144 where nothing is said.
    #[serde(default)]
    pub max_bytes: Option<u64>,
}

impl DeclaredCollector {
    /// The collector that it declares. `name` is its own.
    ///
    /// # Errors
    /// What is wrong, as a sentence that names the key.
    pub(crate) fn collector(&self, name: &str) -> Result<Collector, String> {
        let key = |key: &str| format!("diagnostics.{name}.{key}");
        let source = match (&self.command, &self.file, &self.http) {
            (Some(words), None, None) => Source::Command(words.clone()),
            (None, Some(path), None) => Source::File(path.clone()),
            (None, None, Some(place)) => {
                let (port, path) = place.split_once('/').unwrap_or((place, ""));
                let port = port
                    .parse()
                    .map_err(|_| format!("{}: use a port and a path, such as 8080/metrics", key("http")))?;
                Source::Http { port, path: format!("/{path}") }
            }
            _ => return Err(format!("diagnostics.{name}: give one of command, file and http")),
        };
        Ok(Collector {
            service: self.service.clone(),
            source,
            timeout_seconds: seconds(&key("timeout"), self.timeout.as_deref(), USUAL.0)?,
            max_bytes: self.max_bytes.unwrap_or(USUAL.1),
        })
    }
}

/// Checks the rules that collectors keep by themselves.
pub(crate) fn check(all: &BTreeMap<String, Collector>) -> Result<(), String> {
    if all.len() > MOST {
        return Err(format!("diagnostics: more than {MOST}"));
    }
    for (name, collector) in all {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=40).contains(&name.len()) || !name.chars().all(is_plain) || name.starts_with('-') {
            return Err(format!("diagnostics: {name:?} is no name: use 1 to 40 of a to z, 0 to 9 and -"));
        }
        collector.check().map_err(|why| format!("diagnostics.{name}: {why}"))?;
    }
    Ok(())
}

/// Checks that each is of a service that there is.
///
/// # Errors
/// The first that is not, and what there is.
pub fn check_services<'a>(
    all: &BTreeMap<String, Collector>,
    services: impl IntoIterator<Item = &'a str>,
) -> Result<(), String> {
    let services: BTreeSet<&str> = services.into_iter().collect();
    match all.iter().find(|(_, collector)| !services.contains(collector.service.as_str())) {
        None => Ok(()),
        Some((name, collector)) => {
            let there = services.into_iter().collect::<Vec<_>>().join(", ");
            Err(format!("diagnostics.{name}: there is no service {:?}; there are {there}", collector.service))
        }
    }
}

impl Collector {
    fn check(&self) -> Result<(), String> {
        if self.service.is_empty() || self.service.len() > 128 || self.service.contains(char::is_control) {
            return Err("service: name one".into());
        }
        if !(1..=LONGEST).contains(&self.timeout_seconds) {
            return Err(format!("timeout: use 1 to {LONGEST} s"));
        }
        if !(1..=MOST_BYTES).contains(&self.max_bytes) {
            return Err(format!("max_bytes: use 1 to {MOST_BYTES}"));
        }
        match &self.source {
            Source::Command(words) => {
                let is_bad = |word: &String| word.len() > WORDS.1 || word.contains('\0');
                if words.first().is_none_or(String::is_empty)
                    || words.len() > WORDS.0
                    || words.iter().any(is_bad)
                {
                    return Err(format!("command: use 1 to {} words of at most {} bytes", WORDS.0, WORDS.1));
                }
            }
            Source::File(path) => {
                let is_whole = path.starts_with('/') && !path.ends_with('/');
                let is_straight = path.split('/').all(|part| part != ".." && part != ".");
                if !is_whole || !is_straight || path.len() > PATH || path.contains(char::is_control) {
                    return Err("file: use the whole path of a file, without . and ..".into());
                }
            }
            Source::Http { port, path } => {
                let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
                if *port == 0 || !path.starts_with('/') || path.len() > PATH || !is_plain {
                    return Err("http: use a port and a path, such as 8080/metrics".into());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Collector, String> {
        let declared: DeclaredCollector = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let collector = declared.collector("one")?;
        check(&[("one".to_owned(), collector.clone())].into())?;
        Ok(collector)
    }

    #[test]
    fn a_declaration_becomes_a_collector_that_reads_back() {
        for (value, source) in [
            (
                json!({"service": "db", "command": ["psql", "-c", "select 1"]}),
                Source::Command(vec!["psql".into(), "-c".into(), "select 1".into()]),
            ),
            (
                json!({"service": "web", "file": "/etc/nginx/nginx.conf"}),
                Source::File("/etc/nginx/nginx.conf".into()),
            ),
            (
                json!({"service": "api", "http": "8080/metrics?a=b"}),
                Source::Http { port: 8080, path: "/metrics?a=b".into() },
            ),
            (json!({"service": "api", "http": "8080"}), Source::Http { port: 8080, path: "/".into() }),
        ] {
            let collector = read(value).unwrap();
            assert_eq!((&collector.source, collector.timeout_seconds), (&source, 10));
            let text = serde_json::to_string(&collector).unwrap();
            assert_eq!(serde_json::from_str::<Collector>(&text).unwrap(), collector, "{text}");
        }
        let limits = read(json!({"service": "a", "file": "/x", "timeout": "1m", "max_bytes": 7})).unwrap();
        assert_eq!((limits.timeout_seconds, limits.max_bytes), (60, 7));
    }

    #[test]
    fn mistakes_name_the_key() {
        for (value, word) in [
            (json!({"service": "a"}), "one of"),
            (json!({"service": "a", "file": "/x", "http": "80"}), "one of"),
            (json!({"file": "/x"}), "service"),
            (json!({"service": "", "file": "/x"}), "service"),
            (json!({"service": "a", "files": "/x"}), "files"),
            (json!({"service": "a", "file": "x"}), "file"),
            (json!({"service": "a", "file": "/a/../etc/shadow"}), "file"),
            (json!({"service": "a", "http": "metrics"}), "http"),
            (json!({"service": "a", "http": "0/x"}), "http"),
            (json!({"service": "a", "http": "80/a b"}), "http"),
            (json!({"service": "a", "command": []}), "command"),
            (json!({"service": "a", "command": [""]}), "command"),
            (json!({"service": "a", "file": "/x", "timeout": "soon"}), "timeout"),
            (json!({"service": "a", "file": "/x", "timeout": "61s"}), "timeout"),
            (json!({"service": "a", "file": "/x", "max_bytes": 0}), "max_bytes"),
            (json!({"service": "a", "file": "/x", "max_bytes": 1_048_577}), "max_bytes"),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.contains(word), "{value}: {error}");
        }
        let good = read(json!({"service": "a", "file": "/x"})).unwrap();
        for name in ["", "A", "a/b", "..", "-a", &"a".repeat(41)] {
            assert!(check(&[(name.to_owned(), good.clone())].into()).is_err(), "{name}");
        }
        let many = (0..=MOST).map(|n| (n.to_string(), good.clone())).collect();
        assert!(check(&many).is_err());
        let all = [("one".to_owned(), good)].into();
        assert_eq!(check_services(&all, ["a", "b"]), Ok(()));
        assert!(check_services(&all, ["b"]).unwrap_err().contains("there are b"));
    }
}
