//! The whole thing on a real engine: bundles are built and signed by `kedgectl`, taken over the tether or from a file
//! by `kedge`, and what runs in the end is asked by HTTP.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

mod adopt;
mod attributes;
mod bad_input;
mod ceremonies;
mod corpus;
mod crash;
mod deltas;
mod drift;
mod ecosystem;
mod hello;
mod hostile;
mod interrupted;
mod inventory;
mod neighbours;
mod operating;
mod own_engine;
mod registry;
mod stack;
mod support;
mod three_tier;
mod updates;
