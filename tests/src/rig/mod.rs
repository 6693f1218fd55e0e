//! What the end-to-end tests run on: hosts, engines, disks, and images made on this machine, for there is no registry
//! to pull from.

pub mod counter;
pub mod docker;
pub mod host;
pub mod hub;
pub mod images;
pub mod lines;
pub mod machine;
pub mod names;
pub mod need;
pub mod outcome;
pub mod own_engine;
pub mod process;
pub mod programs;
pub mod registry;
pub mod requests;
pub mod scratch_disk;
pub mod services;
pub mod support;
pub mod vendor;
pub mod witness;
