//! Kedge at the vendor's end: the hub server and the whole of the command line `kedgectl`.
//!
//! - [`hub`]: the server. Enrols hosts, offers releases, serves bundles, keeps what hosts report.
//! - [`cli`]: one file per command; each reads its arguments, calls a library or the hub, and prints.
//! - [`error`] and [`codes`]: one failure type, and the catalogue `KE-7xxx` that it takes its codes from.
//!
//! Nothing in here runs containers, and the hub never holds a root or release key: keys are used only by the
//! commands that build and sign, on the machine where the vendor keeps them.

pub mod cli;
pub mod codes;
pub mod error;
pub mod hub;
