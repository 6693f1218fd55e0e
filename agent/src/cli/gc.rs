//! `kedge gc`: room made by letting go of what nothing needs.

use kedge_proto::local::v1 as local;

use super::failure::Failure;
use super::{Context, say};

/// Remove releases and images that nothing needs any more
///
/// What runs, what may be gone back to, what is being installed and what was stored for later stays. Only images that Kedge
/// brought are removed, and none that a container uses, whosever it is. Volumes are never touched. The agent does
/// the same by itself when a disk is nearly full (`collect_above_percent` in agent.toml).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge gc --dry-run                                 what would be removed
  kedge gc
  kedge gc -o json | jq '.images[].name'")]
pub(super) struct Args {
    /// Say what would be removed; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = local::GarbageRequest { dry_run: args.dry_run };
    let garbage = context.connect().await?.collect_garbage(request).await?.into_inner();
    if context.out.json {
        return context.out.json(&garbage);
    }
    if context.out.quiet {
        return Ok(());
    }
    context.out.text(&page(&garbage))
}

fn page(garbage: &local::Garbage) -> String {
    let mut text = String::new();
    let verb = if garbage.dry_run { "would remove" } else { "removed" };
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    for image in &garbage.images {
        text.push_str(&format!("{verb} image {}, {} MiB\n", say::clean(&image.name), mib(image.bytes)));
    }
    for release in &garbage.releases {
        text.push_str(&format!("{verb} release {}\n", say::clean(release)));
    }
    if garbage.blobs > 0 {
        let (count, size) = (garbage.blobs, mib(garbage.blob_bytes));
        text.push_str(&format!("{verb} {count} stored parts of releases, {size} MiB\n"));
    }
    for image in &garbage.kept {
        text.push_str(&format!("kept image {}: a container uses it\n", say::clean(&image.name)));
    }
    if text.is_empty() {
        text.push_str("there is nothing that is not needed\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_goes_and_why_something_stays_is_said() {
        let image = |name: &str| local::GarbageImage { name: name.into(), id: "i".into(), bytes: 3 << 20 };
        let garbage = local::Garbage {
            dry_run: true,
            releases: vec!["ab".into()],
            blobs: 2,
            blob_bytes: 1,
            images: vec![image("kedge.local/web:1")],
            kept: vec![image("kedge.local/db:1")],
        };
        assert_eq!(
            page(&garbage),
            "would remove image kedge.local/web:1, 3 MiB\nwould remove release ab\nwould remove 2 stored parts of releases, \
             1 MiB\nkept image kedge.local/db:1: a container uses it\n"
        );
        assert_eq!(page(&local::Garbage::default()), "there is nothing that is not needed\n");
    }
}
