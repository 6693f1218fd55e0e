//! `kedge support bundle`: a file with what a vendor needs to help, chosen piece by piece by the customer.

use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;

use kedge_proto::local::v1 as local;

use super::super::failure::Failure;
use super::super::{Context, say};
use super::approve::write_new;
use crate::support::diagnostics::{self, Piece};

/// Make a file with what a vendor needs to help, secrets blacked out, to send yourself
///
/// It holds what `kedge doctor` says, versions, the state of host and deployments, what is planned, containers without the values
/// of their environment, the last lines of every log, events, the head of the audit log, what the products gather themselves,
/// and a report of what was blacked out where. Nothing is sent. On a terminal you are asked about each piece and can look at it
/// first; elsewhere, or with --yes, --only or --skip, it holds what was asked for. What you have seen is what is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge support bundle -f host.tar                   asks about each piece
  kedge support bundle --preview                     lists the pieces and makes no file
  kedge support bundle -f host.tar --skip logs/ --skip deployments/crm.json
  kedge support bundle -f host.tar --only doctor.txt,versions.json,logs/shop-api")]
pub(super) struct Args {
    /// The new file
    #[arg(short, long, value_name = "FILE", required_unless_present = "preview")]
    file: Option<PathBuf>,
    /// Only these pieces, or all that begin so
    #[arg(long, value_name = "PIECE", value_delimiter = ',')]
    only: Vec<String>,
    /// Not these pieces, or all that begin so
    #[arg(long, alias = "without", value_name = "PIECE", value_delimiter = ',')]
    skip: Vec<String>,
    /// List the pieces, their sizes and how often something was blacked out, and make no file
    #[arg(long)]
    preview: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let asks = args.only.is_empty() && args.skip.is_empty() && !args.yes && std::io::stdin().is_terminal();
    let request = local::SupportBundleRequest { skip: args.skip, only: args.only };
    let mut answers = context.connect().await?.support_bundle(request).await?.into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = answers.message().await? {
        pieces.push(Piece {
            name: piece.name,
            text: String::from_utf8_lossy(&piece.text).into_owned(),
            black: piece.black.iter().map(|black| (black.line, black.times)).collect(),
            cut: piece.cut,
        });
    }
    let Some(file) = args.file.filter(|_| !args.preview) else { return list(context, &pieces) };
    if asks {
        let mut stdin = std::io::stdin().lock();
        let mut answer = |question: &str| {
            context.out.ask(question);
            let mut typed = String::new();
            let read = (&mut stdin).take(64).read_line(&mut typed);
            read.is_ok_and(|bytes| bytes > 0).then(|| typed.trim().to_owned())
        };
        let mut show = |text: &str| context.out.text(text);
        pieces = choose(pieces, &mut answer, &mut show)?;
    }
    if pieces.is_empty() {
        return Err(Failure::usage("there is no such piece, or none was chosen: no file was made"));
    }
    let tar = diagnostics::tar(&pieces);
    write_new(&file, &tar, 0o600)?;
    context.out.note(&format!(
        "{} holds {} pieces in {} bytes; redactions.txt in it says what was blacked out where",
        file.display(),
        pieces.len(),
        tar.len()
    ));
    Ok(())
}

fn list(context: &Context, pieces: &[Piece]) -> Result<(), Failure> {
    if context.out.json {
        let shown = |piece: &Piece| {
            serde_json::json!({
                "name": piece.name, "bytes": piece.text.len(), "blacked_out": piece.times(),
                "lines": piece.black.iter().map(|(line, _)| line).collect::<Vec<_>>(), "cut": piece.cut,
            })
        };
        return context.out.json(&pieces.iter().map(shown).collect::<Vec<_>>());
    }
    pieces.iter().try_for_each(|piece| context.out.text(&format!("{}\n", described(piece))))
}

fn described(piece: &Piece) -> String {
    let name = say::clean(&piece.name);
    format!("{name:<50} {:>9} bytes, blacked out {} times", piece.text.len(), piece.times())
}

/// The pieces that somebody says yes to, who may look at each first.
fn choose(
    pieces: Vec<Piece>,
    answer: &mut dyn FnMut(&str) -> Option<String>,
    show: &mut dyn FnMut(&str) -> Result<(), Failure>,
) -> Result<Vec<Piece>, Failure> {
    let mut chosen = Vec::new();
    let mut rest = pieces.into_iter();
    while let Some(piece) = rest.next() {
        let question = format!(
            "{}\n  Include it? yes, no, show, all that follow, none that follow, quit: ",
            described(&piece)
        );
        loop {
            match answer(&question).as_deref() {
                Some("y" | "yes") => chosen.push(piece),
                Some("n" | "no") => {}
                Some("s" | "show") => {
                    for line in piece.text.lines() {
                        show(&format!("  {}\n", say::clean(line)))?;
                    }
                    continue;
                }
                Some("a" | "all") => {
                    chosen.push(piece);
                    chosen.extend(rest);
                    return Ok(chosen);
                }
                Some("none") => return Ok(chosen),
                Some("q" | "quit") | None => return Err(Failure::usage("no file was made")),
                Some(_) => continue,
            }
            break;
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(answers: &[&str]) -> (Option<Vec<String>>, String) {
        let piece = |name: &str| Piece {
            name: name.to_owned(),
            text: format!("text of {name}\u{1b}[2J\n"),
            black: Vec::new(),
            cut: false,
        };
        let mut answers = answers.iter();
        let mut answer = |_: &str| answers.next().map(|answer| (*answer).to_owned());
        let mut shown = String::new();
        let mut show = |text: &str| {
            shown.push_str(text);
            Ok(())
        };
        let chosen = choose(vec![piece("a"), piece("b"), piece("c")], &mut answer, &mut show);
        (chosen.ok().map(|pieces| pieces.into_iter().map(|piece| piece.name).collect()), shown)
    }

    #[test]
    fn only_what_was_said_yes_to_is_in_the_file() {
        for (answers, expected) in [
            (&["y", "n", "yes"][..], Some(vec!["a", "c"])),
            (&["n", "a"], Some(vec!["b", "c"])),
            (&["y", "none"], Some(vec!["a"])),
            (&["y", "what?", "", "no", "n"], Some(vec!["a"])),
            (&["y", "q"], None),
            // Whoever goes away has said no to everything.
            (&["y", "y"], None),
            (&[], None),
        ] {
            let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(chosen(answers).0, expected, "{answers:?}");
        }
    }

    #[test]
    fn a_piece_can_be_looked_at_first() {
        let (names, shown) = chosen(&["s", "y", "n", "show", "n"]);
        assert_eq!(names, Some(vec!["a".to_owned()]));
        assert!(shown.contains("text of a") && shown.contains("text of c") && !shown.contains("text of b"));
        assert!(!shown.contains('\u{1b}'));
    }
}
