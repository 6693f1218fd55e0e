//! Which vendor is trusted: the fingerprint of a root document, given as such or by the document. The same arguments
//! wherever something is verified.

use super::input;
use crate::codes;
use crate::error::{Failure, Result};
use crate::hub::bundle::fingerprint;
use clap::Args;
use kedge_bundle::digest::Digest;
use std::path::PathBuf;

/// The vendor's root.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The vendor's root document, or the folder with the chain of them
    #[arg(long, value_name = "PATH", required_unless_present = "root_sha256")]
    root: Option<PathBuf>,
    /// Fingerprint of the vendor's root document
    #[arg(long, value_name = "HEX", conflicts_with = "root")]
    root_sha256: Option<String>,
}

impl Pin {
    /// The fingerprint to hold the bundle's chain of roots against.
    pub(crate) fn fingerprint(self) -> Result<Digest> {
        if let Some(path) = self.root {
            let chain = input::roots(&[path])?;
            let newest =
                chain.last().ok_or_else(|| Failure::new(codes::INPUT, "there is no root document"))?;
            return fingerprint(newest);
        }
        let text = self.root_sha256.unwrap_or_default().to_ascii_lowercase();
        Digest::from_hex(text.trim_start_matches("sha256:")).map_err(|error| {
            Failure::new(codes::ARGUMENT, "--root-sha256 is not a fingerprint").because(error)
        })
    }
}
