//! From observations to statuses, and from statuses to reports that say only what changed.

mod board;
pub mod diff;
mod journal;
pub mod reporter;
pub mod services;

pub use board::Board;
pub use journal::Journal;
pub use reporter::Outbox;
