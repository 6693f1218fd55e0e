//! `kedgectl bundle delta` and `bundle diff`: thin bundles, and what an update costs.

use crate::cli::input;
use crate::cli::out::{self, Format, Table};
use crate::cli::output::check_new;
use crate::cli::progress::Bars;
use crate::cli::signers::{SignerArgs, borrowed};
use crate::error::{Result, coded};
use clap::Args;
use kedge_bundle::build::{self, Costs, How, LayerCost, Thin};
use kedge_bundle::delta::make::LEVEL;
use std::path::{Path, PathBuf};

/// `bundle delta`.
#[derive(Debug, Args)]
pub(crate) struct Delta {
    /// The full bundle of the new release
    full: PathBuf,
    /// Bundle of an older release that hosts have; may be repeated
    #[arg(long = "base", value_name = "FILE", required = true)]
    bases: Vec<PathBuf>,
    /// The thin bundle to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
    /// Key to sign the delta with: a release key; may be repeated
    #[arg(long = "release-key", value_name = "FILE", required_unless_present_any = ["unsigned", "signer_cmd"])]
    release_keys: Vec<PathBuf>,
    /// Leave the delta unsigned, for `bundle sign`
    #[arg(long, conflicts_with_all = ["release_keys", "signer_cmd"])]
    unsigned: bool,
    #[command(flatten)]
    signer: SignerArgs,
    /// zstd's level for patches: 1 is quick, 19 small
    #[arg(long, default_value_t = LEVEL, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
    /// How the result is written
    #[arg(long = "format", default_value = "table")]
    format: Format,
}

/// `bundle diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Bundle of the release that hosts have
    old: PathBuf,
    /// Full bundle of the release that they are to have
    new: PathBuf,
    /// Make patches quickly, only to see about how large they are
    #[arg(long)]
    estimate: bool,
    /// zstd's level for patches: 1 is quick, 19 small
    #[arg(long, default_value_t = LEVEL, value_parser = clap::value_parser!(i32).range(1..=22), conflicts_with = "estimate")]
    level: i32,
    /// How the result is written
    #[arg(short, long, default_value = "table")]
    output: Format,
}

pub(super) fn delta(args: Delta) -> Result<()> {
    check_new(&args.output, args.force)?;
    let keys = args.signer.open(&args.release_keys)?;
    let Delta { full, bases, output, unsigned, level, format, .. } = args;
    for file in bases.iter().chain([&full]) {
        input::check_readable(file)?;
    }
    let signers = borrowed(&keys);
    let thin = build::thin(&full, &bases, &output, level, &signers, &Bars::default()).map_err(coded)?;
    if unsigned {
        out::note("The delta is not signed yet; no host takes it before `kedgectl bundle sign`.");
    }
    match format {
        Format::Json => out::json(&serde_json::json!({
            "file": output, "bytes": thin.bytes, "delta": thin.delta, "costs": json(&thin.costs, false),
        })),
        Format::Table => out::text(&said(&output, &thin)),
    }
}

/// What a thin bundle that was written holds, in a sentence.
pub(super) fn said(file: &Path, thin: &Thin) -> String {
    let Thin { costs, delta, bytes } = thin;
    let full = costs.release.content_bytes;
    format!(
        "{} holds {} of {} for hosts that have {}: {} layers left out, {} patched, {} whole.\n",
        file.display(),
        out::bytes(*bytes),
        out::bytes(full),
        out::clean(&delta.built_on()),
        delta.left_out.len(),
        delta.patches.len(),
        costs.layers.len() - delta.left_out.len() - delta.patches.len(),
    )
}

pub(super) fn diff(args: &Diff) -> Result<()> {
    input::check_readable(&args.old)?;
    input::check_readable(&args.new)?;
    let costs =
        build::diff(&args.old, &args.new, args.level, args.estimate, &Bars::default()).map_err(coded)?;
    match args.output {
        Format::Json => out::json(&json(&costs, args.estimate)),
        Format::Table => out::text(&table(&costs, args.estimate)),
    }
}

const fn how(how: &How) -> &'static str {
    match how {
        How::Same => "same",
        How::Patched(_) => "patch",
        How::Packed(_) => "packed",
        How::Whole => "whole",
    }
}

fn json(costs: &Costs, estimate: bool) -> serde_json::Value {
    let layers = costs.layers.iter().map(|cost| {
        let LayerCost { reference, position, layer, how: way } = cost;
        serde_json::json!({
            "image": reference, "layer": position, "digest": layer.digest, "diff_id": layer.diff_id,
            "size": layer.size, "how": how(way), "bytes": cost.bytes(),
        })
    });
    serde_json::json!({
        "release": { "product": costs.release.product, "version": costs.release.version, "seq": costs.release.seq },
        "bases": costs.bases,
        "layers": layers.collect::<Vec<_>>(),
        "other_bytes": costs.other_bytes,
        "bytes": costs.bytes(),
        "full_bytes": costs.release.content_bytes,
        "estimate": estimate,
    })
}

fn table(costs: &Costs, estimate: bool) -> String {
    let mut table = Table::new(["IMAGE", "LAYER", "SIZE", "HOW", "BYTES"]);
    for cost in &costs.layers {
        table.row([
            cost.reference.clone(),
            cost.position.to_string(),
            out::bytes(cost.layer.size),
            how(&cost.how).to_owned(),
            out::bytes(cost.bytes()),
        ]);
    }
    let other = out::bytes(costs.other_bytes);
    table.row(["manifests, files".to_owned(), "-".to_owned(), other.clone(), "whole".to_owned(), other]);
    let (bytes, full) = (costs.bytes(), costs.release.content_bytes);
    let about = if estimate { "about " } else { "" };
    let share = bytes.saturating_mul(100).checked_div(full).unwrap_or_default();
    format!(
        "{}\nThe update takes {about}{}, {share} % of the full {}.\n",
        table.render(out::colour()),
        out::bytes(bytes),
        out::bytes(full),
    )
}
