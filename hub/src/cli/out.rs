//! Standard output and standard error: tables and JSON for results, sentences for everything else.

use crate::codes;
use crate::error::{Failure, Result};
use jiff::Timestamp;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{IsTerminal, Write};

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// One JSON value, for programs.
    Json,
}

/// Gap between columns.
const GAP: &str = "  ";

/// A table: headings, then rows of as many cells.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Table { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Adds a row. Cells become one line each, without control characters: what hosts and bundles say must
    /// not move the cursor.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| clean(&cell).into_owned()).to_vec());
    }

    /// As text, headings dim where `colour`.
    pub(crate) fn render(&self, colour: bool) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = padded.collect::<Vec<_>>().join(GAP);
            let line = line.trim_end();
            match colour && number == 0 {
                true => text.push_str(&format!("\x1b[2m{line}\x1b[0m\n")),
                false => text.push_str(&format!("{line}\n")),
            }
        }
        text
    }
}

/// Whether standard output is a terminal that may be coloured.
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether bars may be drawn on standard error.
pub(crate) fn bars() -> bool {
    std::io::stderr().is_terminal()
}

/// Writes a result.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // Whoever read the output has had enough: nobody's mistake.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(codes::OUTPUT, "standard output cannot be written").because(error)),
    }
}

/// Writes a result as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(value).map_err(|error| {
        Failure::new(codes::UNEXPECTED, "a result cannot be written as JSON").because(error)
    })?;
    text(&format!("{line}\n"))
}

/// Writes a remark on standard error; if that is closed, nobody wants to hear it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Says what failed and what to do, on standard error.
pub(crate) fn failure(failure: &Failure) {
    let colour = bars() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (error, help) =
        if colour { ("\x1b[31merror:\x1b[0m", "\x1b[1mhelp:\x1b[0m") } else { ("error:", "help:") };
    note(&format!("{error} {} [{}]", clean_lines(&failure.chain()), failure.code));
    note(&format!("{help}  {}", clean_lines(failure.remedy())));
}

/// One line without control characters.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// The same, with line ends kept.
pub(crate) fn clean_lines(text: &str) -> String {
    text.trim_end().lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// How long ago, or in how long, an RFC 3339 moment is: `40 s`, `12 min`, `3 h`, `8 d`.
pub(crate) fn distance(moment: &str, now: Timestamp) -> String {
    let Ok(moment) = moment.parse::<Timestamp>() else { return "-".to_owned() };
    let seconds = now.duration_since(moment).as_secs().unsigned_abs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A size in words: `512 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// The text, or a dash where there is none.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_have_no_trailing_space() {
        let mut table = Table::new(["HOST", "SITE"]);
        table.row(["a-long-name".into(), "x".into()]);
        table.row(["b".into(), String::new()]);
        assert_eq!(table.render(false), "HOST         SITE\na-long-name  x\nb\n");
    }

    #[test]
    fn what_others_say_cannot_move_the_cursor_or_forge_a_row() {
        let mut table = Table::new(["A"]);
        table.row(["x\x1b[2J\ny".into()]);
        assert_eq!(table.render(false), "A\nx [2J y\n");
    }

    #[test]
    fn distances_are_said_in_one_unit() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-11-21T11:59:20Z", "40 s"),
            ("2026-11-21T12:12:00Z", "12 min"),
            ("2026-11-21T09:00:00Z", "3 h"),
            ("2026-11-13T12:00:00Z", "8 d"),
            ("never", "-"),
        ];
        for (moment, expected) in cases {
            assert_eq!(distance(moment, now), expected);
        }
    }
}
