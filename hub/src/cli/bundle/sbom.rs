//! `kedgectl bundle sbom`: what a bundle is made of.

use super::super::progress::Bars;
use super::super::{input, out, output};
use crate::codes;
use crate::error::{Failure, Result, coded};
use clap::{Args, ValueEnum};
use kedge_bundle::build::{Bill, BillFormat};
use std::io::Write;
use std::path::{Path, PathBuf};

/// `bundle sbom`.
#[derive(Debug, Args)]
pub(crate) struct Sbom {
    /// The bundle
    file: PathBuf,
    /// In which format: SPDX 2.3 or CycloneDX 1.6, both JSON
    #[arg(long, value_enum)]
    format: Kind,
    /// File to write; default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite a file that is there
    #[arg(long, requires = "output")]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Spdx,
    Cyclonedx,
}

/// Runs the command.
pub(crate) fn run(args: Sbom) -> Result<()> {
    input::check_readable(&args.file)?;
    if let Some(path) = &args.output {
        output::check_new(path, args.force)?;
    }
    let bill = Bill::of(&args.file, &Bars::default()).map_err(coded)?;
    for (image, path) in bill.unread() {
        out::note(&format!(
            "warning: {} has the package database /{path}, which cannot be read here",
            out::clean(&image)
        ));
    }
    let format = match args.format {
        Kind::Spdx => BillFormat::Spdx,
        Kind::Cyclonedx => BillFormat::CycloneDx,
    };
    let document = bill.document(format, ("kedgectl", env!("CARGO_PKG_VERSION")));
    let text = serde_json::to_string_pretty(&document).map_err(|error| {
        Failure::new(codes::UNEXPECTED, "the bill of materials cannot be written as JSON").because(error)
    })?;
    let Some(path) = &args.output else { return out::text(&format!("{text}\n")) };
    write(path, &text).map_err(|error| {
        Failure::new(codes::OUTPUT, format!("{} cannot be written", path.display())).because(error)
    })?;
    out::note(&format!("{} lists {} packages.", path.display(), bill.packages()));
    Ok(())
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
    writeln!(file, "{text}")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
