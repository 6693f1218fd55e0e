//! Which reports are under way. Pure: numbers in, numbers out.
//!
//! Reports are sent once each, in rising order, at most [`MOST`] before the hub has acknowledged some. After a
//! new connection everything that was not acknowledged is sent again; the hub knows by number what it has.

use std::collections::VecDeque;

/// Reports that may be unacknowledged at one time.
pub(super) const MOST: usize = 32;

/// The reports of one connection.
#[derive(Debug)]
pub(super) struct Window {
    acked: u64,
    under_way: VecDeque<u64>,
}

/// The hub or the outbox said something that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    /// Acknowledged what was never sent.
    #[error("the hub acknowledged report {up_to}, the last one sent is {sent}")]
    NeverSent {
        /// The acknowledgement.
        up_to: u64,
        /// The highest number sent.
        sent: u64,
    },
    /// The outbox went backwards.
    #[error("report {number} comes after report {sent} in the outbox")]
    Backwards {
        /// What was to be sent.
        number: u64,
        /// The highest number sent.
        sent: u64,
    },
}

impl Window {
    /// A connection on which the hub holds everything up to `acked`.
    pub(super) fn new(acked: u64) -> Self {
        Self { acked, under_way: VecDeque::with_capacity(MOST) }
    }

    /// How many more reports may be sent now.
    pub(super) fn room(&self) -> usize {
        MOST.saturating_sub(self.under_way.len())
    }

    /// The highest number sent or held by the hub: what comes after it is next.
    pub(super) fn sent(&self) -> u64 {
        self.under_way.back().copied().unwrap_or(self.acked)
    }

    /// A report goes out. Numbers may have gaps: the outbox folds old reports when it is full.
    ///
    /// # Errors
    /// [`Violation::Backwards`]
    pub(super) fn send(&mut self, number: u64) -> Result<(), Violation> {
        if number <= self.sent() {
            return Err(Violation::Backwards { number, sent: self.sent() });
        }
        self.under_way.push_back(number);
        Ok(())
    }

    /// The hub has everything up to this number. Gives it back when that is news.
    ///
    /// # Errors
    /// [`Violation::NeverSent`]
    pub(super) fn ack(&mut self, up_to: u64) -> Result<Option<u64>, Violation> {
        if up_to > self.sent() {
            return Err(Violation::NeverSent { up_to, sent: self.sent() });
        }
        if up_to <= self.acked {
            return Ok(None);
        }
        self.acked = up_to;
        while self.under_way.front().is_some_and(|number| *number <= up_to) {
            self.under_way.pop_front();
        }
        Ok(Some(up_to))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ack_of_what_was_never_sent_is_a_violation() {
        let mut window = Window::new(5);
        window.send(6).unwrap();
        assert_eq!(window.ack(7), Err(Violation::NeverSent { up_to: 7, sent: 6 }));
        assert_eq!(window.ack(3), Ok(None));
        assert_eq!(window.ack(6), Ok(Some(6)));
        assert_eq!(window.ack(6), Ok(None));
    }

    #[test]
    fn the_outbox_cannot_go_backwards() {
        let mut window = Window::new(5);
        assert!(window.send(5).is_err());
        window.send(9).unwrap();
        assert!(window.send(9).is_err());
    }

    proptest! {
        /// A hub that acknowledges whenever it likes, over connections that end whenever they like, gets
        /// every report in order, and never more than the window at once.
        #[test]
        fn every_report_arrives_in_order_however_the_line_behaves(
            moves in prop::collection::vec((0u8..8, 1usize..40), 1..300), total in 1u64..200,
        ) {
            let (mut acked, mut held, mut seen) = (0u64, 0u64, Vec::new());
            let mut window = Window::new(0);
            for (kind, amount) in moves {
                match kind {
                    0..4 => for _ in 0..amount.min(window.room()) {
                        let next = window.sent() + 1;
                        if next <= total {
                            window.send(next).unwrap();
                            if next > held { held = next; seen.push(next); }
                        }
                    },
                    4..7 => if let Some(up_to) = window.ack(window.sent().min(acked + amount as u64)).unwrap() {
                        acked = up_to;
                    },
                    // A new connection: the hub may have taken reports whose acknowledgement was lost.
                    _ => { let hub = if amount % 2 == 0 { held } else { acked }; acked = hub; window = Window::new(hub); }
                }
                prop_assert!(window.under_way.len() <= MOST);
                prop_assert!(window.sent() <= total && window.sent() >= acked);
            }
            prop_assert!(seen.iter().copied().eq(1..=seen.len() as u64));
        }
    }
}
