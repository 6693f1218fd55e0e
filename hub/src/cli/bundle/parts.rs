//! `kedgectl bundle split` and `join`: a bundle for media that cannot hold it in one file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use kedge_bundle::build::Progress as _;
use kedge_bundle::parts::folder;

use super::super::input;
use super::super::out::{self, Format};
use super::super::output::check_new;
use super::super::progress::Bars;
use crate::codes;
use crate::error::{Failure, Result, coded};

/// `bundle split`.
#[derive(Debug, Args)]
pub(crate) struct Split {
    /// The bundle
    file: PathBuf,
    /// Largest size of a part: bytes, or with K, M, G or T; a part of 4G fits where files must stay below 4 GiB
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size)]
    size: u64,
    /// Folder to write the parts to; it must be there. Default: beside the bundle
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// How the result is written
    #[arg(short = 'o', long, default_value = "table")]
    output: Format,
}

/// `bundle join`.
#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The folder with all its parts; their names and other files do not matter
    folder: PathBuf,
    /// The bundle to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn split(args: Split) -> Result<()> {
    input::check_readable(&args.file)?;
    let beside = args.file.parent().map(Path::to_owned).unwrap_or_default();
    let folder = args.folder.unwrap_or(beside);
    let bars = Bars::default();
    let total = std::fs::metadata(&args.file).map(|meta| meta.len().saturating_mul(3)).ok();
    bars.begin("splitting", total);
    let made = folder::split(&args.file, &folder, args.size, &mut |bytes| bars.advance(bytes));
    bars.end();
    let made = made.map_err(coded)?;
    match args.output {
        Format::Json => out::json(&serde_json::json!({ "parts": made })),
        Format::Table => {
            let list: String = made.iter().map(|part| format!("{}\n", part.display())).collect();
            out::text(&list)?;
            out::note("`kedge import FOLDER` takes them from one folder, in any order.");
            Ok(())
        }
    }
}

pub(super) fn join(args: &Join) -> Result<()> {
    let (mut bundle, total) = folder::open(&args.folder).map_err(coded)?;
    check_new(&args.output, false)?;
    let failed = |error: io::Error| {
        Failure::new(codes::INPUT, format!("{} could not be made", args.output.display())).because(error)
    };
    // It gets its name once it is whole.
    let mut making = args.output.clone().into_os_string();
    making.push(".part");
    let mut file = File::create_new(&making).map_err(failed)?;
    let bars = Bars::default();
    bars.begin("joining", Some(total));
    let written = io::copy(&mut Told { source: &mut bundle, bars: &bars }, &mut file);
    bars.end();
    let named = written.and_then(|_| file.sync_all()).and_then(|()| std::fs::rename(&making, &args.output));
    if let Err(error) = named {
        let _ = std::fs::remove_file(&making);
        return Err(failed(error));
    }
    out::note(&format!("{} is whole; `kedgectl bundle verify` says whose it is.", args.output.display()));
    Ok(())
}

/// Tells the bar of what is read.
struct Told<'a, R> {
    source: R,
    bars: &'a Bars,
}

impl<R: io::Read> io::Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.bars.advance(read as u64);
        Ok(read)
    }
}

fn size(text: &str) -> std::result::Result<u64, String> {
    let bad = || format!("{text:.20} is no size: write a number, with K, M, G or T for multiples of 1024");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_uppercase().trim_end_matches("IB") {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return Err(bad()),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        for (text, bytes) in [("700", 700), ("4G", 4 << 30), ("650m", 650 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "4X", "-1", "4.5G", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
