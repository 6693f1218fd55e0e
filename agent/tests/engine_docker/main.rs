//! The Docker implementation against the engine of this machine.
//!
//! Every test makes its own images and a project with a name of its own, and takes everything away again, also when it
//! fails. Without an engine or a static busybox the tests say so and pass.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests end a test as tests do")]

mod converge;
mod load;
mod rig;
mod verbs;
