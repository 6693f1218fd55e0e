//! How far the engineer may send ahead of whoever reads on the host.
//!
//! What is typed, pasted or carried to a port waits on the host until it is taken. The agent says how much may wait
//! ([`WINDOW`]) when it opens a channel, and gives credit as it is taken; who sends more loses the channel. A piece costs its
//! length and at least [`LEAST`], so that many small ones are bounded too.

/// What may wait for one channel, bytes.
pub const WINDOW: u32 = 256 << 10;
/// What the smallest piece costs, bytes.
pub const LEAST: u32 = 256;

/// What a piece of so many bytes costs.
#[must_use]
pub fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).max(LEAST)
}
