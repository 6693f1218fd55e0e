//! What a support session may do: scopes, and the services it may do it to.
//!
//! A scope has one spelling: what a person types, what the signed request holds and what a customer's rules name is the same
//! text. A scope permits itself and nothing else; in particular a shell is a scope of its own and no superset of commands.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::roles::{name, text};
use crate::words;

/// Most scopes and most targets of one request.
pub const MOST: usize = 32;
/// Most words of a command.
const MOST_WORDS: usize = 64;
/// Longest word of a command, bytes.
const LONGEST_WORD: usize = 1024;

/// One thing that a session may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Look at containers as the engine describes them, without the values of their environment.
    Inspect,
    /// Read what services have logged.
    Logs,
    /// Take a diagnostics bundle.
    Bundle,
    /// Run exactly these words, by no shell.
    Run(Vec<String>),
    /// Have a terminal.
    Shell,
    /// Reach a port of a service, as if from beside it.
    Forward {
        /// The service.
        service: String,
        /// The port that it listens on, within its own network.
        port: u16,
    },
}

impl Scope {
    /// Whether it only reads what is there and starts nothing.
    #[must_use]
    pub const fn reads_only(&self) -> bool {
        matches!(self, Self::Inspect | Self::Logs | Self::Bundle)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inspect => f.write_str("inspect"),
            Self::Logs => f.write_str("logs"),
            Self::Bundle => f.write_str("bundle"),
            Self::Run(argv) => write!(f, "run:{}", words::join(argv)),
            Self::Shell => f.write_str("shell"),
            Self::Forward { service, port } => write!(f, "forward:{service}:{port}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "inspect" => return Ok(Self::Inspect),
            "logs" => return Ok(Self::Logs),
            "bundle" => return Ok(Self::Bundle),
            "shell" => return Ok(Self::Shell),
            _ => {}
        }
        let unknown = || {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
            format!(
                "`{shown}` is no scope: use inspect, logs, bundle, run:COMMAND, shell or forward:SERVICE:PORT"
            )
        };
        if let Some(place) = text.strip_prefix("forward:") {
            return forward(place).ok_or_else(unknown);
        }
        let argv = words::split(text.strip_prefix("run:").ok_or_else(unknown)?)?;
        if argv.first().is_none_or(String::is_empty) {
            return Err("a run scope names no command".into());
        }
        if argv.len() > MOST_WORDS {
            return Err(format!("a run scope has at most {MOST_WORDS} words"));
        }
        if argv.iter().any(|word| word.len() > LONGEST_WORD || word.chars().any(char::is_control)) {
            return Err(format!(
                "a word of a run scope has at most {LONGEST_WORD} bytes and no control characters"
            ));
        }
        Ok(Self::Run(argv))
    }
}

/// `SERVICE:PORT`, in its one spelling.
fn forward(place: &str) -> Option<Scope> {
    let (service, port) = place.rsplit_once(':')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_service = (1..=128).contains(&service.len()) && service.chars().all(is_name);
    let number: u16 = port.parse().ok().filter(|number| *number != 0)?;
    (is_service && number.to_string() == port)
        .then(|| Scope::Forward { service: service.to_owned(), port: number })
}

/// A deployment, or one service of it: `shop`, `shop/api`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The deployment.
    pub deployment: String,
    /// The service; all of the deployment's where none is named.
    pub service: Option<String>,
}

impl Target {
    /// Whether everything that `other` names is named by this.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.deployment == other.deployment && (self.service.is_none() || self.service == other.service)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            None => f.write_str(&self.deployment),
            Some(service) => write!(f, "{}/{service}", self.deployment),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(target: &str) -> Result<Self, String> {
        let (deployment, service) = match target.split_once('/') {
            None => (target, None),
            Some((deployment, service)) => (deployment, Some(service)),
        };
        name("target", deployment)?;
        if let Some(service) = service {
            text("target's service", service, 128)?;
        }
        Ok(Self { deployment: deployment.to_owned(), service: service.map(str::to_owned) })
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            /// One spelling only: two texts never mean the same.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let value: Self = text.parse().map_err(serde::de::Error::custom)?;
                if value.to_string() != text {
                    return Err(serde::de::Error::custom(format_args!("it is spelt `{value}`")));
                }
                Ok(value)
            }
        }
    };
}
as_text!(Scope);
as_text!(Target);

/// Scopes as people type them: parted by commas, `logs,run:'pg_isready -h db',shell`. Quotes hold a command together.
///
/// # Errors
/// The scope that is none.
pub fn parse_scopes(line: &str) -> Result<BTreeSet<Scope>, String> {
    let mut scopes = BTreeSet::new();
    for part in parts(line)? {
        // `run:'pg_isready -h db'` is the command in quotes, not a program with spaces in its name.
        let scope = match part.strip_prefix("run:").map(words::split).transpose()? {
            Some(words) if words.len() == 1 => Scope::from_str(&format!("run:{}", words[0]))?,
            _ => part.parse()?,
        };
        scopes.insert(scope);
    }
    Ok(scopes)
}

/// Parts of a line at commas outside of quotes.
fn parts(line: &str) -> Result<Vec<String>, String> {
    let (mut parts, mut part, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (c, quote) {
            (',', None) => parts.push(std::mem::take(&mut part)),
            (c, Some(open)) if c == open => {
                quote = None;
                part.push(c);
            }
            ('\'' | '"', None) => {
                quote = Some(c);
                part.push(c);
            }
            (c, _) => part.push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    parts.push(part);
    Ok(parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(argv: &[&str]) -> Scope {
        Scope::Run(argv.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn scopes_are_read_as_people_type_them() {
        let db = Scope::Forward { service: "db".into(), port: 5432 };
        let cases: [(&str, Vec<Scope>); 7] = [
            ("forward:db:5432,logs", vec![db.clone(), Scope::Logs]),
            ("logs,inspect", vec![Scope::Inspect, Scope::Logs]),
            ("logs, run:'pg_isready', shell", vec![Scope::Logs, run(&["pg_isready"]), Scope::Shell]),
            ("run:'pg_isready -h db,db2'", vec![run(&["pg_isready", "-h", "db,db2"])]),
            ("run:ls -l,bundle", vec![Scope::Bundle, run(&["ls", "-l"])]),
            (r#"run:'sh -c "a | b"'"#, vec![run(&["sh", "-c", "a | b"])]),
            ("logs,logs,", vec![Scope::Logs]),
        ];
        for (line, expected) in cases {
            assert_eq!(parse_scopes(line), Ok(expected.into_iter().collect()), "{line}");
        }
        let bad = [
            "log",
            "run",
            "run:",
            "run:''",
            "shell:x",
            "run:'a",
            "exec:ls",
            "run:a\u{7}",
            "forward",
            "forward:db",
            "forward:5432",
            "forward::5432",
            "forward:db:0",
            "forward:db:05432",
            "forward:db:65536",
            "forward:d b:1",
            "forward:db:+1",
            "forward:a:b:1",
        ];
        for bad in bad {
            assert!(parse_scopes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_has_one_spelling() {
        let db = Scope::Forward { service: "db".into(), port: 5432 };
        for scope in [Scope::Logs, db, run(&["a"]), run(&["sh", "-c", "a | \"b\" \\"]), run(&["a", ""])] {
            let text = scope.to_string();
            assert_eq!(text.parse(), Ok(scope.clone()), "{text}");
            let json = serde_json::to_string(&scope).unwrap();
            assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), scope);
        }
        assert!(serde_json::from_str::<Scope>(r#""run:a  b""#).is_err());
        assert!(serde_json::from_str::<Scope>(r#""run:'a'""#).is_err());
    }

    #[test]
    fn a_target_covers_itself_and_the_services_of_a_whole_deployment() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        for (wide, narrow, expected) in [
            ("shop", "shop", true),
            ("shop", "shop/api", true),
            ("shop/api", "shop/api", true),
            ("shop/api", "shop", false),
            ("shop/api", "shop/db", false),
            ("shop", "shop2", false),
        ] {
            assert_eq!(target(wide).covers(&target(narrow)), expected, "{wide} {narrow}");
        }
        for bad in ["", "/api", "shop/", "Shop", "../x", "shop/a\nb"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
