//! The hub, in this process, and scripted hosts over real sockets. No container engine is needed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod enrolment;
mod publishing;
mod tether;
