//! How long to wait before connecting again: full jitter, so that a fleet that lost its hub together does not
//! come back together. Pure; the dice are thrown outside.

use std::time::Duration;

/// Waits are drawn evenly from nothing up to a ceiling, which doubles with every failure up to a cap.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

/// Below this, waiting is spinning.
const LEAST: Duration = Duration::from_millis(50);

impl Backoff {
    /// A backoff whose first ceiling is `base` and whose last is `cap`; a cap below the base counts as the base.
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.max(LEAST);
        Self { base, cap: cap.max(base), failures: 0 }
    }

    /// The next wait, for a throw of the dice in `0..1`.
    pub fn next(&mut self, dice: f64) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        let dice = if dice.is_finite() { dice.clamp(0.0, 1.0) } else { 1.0 };
        ceiling.mul_f64(dice).max(LEAST)
    }

    /// The longest that the next wait can be.
    pub fn ceiling(&self) -> Duration {
        let factor = 2u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The line held: the next failure is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_stay_under_a_ceiling_that_never_falls_and_never_passes_the_cap(
            base in 1u64..10_000, cap in 1u64..600_000, dice in prop::collection::vec(0.0f64..1.0, 1..80),
        ) {
            let mut backoff = Backoff::new(Duration::from_millis(base), Duration::from_millis(cap));
            let top = Duration::from_millis(cap).max(Duration::from_millis(base)).max(LEAST);
            let mut before = Duration::ZERO;
            for throw in dice {
                let ceiling = backoff.ceiling();
                let wait = backoff.next(throw);
                prop_assert!(ceiling >= before && ceiling <= top);
                prop_assert!(wait <= ceiling && wait >= LEAST);
                before = ceiling;
            }
            backoff.reset();
            prop_assert_eq!(backoff.ceiling(), Duration::from_millis(base).max(LEAST));
        }

        #[test]
        fn no_throw_of_the_dice_breaks_it(dice in any::<f64>(), failures in any::<u32>()) {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
            backoff.failures = failures;
            prop_assert!(backoff.next(dice) <= Duration::from_secs(300));
        }
    }

    #[test]
    fn ceilings_double_from_a_second_to_five_minutes() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        let ceilings: Vec<u64> = (0..11).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }
}
