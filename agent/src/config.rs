//! `/etc/kedge/agent.toml`: what an operator may set, with defaults for everything.
//!
//! Read once at start, before any socket is opened. Unknown keys are errors: a misspelt key that is
//! silently ignored is how hosts end up without the rule their owner believes in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::codes;
use crate::problem::Problem;

/// Largest configuration file that is read, bytes.
const MAX_FILE: u64 = 256 * 1024;

/// The agent's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything that must survive lives.
    pub state_dir: PathBuf,
    /// Where the socket lives.
    pub run_dir: PathBuf,
    /// The container engine: `unix:///var/run/docker.sock`.
    pub engine: String,
    /// The customer's rules. A missing file is the strictest: see `guard`.
    pub guard: PathBuf,
    /// HTTP CONNECT proxy for the tether, `http://host:port`; the environment's `HTTPS_PROXY` where unset.
    pub proxy: Option<String>,
    /// Trust on this host.
    pub trust: Trust,
    /// The customer's name for this place, where it is not enrolled (an air gap); enrolment sets it otherwise.
    pub site: Option<String>,
    /// Deployments to follow from the hub, by name.
    pub deployment: BTreeMap<String, Deployment>,
    /// Bounds.
    pub limits: Limits,
    /// Logs.
    pub log: Log,
    /// Where the socket's group may be set, by name or number; the owner's group otherwise.
    pub socket_group: Option<String>,
}

/// `[trust]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// SHA-256 (hex) of the vendor's first root document.
    pub root_sha256: Option<String>,
}

/// `[deployment.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Product.
    pub product: String,
    /// Stream; `stable` by default.
    #[serde(default)]
    pub stream: Option<String>,
    /// Parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, toml::Value>,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Reports kept while the hub cannot be reached. The oldest are folded into a full report beyond that.
    pub outbox_reports: usize,
    /// Free disk that a deployment must leave, bytes.
    pub reserve_bytes: u64,
    /// Engine calls in flight.
    pub parallel_steps: usize,
    /// How full the engine's disk or ours may be before images and content that nothing needs are removed, percent. 100: never.
    pub collect_above_percent: u8,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or a `tracing` filter.
    pub level: String,
    /// JSON lines instead of sentences.
    pub json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/kedge"),
            run_dir: PathBuf::from("/run/kedge"),
            engine: "unix:///var/run/docker.sock".to_owned(),
            guard: PathBuf::from("/etc/kedge/guard.toml"),
            proxy: None,
            trust: Trust::default(),
            site: None,
            deployment: BTreeMap::new(),
            limits: Limits::default(),
            log: Log::default(),
            socket_group: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox_reports: 5_000,
            reserve_bytes: 256 * 1024 * 1024,
            parallel_steps: 8,
            collect_above_percent: 85,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), json: false }
    }
}

impl Config {
    /// Where the configuration is when nothing else is said.
    pub const DEFAULT_PATH: &str = "/etc/kedge/agent.toml";

    /// Reads `path`; a missing file is an error only when it was `asked_for` by name.
    ///
    /// # Errors
    /// [`codes::CONFIG`] with the place in the file.
    pub fn read(path: &Path, asked_for: bool) -> Result<Self, Problem> {
        let failed = |why: String| Problem::new(&codes::CONFIG, format!("{}: {why}", path.display()));
        let size = match std::fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !asked_for => return Ok(Self::default()),
            Err(e) => return Err(failed(e.to_string())),
        };
        if size > MAX_FILE {
            return Err(failed(format!("{size} bytes; at most {MAX_FILE} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    /// Parses and checks the text of a configuration file.
    ///
    /// # Errors
    /// A sentence that says what is wrong, with line and column where the parser knows them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if let Some(sha) = &config.trust.root_sha256
            && (sha.len() != 64 || !sha.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err("trust.root_sha256 must be 64 hexadecimal digits".to_owned());
        }
        if !config.engine.starts_with("unix://") {
            return Err("engine must be a unix socket, such as unix:///var/run/docker.sock".to_owned());
        }
        if config.limits.parallel_steps == 0 || config.limits.outbox_reports == 0 {
            return Err("limits must be at least 1".to_owned());
        }
        if config.limits.collect_above_percent > 100 {
            return Err("limits.collect_above_percent is a percentage, 100 at most".to_owned());
        }
        Ok(config)
    }

    /// The unix socket on which the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("kedge.sock")
    }
}

impl Deployment {
    /// The parameters as text, the way `--set` gives them.
    pub fn parameters_as_text(&self) -> BTreeMap<String, String> {
        self.parameters
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    toml::Value::String(s) => s.clone(),
                    other => other.to_string(),
                };
                (name.clone(), text)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.socket(), Path::new("/run/kedge/kedge.sock"));
        assert_eq!(config.limits.parallel_steps, 8);
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = Config::parse("stat_dir = '/x'").unwrap_err();
        assert!(error.contains("stat_dir"), "{error}");
    }

    #[test]
    fn a_fingerprint_that_is_none_is_refused() {
        let error = Config::parse("[trust]\nroot_sha256 = 'abc'").unwrap_err();
        assert!(error.contains("64 hexadecimal"), "{error}");
    }

    #[test]
    fn an_engine_on_tcp_is_refused() {
        assert!(Config::parse("engine = 'tcp://10.0.0.1:2375'").is_err());
    }

    #[test]
    fn the_shipped_files_say_the_defaults() {
        let shipped = include_str!("../../packaging/etc/agent.toml");
        Config::parse(shipped).unwrap();
        let spelt_out: String = shipped
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
            .filter(|line| !line.contains("root_sha256") && !line.contains("proxy ="))
            .filter(|line| !line.starts_with("site") && !line.starts_with("socket_group"))
            .filter(|line| {
                !line.starts_with("product") && !line.starts_with("stream") && !line.starts_with("param")
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let said = Config::parse(&spelt_out).unwrap();
        assert_eq!(format!("{said:?}"), format!("{:?}", Config::default()));
        let rules: crate::guard::Rules =
            toml::from_str(include_str!("../../packaging/etc/guard.toml")).unwrap();
        assert_eq!(rules, crate::guard::Rules::default());
    }

    #[test]
    fn parameters_keep_their_written_form() {
        let config =
            Config::parse("[deployment.a]\nproduct = 'p'\nparameters = { PORT = 8080, ON = true, S = 'x' }")
                .unwrap();
        let text = config.deployment["a"].parameters_as_text();
        assert_eq!(text["PORT"], "8080");
        assert_eq!(text["ON"], "true");
        assert_eq!(text["S"], "x");
    }
}
