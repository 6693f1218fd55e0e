//! `kedge diff`: what would be done, and how it is drawn wherever something asks before it acts.

use std::path::{Path, PathBuf};

use kedge_proto::local::v1 as local;

use super::failure::Failure;
use super::grid::{Cell, Grid};
use super::out::Paint;
use super::{Context, follow, import, say, values};

/// Show what would be done to a deployment, and change nothing
///
/// Against its active release: what has drifted, or what resuming it would put right. With --bundle: what installing that
/// bundle would do; it is verified first, as `import` would. Values that may be secret are not shown.
///
/// Exits with 0 when there is nothing to do and with 3 when there is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge diff shop                                    has anything been changed by hand?
  kedge diff shop --bundle shop-1.3.kedge            what would that update do, and is there downtime?
  kedge diff shop --bundle shop-1.3.kedge --set PORT=8081
  kedge diff shop -o json | jq '.services[] | {service, action, downtime}'
  kedge diff shop --quiet || [ $? -eq 3 ] && …       for scripts")]
pub(super) struct Args {
    /// The deployment
    deployment: String,
    /// Compare with this bundle instead of the active release; `-` is standard input
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    values: values::Values,
    /// SHA-256 of the vendor's root document, when this host trusts none yet
    #[arg(long, value_name = "HEX", requires = "bundle")]
    root_sha256: Option<String>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let diff = match &args.bundle {
        Some(file) => of_bundle(context, file, &args).await?,
        None if args.values.any() => {
            return Err(Failure::usage("parameters are given with a bundle: add --bundle FILE"));
        }
        None => {
            let request = local::DiffRequest { deployment: args.deployment.clone() };
            context.connect().await?.diff(request).await?.into_inner()
        }
    };
    let out = &context.out;
    if out.json {
        out.json(&diff)?;
    } else if !out.quiet {
        out.text(&page(&diff, out.colour()))?;
    }
    if diff.changes { Err(Failure::Changes) } else { Ok(()) }
}

async fn of_bundle(context: &Context, file: &Path, args: &Args) -> Result<local::Diff, Failure> {
    if args.values.takes_stdin() && file == Path::new("-") {
        return Err(Failure::usage("standard input can be the bundle or the values, not both"));
    }
    let options = local::ImportOptions {
        deployment: args.deployment.clone(),
        parameters: args.values.read()?.into_iter().collect(),
        root_sha256: args.root_sha256.clone().unwrap_or_default(),
        dry_run: true,
        ..local::ImportOptions::default()
    };
    would(context, file, options).await
}

/// Asks what an import would do.
pub(super) async fn would(
    context: &Context,
    file: &Path,
    options: local::ImportOptions,
) -> Result<local::Diff, Failure> {
    let following = follow::Options { result_only: true, ..follow::Options::default() };
    let done = import::send(context, file, options, following).await?;
    done.and_then(|done| done.diff)
        .ok_or_else(|| Failure::usage("the agent is older than this command line and shows no diff"))
}

/// The diff for people.
pub(super) fn page(diff: &local::Diff, colour: bool) -> String {
    let mut text = format!("{}\n", headline(diff, colour));
    for service in &diff.services {
        text.push('\n');
        text.push_str(&self::service(service, colour));
    }
    if !diff.objects.is_empty() {
        text.push('\n');
        let mut grid = Grid::default();
        for object in &diff.objects {
            let (sign, paint) = sign(&object.action);
            grid.row([
                Cell::new(format!("{sign} {} {}", object.kind, say::clean(&object.name)), paint),
                object.action.as_str().into(),
                say::clean(&object.reason).into_owned().into(),
            ]);
        }
        text.push_str(&grid.render(0, usize::MAX, colour));
    }
    let mut tail = String::new();
    if !diff.unchanged.is_empty() {
        let names = say::clean(&diff.unchanged.join(", ")).into_owned();
        tail.push_str(&format!("{}\n", Paint::Dim.on(&format!("= unchanged: {names}"), colour)));
    }
    for blocked in &diff.blocked {
        tail.push_str(&format!("{}\n", Paint::Bad.on(&format!("! {}", say::clean(blocked)), colour)));
    }
    for data in &diff.left_behind {
        tail.push_str(&format!("{}\n", Paint::Bad.on(&format!("! data: {}", say::clean(data)), colour)));
    }
    for note in &diff.notes {
        tail.push_str(&format!("  note: {}\n", say::clean(note)));
    }
    if diff.changes {
        tail.push_str(&format!("{}\n", summary(diff, colour)));
    }
    if !tail.is_empty() {
        text.push('\n');
        text.push_str(&tail);
    }
    text
}

fn headline(diff: &local::Diff, colour: bool) -> String {
    let name = Paint::Bold.on(&say::clean(&diff.deployment), colour);
    let release = |release: &Option<kedge_proto::v1::Release>| release.as_ref().map(say::release);
    match (release(&diff.from), release(&diff.to)) {
        _ if !diff.changes => format!("{name} is as it should be: nothing to do"),
        (Some(from), Some(to)) if from != to => format!("{name}: {from} → {to}"),
        (Some(same), _) => format!("{name}: {same}"),
        (None, Some(to)) => format!("{name}: nothing → {to}"),
        (None, None) => name,
    }
}

/// A sign that says the same as the colour.
fn sign(action: &str) -> (char, Paint) {
    match action {
        "create" | "start" | "unpause" => ('+', Paint::Good),
        "remove" => ('-', Paint::Bad),
        _ => ('~', Paint::Warn),
    }
}

fn service(service: &local::ServiceDiff, colour: bool) -> String {
    let (sign, paint) = sign(&service.action);
    let name = format!("{sign} {} {}", service.action, say::clean(&service.service));
    let mut text = format!("{}\n", paint.on(&name, colour));
    let mut grid = Grid::default();
    if service.fields.is_empty() {
        for reason in &service.reasons {
            grid.row([Cell::new("because", Paint::Dim), say::clean(reason).into_owned().into()]);
        }
    }
    for field in &service.fields {
        grid.row([say::clean(&field.field).into_owned().into(), change(field).into()]);
    }
    if let Some(downtime) = &service.downtime {
        let why = say::clean(&downtime.why);
        let cell = if downtime.expected {
            Cell::new(format!("yes: {why}"), Paint::Warn)
        } else {
            Cell::new(format!("no: {why}"), Paint::Good)
        };
        grid.row([Cell::new("downtime", Paint::Dim), cell]);
    }
    text.push_str(&grid.render(4, usize::MAX, colour));
    text
}

fn change(field: &local::FieldDiff) -> String {
    if field.hidden {
        return "differs (not shown)".to_owned();
    }
    let shown =
        |text: &str| if text.is_empty() { "not set".to_owned() } else { say::clean(text).into_owned() };
    format!("{} → {}", shown(&field.from), shown(&field.to))
}

/// `2 to recreate, 1 to create; downtime of web, db`.
fn summary(diff: &local::Diff, colour: bool) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    let actions = diff.services.iter().map(|s| &s.action).chain(diff.objects.iter().map(|o| &o.action));
    for action in actions {
        match counts.iter_mut().find(|(known, _)| known == action) {
            Some((_, count)) => *count += 1,
            None => counts.push((action, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(action, count)| format!("{count} to {action}")).collect();
    let what = if counts.is_empty() { "no container is touched".to_owned() } else { counts.join(", ") };
    let down: Vec<&str> = diff
        .services
        .iter()
        .filter(|s| s.downtime.as_ref().is_some_and(|downtime| downtime.expected))
        .map(|s| s.service.as_str())
        .collect();
    let (down, paint) = if down.is_empty() {
        ("no downtime".to_owned(), Paint::Good)
    } else {
        (format!("downtime of {}", say::clean(&down.join(", "))), Paint::Warn)
    };
    format!("{what}; {}", paint.on(&down, colour))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> local::Diff {
        let release = |version: &str, seq| kedge_proto::v1::Release {
            version: version.into(),
            seq,
            ..kedge_proto::v1::Release::default()
        };
        local::Diff {
            deployment: "shop".into(),
            from: Some(release("1.0.0", 1)),
            to: Some(release("2.0.0", 2)),
            changes: true,
            services: vec![local::ServiceDiff {
                service: "web".into(),
                action: "recreate".into(),
                fields: vec![
                    local::FieldDiff {
                        field: "image".into(),
                        from: "aa".into(),
                        to: "bb".into(),
                        hidden: false,
                    },
                    local::FieldDiff { field: "user".into(), to: "app\x1b[2J".into(), ..Default::default() },
                    local::FieldDiff { field: "environment KEY".into(), hidden: true, ..Default::default() },
                ],
                downtime: Some(local::Downtime { expected: true, why: "stopped first".into() }),
                ..local::ServiceDiff::default()
            }],
            objects: vec![local::ObjectDiff {
                kind: "volume".into(),
                name: "shop_data".into(),
                action: "create".into(),
                reason: "there is none".into(),
            }],
            unchanged: vec!["db".into()],
            notes: vec!["mind the gap".into()],
            ..local::Diff::default()
        }
    }

    #[test]
    fn a_diff_reads_as_a_page_without_colour_and_control_characters() {
        let expected = "\
shop: 2.0.0 (#2)

~ recreate web
    image            aa → bb
    user             not set → app [2J
    environment KEY  differs (not shown)
    downtime         yes: stopped first

+ volume shop_data  create  there is none

= unchanged: db
  note: mind the gap
1 to recreate, 1 to create; downtime of web
"
        .replace("shop: 2.0.0", "shop: 1.0.0 (#1) → 2.0.0");
        assert_eq!(page(&example(), false), expected);
        assert!(page(&example(), true).contains("\x1b[33m~ recreate web\x1b[0m"));
    }

    #[test]
    fn nothing_to_do_is_one_sentence() {
        let diff = local::Diff { deployment: "shop".into(), ..local::Diff::default() };
        assert_eq!(page(&diff, false), "shop is as it should be: nothing to do\n");
    }
}
