//! Nonces: what a request must hold to be of now and of this host. Kept in memory only, so a restart forgets them all, and
//! requests that were made for them are too late.

use std::collections::VecDeque;
use std::time::Duration;

use super::Moment;

/// Most that are held; whoever asks for more makes the oldest worthless.
const MOST: usize = 16;
/// How long one is good for.
pub const LIFE: Duration = Duration::from_secs(3600);

/// The nonces that are good.
#[derive(Debug, Clone, Default)]
pub struct Nonces(VecDeque<(String, Moment)>);

impl Nonces {
    /// Holds a new one.
    pub fn give(&mut self, nonce: String, now: &Moment) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((nonce, now.clone()));
    }

    /// Whether this one is good now.
    pub fn is_good(&self, nonce: &str, now: &Moment) -> bool {
        let fresh = |given: &Moment| now.after(given).is_some_and(|age| age <= LIFE);
        self.0.iter().any(|(held, given)| held == nonce && fresh(given))
    }

    /// Uses it up.
    pub fn used(&mut self, nonce: &str) {
        self.0.retain(|(held, _)| held != nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, seconds: u64) -> Moment {
        Moment { boot: boot.into(), since: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_nonce_is_good_once_and_not_for_long_and_not_after_a_reboot() {
        let mut nonces = Nonces::default();
        nonces.give("a".into(), &at("x", 100));
        assert!(nonces.is_good("a", &at("x", 100)));
        assert!(nonces.is_good("a", &at("x", 100 + LIFE.as_secs())));
        assert!(!nonces.is_good("a", &at("x", 101 + LIFE.as_secs())));
        assert!(!nonces.is_good("a", &at("y", 101)));
        assert!(!nonces.is_good("b", &at("x", 100)));
        nonces.used("a");
        assert!(!nonces.is_good("a", &at("x", 100)));
    }

    #[test]
    fn no_more_are_held_than_a_few() {
        let mut nonces = Nonces::default();
        for number in 0..1000 {
            nonces.give(number.to_string(), &at("x", 0));
        }
        assert_eq!(nonces.0.len(), MOST);
        assert!(nonces.is_good("999", &at("x", 0)) && !nonces.is_good("0", &at("x", 0)));
    }
}
