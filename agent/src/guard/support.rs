//! `[support]` of guard.toml: whether and how the vendor may come in. Nothing from the vendor can change it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use kedge_bundle::roles::PublicKey;
use kedge_bundle::support::{Scope, Target, Terms};
use serde::{Deserialize, Serialize};

/// How the customer consents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Not at all.
    #[default]
    Deny,
    /// By `kedge support approve`, on this host.
    Ask,
    /// By a file that one of the approvers has signed, wherever that was.
    AskSigned,
    /// Beforehand, in the windows named, for scopes that only read.
    Window,
}

/// `[support]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Support {
    /// How the customer consents.
    pub mode: Mode,
    /// What may be asked for; nothing else.
    pub scopes: BTreeSet<Scope>,
    /// Deployments and services that may be asked for; all where none is named.
    pub targets: BTreeSet<Target>,
    /// The longest session, seconds.
    pub max_session_seconds: u64,
    /// The most bytes that may leave in one session; what is typed counts too.
    pub max_bytes: u64,
    /// How long nothing may happen before a session ends, seconds.
    pub idle_seconds: u64,
    /// Who may sign approvals.
    pub approvers: Vec<Approver>,
    /// When sessions are approved beforehand.
    pub windows: Vec<Window>,
    /// Command that tells people of what happens: words, no shell; the event as JSON on its standard input.
    pub notify_cmd: Vec<String>,
    /// Where recordings go; the state folder's `support/recordings` where nothing is said.
    pub recordings: Option<PathBuf>,
    /// How long recordings are kept, days.
    pub keep_days: u32,
    /// Pieces of diagnostics bundles that never leave in a session, by name or by the beginning of one.
    pub bundle_skip: Vec<String>,
    /// The image that commands and shells run in, by reference or ID. It must be in the engine. Without a word it is the one
    /// that the product brings.
    pub tools_image: Option<String>,
}

/// A key of the customer's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// Whose it is.
    pub name: String,
    /// The public key, 64 hexadecimal digits.
    pub key: String,
}

/// A time in which sessions are approved beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// From then on.
    pub from: Timestamp,
    /// Until just before then.
    pub until: Timestamp,
}

impl Default for Support {
    fn default() -> Self {
        Self {
            mode: Mode::Deny,
            scopes: [Scope::Inspect, Scope::Logs].into(),
            targets: BTreeSet::new(),
            max_session_seconds: 3600,
            max_bytes: 256 << 20,
            idle_seconds: 600,
            approvers: Vec::new(),
            windows: Vec::new(),
            notify_cmd: Vec::new(),
            recordings: None,
            keep_days: 90,
            // What the vendor has written is run and read only where the customer says so.
            bundle_skip: vec!["collectors/".to_owned()],
            tools_image: None,
        }
    }
}

impl Support {
    /// What of these terms the rules do not permit; the first thing, as a sentence.
    pub fn beyond(&self, terms: &Terms) -> Option<String> {
        let targets = if self.targets.is_empty() { terms.targets.clone() } else { self.targets.clone() };
        let ceiling = Terms {
            scopes: self.scopes.clone(),
            targets,
            max_session_seconds: self.max_session_seconds,
            max_bytes: self.max_bytes,
        };
        terms.beyond(&ceiling)
    }

    /// Until when a window is open that is open at this time.
    pub fn window(&self, now: Timestamp) -> Option<Timestamp> {
        let open = self.windows.iter().filter(|window| window.from <= now && now < window.until);
        open.map(|window| window.until).max()
    }

    /// The keys that may sign approvals.
    pub fn approver_keys(&self) -> Vec<PublicKey> {
        let key = |approver: &Approver| PublicKey {
            scheme: "ed25519".into(),
            public: approver.key.clone(),
            name: Some(approver.name.clone()),
        };
        self.approvers.iter().map(key).collect()
    }

    /// Checks what the file's form alone does not say.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        for approver in self.approver_keys() {
            let name = approver.name.clone().unwrap_or_default();
            approver.key().map_err(|why| format!("support.approvers: {name}: {why}"))?;
        }
        if self.mode == Mode::AskSigned && self.approvers.is_empty() {
            return Err("support.mode = \"ask-signed\" needs support.approvers".into());
        }
        if self.mode == Mode::Window && self.windows.is_empty() {
            return Err("support.mode = \"window\" needs support.windows".into());
        }
        if self.idle_seconds == 0 || self.max_session_seconds == 0 {
            return Err("support: idle_seconds and max_session_seconds are at least 1".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_nobody_comes_in() {
        let rules: Support = toml::from_str("").unwrap();
        assert_eq!((rules.mode, rules.check()), (Mode::Deny, Ok(())));
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for bad in [
            "mode = 'ask-signed'",
            "mode = 'window'",
            "idle_seconds = 0",
            "approvers = [{ name = 'a', key = 'xyz' }]",
        ] {
            assert!(toml::from_str::<Support>(bad).unwrap().check().is_err(), "{bad}");
        }
        for bad in ["mode = 'always'", "scopes = ['everything']", "scope = ['logs']", "targets = ['*']"] {
            assert!(toml::from_str::<Support>(bad).is_err(), "{bad}");
        }
    }
}
