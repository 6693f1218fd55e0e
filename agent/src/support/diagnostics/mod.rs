//! A diagnostics bundle: what somebody who cannot look needs to see, in pieces, blacked out, with a report of what was
//! blacked out where. Each piece can be left out: by what is asked for, by guard.toml in a session, and by the customer, who is
//! shown each before it leaves.

mod collectors;
mod file;
mod gather;

use std::collections::BTreeSet;

use kedge_bundle::support::Target;
use kedge_bundle::tar;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Support;
use crate::problem::Problem;
use crate::redact::{BLACK, Redactor};

/// Bytes of one piece; what is longer loses its beginning.
const MOST_PIECE: usize = 2 << 20;
/// Bytes of all.
const MOST: usize = 64 << 20;
/// Name of the report.
const REPORT: &str = "redactions.txt";

/// What is wanted in it.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Only these pieces, by name or by the beginning of one: `logs/`; all where none is named.
    pub only: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
}

impl Wish {
    /// Whether a piece of this name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        let is_named = |list: &[String]| list.iter().any(|begin| name.starts_with(begin.as_str()));
        (self.only.is_empty() || is_named(&self.only)) && !is_named(&self.skip)
    }

    /// Whether any piece whose name begins so may be wanted.
    fn wants_any(&self, folder: &str) -> bool {
        let within = |begin: &String| folder.starts_with(begin.as_str()) || begin.starts_with(folder);
        (self.only.is_empty() || self.only.iter().any(within))
            && !self.skip.iter().any(|begin| folder.starts_with(begin.as_str()))
    }
}

/// For whom a bundle is made, and until when: what runs for it ends with that.
#[derive(Debug, Clone)]
pub struct Owner {
    /// What its containers are labelled with: the grant's name, of a session.
    pub label: String,
    /// Ends what runs for it.
    pub cancel: CancellationToken,
    /// What runs for it. Whoever ends it waits for these.
    pub tasks: TaskTracker,
}

impl Owner {
    /// The customer, who waits for it, until the agent ends.
    pub fn customer(support: &Support) -> Self {
        let label = format!("bundle-{:016x}", rand::random::<u64>());
        Self { label, cancel: support.inner.stopping.child_token(), tasks: TaskTracker::new() }
    }
}

/// What a piece says before it is one.
enum Text {
    /// As it came.
    Raw(String),
    /// JSON in which each text was blacked out by itself, so that digests are still there.
    Cleared(String),
}

/// A piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name in the tar.
    pub name: String,
    /// What it says, blacked out.
    pub text: String,
    /// The lines in which something was blacked out, and how often, counted from 1.
    pub black: Vec<(u64, u64)>,
    /// Its beginning was left out: there was too much.
    pub cut: bool,
}

impl Piece {
    fn new(name: String, text: &Text, redactor: &Redactor) -> Self {
        let clear = match text {
            Text::Raw(text) => redactor.text(text),
            // Once more, whatever it was: what is known to be secret leaves nowhere.
            Text::Cleared(text) => redactor.only_known(text),
        };
        let from = clear.ceil_char_boundary(clear.len().saturating_sub(MOST_PIECE));
        let kept = &clear[from..];
        // What was inspected is blacked out already; counting marks counts both.
        let counted = (1..).zip(kept.lines()).map(|(line, text)| (line, text.matches(BLACK).count() as u64));
        let black = counted.filter(|(_, count)| *count > 0).collect();
        Self { name, black, cut: from > 0, text: kept.to_owned() }
    }

    /// How often something was blacked out.
    pub fn times(&self) -> u64 {
        self.black.iter().map(|(_, count)| count).sum()
    }
}

/// Makes the pieces of these targets, in the order in which they are read.
///
/// # Errors
/// When secrets cannot be read: then nothing may leave either. A piece that cannot be had says why in its place.
pub async fn make(
    support: &Support,
    owner: &Owner,
    targets: &BTreeSet<Target>,
    wish: &Wish,
) -> Result<Vec<Piece>, Problem> {
    let redactor = super::channel::redactor(support, targets.iter())?;
    let mut all = 0;
    let mut pieces = Vec::new();
    for (name, text) in gather::all(support, owner, targets, wish, &redactor).await {
        let mut piece = Piece::new(name, &text, &redactor);
        if all + piece.text.len() > MOST {
            piece =
                Piece { text: "left out: there is too much before it\n".into(), black: Vec::new(), ..piece };
        }
        all += piece.text.len();
        pieces.push(piece);
    }
    Ok(pieces)
}

/// The pieces as one tar, the report of what was blacked out where at its end.
pub fn tar(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| {
        out.extend_from_slice(&tar::header(name, bytes.len() as u64));
        out.extend_from_slice(bytes);
        out.resize(out.len() + tar::padding(bytes.len() as u64), 0);
    };
    for piece in pieces {
        add(&piece.name, piece.text.as_bytes());
    }
    add(REPORT, report(pieces).as_bytes());
    out.resize(out.len() + 2 * tar::BLOCK, 0);
    out
}

/// What was blacked out, by piece and line.
fn report(pieces: &[Piece]) -> String {
    /// Most lines that are named of one piece.
    const LINES: usize = 200;
    let mut report = String::from("What was blacked out, by piece and line:\n\n");
    for piece in pieces {
        report.push_str(&format!("{}: {} bytes, {} times", piece.name, piece.text.len(), piece.times()));
        for (at, (line, count)) in piece.black.iter().take(LINES).enumerate() {
            let times = if *count > 1 { format!(" ({count})") } else { String::new() };
            report.push_str(&format!("{} {line}{times}", if at == 0 { ", in line" } else { "," }));
        }
        if piece.black.len() > LINES {
            report.push_str(&format!(" and {} more", piece.black.len() - LINES));
        }
        report.push_str(if piece.cut { "; its beginning is left out\n" } else { "\n" });
    }
    report
}

#[cfg(test)]
mod tests {
    use kedge_bundle::parameters::Secret;

    use super::*;

    #[test]
    fn a_piece_is_wanted_by_the_beginning_of_its_name() {
        let wish = |only: &[&str], skip: &[&str]| Wish {
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            skip: skip.iter().map(|name| (*name).to_owned()).collect(),
        };
        let all = wish(&[], &[]);
        assert!(all.wants("doctor.txt") && all.wants_any("logs/"));
        let some = wish(&["logs/api", "doctor"], &[]);
        assert!(some.wants("logs/api-1.log") && some.wants("doctor.txt") && !some.wants("logs/db-1.log"));
        assert!(some.wants_any("logs/") && !some.wants_any("collectors/"));
        let less = wish(&[], &["collectors/", "logs/db"]);
        assert!(less.wants("logs/api-1.log") && !less.wants("logs/db-1.log") && less.wants_any("logs/"));
        assert!(!less.wants_any("collectors/") && !less.wants("collectors/shop/queue.txt"));
    }

    #[test]
    fn the_report_says_what_was_blacked_out_in_which_line_of_what() {
        let redactor = Redactor::knowing([Secret::new("hunter2".into())]);
        let text = "one\nhunter2 and hunter2\nthree\nfour hunter2\n";
        let pieces = [
            Piece::new("a.txt".into(), &Text::Raw(text.into()), &redactor),
            Piece::new("b.txt".into(), &Text::Cleared("nothing\n".into()), &redactor),
            Piece::new("c.txt".into(), &Text::Raw("line\n".repeat(MOST_PIECE / 4)), &redactor),
        ];
        assert!(!pieces[0].text.contains("hunter2"));
        assert_eq!((pieces[0].times(), pieces[0].black.as_slice()), (3, &[(2, 2), (4, 1)][..]));
        assert!(pieces[2].cut && pieces[2].text.len() <= MOST_PIECE);
        let report = report(&pieces);
        assert!(report.contains("a.txt: 52 bytes, 3 times, in line 2 (2), 4\n"), "{report}");
        assert!(report.contains("b.txt: 8 bytes, 0 times\n"), "{report}");
        assert!(report.contains("its beginning is left out"), "{report}");
        let tar = tar(&pieces);
        assert_eq!(tar.len() % tar::BLOCK, 0);
        assert!(tar.windows(REPORT.len()).any(|part| part == REPORT.as_bytes()));
    }
}
