//! Signed bundles: everything that a release needs, in one file that a stranger may carry.
//!
//! ```text
//!  reader ── tar            one pass over the file: strict headers, one order
//!    │
//!  admission                the one way in, for the file and for the tether
//!    ├── verify             documents -> Verified or Refusal; pure, clock injected
//!    │     └── roles, envelope, json, digest
//!    ├── layout             index, manifests, configurations -> the one order of blobs
//!    ├── unpack             compressed layers against their DiffIDs
//!    └── delta              what a thin bundle leaves out, and how patches give layers
//!  parts                    a bundle in several files, joined as it is read
//!  licence, clock           what a customer may use, and until when
//!  support                  who asks to come in, and what the customer says to that
//!  product, parameters      what a product asks for, and the answers
//!  build ── assemble        (feature `build`) a folder to a bundle; only the vendor's binary has these
//!    └── sign               (feature `build`) signing: with keys in files or behind a command
//!          ├── keys, command_signer
//!          └── ceremony     (feature `build`) a new root, passed from hand to hand
//!  testing                  (feature `testing`, or tests) a vendor in memory
//!  codes                    the catalogue of errors, for all crates
//! ```
//!
//! A bundle is an uncompressed ustar archive that is at once an OCI image layout and a `docker save` archive:
//!
//! ```text
//!  oci-layout
//!  index.json               image manifests, and one product manifest
//!  manifest.json            the same for `docker load`, derived
//!  kedge/root/1.json …      the whole chain of root documents
//!  kedge/release.json       names all of the above by digest
//!  kedge/delta.json         thin bundles only: what is left out, and what comes in its place
//!  blobs/sha256/…           product manifest, product document, files, image manifests, configurations, layers
//! ```
//!
//! The release is signed; it names the index; the index names manifests; they name the rest. Reading stops at the
//! first byte that is not what was signed.

pub mod admission;
#[cfg(any(test, feature = "testing"))]
pub mod assemble;
#[cfg(feature = "build")]
pub mod build;
#[cfg(any(test, feature = "build"))]
pub mod ceremony;
pub mod clock;
pub mod codes;
pub mod collectors;
#[cfg(any(test, feature = "build"))]
pub mod command_signer;
pub mod delta;
pub mod digest;
pub mod envelope;
pub mod json;
#[cfg(feature = "build")]
pub mod keys;
pub mod layout;
pub mod licence;
pub mod parameters;
pub mod parts;
pub mod product;
pub mod provenance;
pub mod reader;
pub mod roles;
#[cfg(any(test, feature = "testing"))]
pub mod sign;
pub mod support;
pub mod tar;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod unpack;
pub mod verify;
pub mod words;
