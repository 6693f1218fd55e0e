//! Who this host is towards the hub: a key made here that never leaves, and a certificate on it.
//!
//! The key is one file, `identity/host.key` (PKCS#8 PEM, 0600), made whole or not at all: written aside,
//! synced, renamed, folder synced. It is made once, before the first enrolment, and kept over renewals;
//! the certificate is the host's to store (see [`crate::host::Enrolment`]). P-256, so that a TPM may hold it one day.

mod certificate;
mod key;

pub use certificate::{Validity, renew_at, validity};
pub use key::HostKey;
