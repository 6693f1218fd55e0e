//! How much a session may: asked for by the vendor, bounded by the customer's rules, narrowed by whoever approves.
//!
//! [`Terms::within`] is a partial order. Nothing in a session is ever decided by terms that are not within all of the three.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::scope::{MOST, Scope, Target};
use crate::roles::number;

/// Longest session that can be asked for, seconds: a day.
pub const LONGEST: u64 = 24 * 3600;

/// What a session may do, to what, for how long, and how much it may carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// To which services.
    pub targets: BTreeSet<Target>,
    /// For how long from its opening, seconds.
    pub max_session_seconds: u64,
    /// How many bytes may leave the host, as the session's own content.
    pub max_bytes: u64,
}

impl Terms {
    /// Checks the rules that terms keep by themselves.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        for (what, count) in [("scopes", self.scopes.len()), ("targets", self.targets.len())] {
            if count == 0 || count > MOST {
                return Err(format!("{what}: 1 to {MOST} are named"));
            }
        }
        number("max_session_seconds", self.max_session_seconds, 1)?;
        if self.max_session_seconds > LONGEST {
            return Err(format!("max_session_seconds: at most {LONGEST}"));
        }
        number("max_bytes", self.max_bytes, 1)
    }

    /// Whether these permit nothing that `other` does not.
    #[must_use]
    pub fn within(&self, other: &Self) -> bool {
        self.beyond(other).is_none()
    }

    /// What of these `other` does not permit; the first thing, as a sentence.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Option<String> {
        if let Some(scope) = self.scopes.difference(&other.scopes).next() {
            return Some(format!("the scope {scope} is not permitted"));
        }
        if let Some(target) = self.targets.iter().find(|target| !other.permits_target(target)) {
            return Some(format!("the target {target} is not permitted"));
        }
        if self.max_session_seconds > other.max_session_seconds {
            return Some(format!(
                "{} s are longer than the {} s permitted",
                self.max_session_seconds, other.max_session_seconds
            ));
        }
        if self.max_bytes > other.max_bytes {
            return Some(format!("{} bytes are more than the {} permitted", self.max_bytes, other.max_bytes));
        }
        None
    }

    /// Whether a target may be touched.
    #[must_use]
    pub fn permits_target(&self, target: &Target) -> bool {
        self.targets.iter().any(|permitted| permitted.covers(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms() -> impl Strategy<Value = Terms> {
        let scopes =
            ["inspect", "logs", "bundle", "shell", "run:a", "run:a b", "forward:db:5432", "forward:db:5433"];
        let targets = ["shop", "shop/api", "shop/db", "crm", "crm/web"];
        let some = |all: Vec<&'static str>| proptest::sample::subsequence(all.clone(), 1..=all.len());
        (some(scopes.to_vec()), some(targets.to_vec()), 1..5_u64, 1..5_u64).prop_map(
            |(s, t, seconds, bytes)| Terms {
                scopes: s.iter().map(|s| s.parse().unwrap()).collect(),
                targets: t.iter().map(|t| t.parse().unwrap()).collect(),
                max_session_seconds: seconds,
                max_bytes: bytes,
            },
        )
    }

    proptest! {
        #[test]
        fn narrowing_is_a_partial_order(a in terms(), b in terms(), c in terms()) {
            prop_assert!(a.within(&a));
            prop_assert!(!(a.within(&b) && b.within(&c)) || a.within(&c));
            if a.within(&b) {
                for scope in &a.scopes {
                    prop_assert!(b.scopes.contains(scope));
                }
                for target in &a.targets {
                    prop_assert!(b.permits_target(target));
                }
                if b.within(&a) {
                    prop_assert_eq!(&a.scopes, &b.scopes);
                    prop_assert_eq!(a.max_bytes, b.max_bytes);
                    prop_assert_eq!(a.max_session_seconds, b.max_session_seconds);
                }
            }
        }
    }

    #[test]
    fn what_goes_beyond_is_named() {
        let narrow = |change: fn(&mut Terms)| {
            let mut terms = Terms {
                scopes: [Scope::Logs].into(),
                targets: ["shop/api".parse().unwrap()].into(),
                max_session_seconds: 60,
                max_bytes: 1000,
            };
            change(&mut terms);
            terms
        };
        let base = narrow(|_| {});
        for (wider, word) in [
            (narrow(|t| t.scopes.extend([Scope::Shell])), "shell"),
            (narrow(|t| t.targets.extend(["shop".parse().unwrap()])), "shop"),
            (narrow(|t| t.max_session_seconds += 1), "61 s"),
            (narrow(|t| t.max_bytes += 1), "1001 bytes"),
        ] {
            assert!(wider.beyond(&base).unwrap().contains(word));
            assert!(base.within(&wider));
        }
        for broken in [
            narrow(|t| t.scopes.clear()),
            narrow(|t| t.targets.clear()),
            narrow(|t| t.max_bytes = 0),
            narrow(|t| t.max_session_seconds = LONGEST + 1),
        ] {
            assert!(broken.check().is_err(), "{broken:?}");
        }
    }
}
