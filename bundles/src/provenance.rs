//! What a program was built from, said by `version` of both programs.
//!
//! `packaging/build` sets these when it compiles; a build by hand knows nothing and says so. Nothing in here is a time or a
//! path, so that the same inputs give the same bytes.

/// The commit, in hexadecimal, with `-dirty` behind it where the tree differed from it.
pub const COMMIT: Option<&str> = option_env!("KEDGE_BUILD_COMMIT");
/// Compiler and linker, such as `rustc 1.95.0, zig 0.15.1`.
pub const TOOLS: Option<&str> = option_env!("KEDGE_BUILD_TOOLS");
/// What it was built for, with the oldest C library that it runs with: `x86_64-unknown-linux-gnu.2.28`.
pub const TARGET: Option<&str> = option_env!("KEDGE_BUILD_TARGET");
/// SHA-256 of `Cargo.lock`, in hexadecimal: every dependency by version and checksum.
pub const LOCK_SHA256: Option<&str> = option_env!("KEDGE_BUILD_LOCK_SHA256");
