//! End-to-end tests, benches, and the rig that they run on.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "all of it is test code: failing loudly is its purpose"
)]

pub mod hostile;
pub mod reference;
pub mod rig;
