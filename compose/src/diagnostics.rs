//! What is wrong and where: findings are collected while loading, all of them, and told with the source line at the end.
//!
//! A finding points into the file by [`At`], twelve bytes that every node carries. Only when a load ends are findings
//! turned into [`Diagnostic`]s, which own their text and outlive the files.

use std::fmt;

use crate::codes::Code;

/// So many findings are kept; more would not help anyone.
const MAX_FINDINGS: usize = 100;
/// Characters that a message may have, names of megabytes being possible.
const MAX_MESSAGE: usize = 2000;
/// Characters of a line that are shown.
const MAX_SHOWN: u32 = 160;

/// A place in one of the files read. Line and column count from one; line zero means the file as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A file that was read, kept to show its lines.
#[derive(Debug)]
struct Source {
    name: String,
    /// Empty when lines must not be shown: env files hold secrets.
    text: String,
}

/// All files read during a load.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    /// Registers a file and gives the number that its places carry.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> u32 {
        self.0.push(Source { name: name.to_owned(), text: text.to_owned() });
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// Name of the file that a place is in.
    pub(crate) fn name(&self, at: At) -> &str {
        self.0.get(at.file as usize).map_or("", |source| &source.name)
    }

    /// The line of a place, and the column at which what is shown of it starts.
    fn line(&self, at: At) -> Option<(String, u32)> {
        let source = self.0.get(at.file as usize)?;
        let index = (at.line as usize).checked_sub(1)?;
        let line = source.text.lines().nth(index)?;
        // Of a long line, such as that of a whole file in JSON, what stands around the place.
        let skipped = at.column.saturating_sub(MAX_SHOWN / 2 + 1);
        let shown = line.chars().skip(skipped as usize).take(MAX_SHOWN as usize).map(printable);
        Some((shown.collect(), skipped + 1))
    }

    fn diagnostic(&self, finding: Finding) -> Diagnostic {
        let (source, source_column) = self.line(finding.at).unzip();
        Diagnostic {
            code: finding.code,
            file: self.name(finding.at).chars().map(printable).collect(),
            line: finding.at.line,
            column: finding.at.column,
            source,
            source_column: source_column.unwrap_or(1),
            message: finding.message.chars().map(printable).take(MAX_MESSAGE).collect(),
            help: finding.help.map(|help| help.chars().map(printable).take(MAX_MESSAGE).collect()),
        }
    }
}

/// Keys and values of a file must not be able to move a terminal's cursor or colour what follows.
fn printable(c: char) -> char {
    if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c }
}

/// A finding whose place is not yet spelled out.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) code: &'static Code,
    pub(crate) at: At,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Finding {
    /// A finding without advice.
    pub(crate) fn new(code: &'static Code, at: At, message: impl Into<String>) -> Self {
        Self { code, at, message: message.into(), help: None }
    }

    /// Adds what to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Where findings are put down during a load.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// Says that errors have been put down and the current stage cannot go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop;

impl Findings {
    /// Puts down an error; the same one at the same place counts once.
    pub(crate) fn error(&mut self, finding: Finding) {
        let known = |other: &Finding| other.at == finding.at && other.message == finding.message;
        if self.errors.len() < MAX_FINDINGS && !self.errors.iter().any(known) {
            self.errors.push(finding);
        }
    }

    /// Puts down a warning; the same text counts once.
    pub(crate) fn warn(&mut self, finding: Finding) {
        let known = |other: &Finding| other.message == finding.message;
        if self.warnings.len() < MAX_FINDINGS && !self.warnings.iter().any(known) {
            self.warnings.push(finding);
        }
    }

    /// Whether further errors will not be kept: no effort is worth spending on them.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= MAX_FINDINGS
    }

    /// Whether further warnings will not be kept.
    pub(crate) fn is_full_of_warnings(&self) -> bool {
        self.warnings.len() >= MAX_FINDINGS
    }

    /// Errors so far.
    pub(crate) fn count(&self) -> usize {
        self.errors.len()
    }

    /// `Err` when there is an error so far.
    pub(crate) fn stop_on_errors(&self) -> Result<(), Stop> {
        if self.errors.is_empty() { Ok(()) } else { Err(Stop) }
    }

    /// Spells out all errors, in order of place.
    pub(crate) fn into_errors(mut self, sources: &Sources) -> Errors {
        self.errors.sort_by_key(|finding| finding.at);
        Errors(self.errors.into_iter().map(|finding| sources.diagnostic(finding)).collect())
    }

    /// Spells out all warnings, in order of place.
    pub(crate) fn into_warnings(mut self, sources: &Sources) -> Vec<Diagnostic> {
        self.warnings.sort_by_key(|finding| finding.at);
        self.warnings.into_iter().map(|finding| sources.diagnostic(finding)).collect()
    }
}

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Entry of the catalogue.
    pub code: &'static Code,
    /// File, as it was named when loading.
    pub file: String,
    /// Line, from one; zero when it concerns the file or project as a whole.
    pub line: u32,
    /// Column, from one, in characters; zero with line zero.
    pub column: u32,
    /// The line itself, or what stands around the place when it is long. `None` for env files, whose lines hold secrets.
    pub source: Option<String>,
    /// Column at which `source` starts, from one.
    pub source_column: u32,
    /// What is wrong. Values that came out of variables are not repeated in it.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code.id, self.message)?;
        match (self.file.is_empty(), self.line) {
            (true, _) => {}
            (false, 0) => write!(f, "\n  --> {}", self.file)?,
            (false, line) => write!(f, "\n  --> {}:{line}:{}", self.file, self.column)?,
        }
        if let Some(source) = &self.source {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            let before = self.column.saturating_sub(self.source_column) as usize;
            // Tabs are kept in the margin so that the caret stands under its character.
            let indent: String =
                source.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let dots = if self.source_column > 1 { "…" } else { "" };
            let gap = if self.source_column > 1 { " " } else { "" };
            write!(f, "\n{margin} |\n{number} | {dots}{source}\n{margin} | {gap}{indent}^")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = help: {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a project: never empty, in order of file, line and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Diagnostic>);

impl Errors {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Diagnostic] {
        &self.0
    }

    /// Code of the first error: what the command ends with.
    #[must_use]
    pub fn code(&self) -> &'static Code {
        self.0.first().map_or(&crate::codes::UNREADABLE, |first| first.code)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The known word nearest to one that is not known, if near enough to be a typo.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A hostile key of megabytes must not cost a quadratic comparison.
    if word.len() > 64 {
        return None;
    }
    let limit = (word.chars().count() / 3).clamp(1, 3);
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c)
}

/// Edits between two words: insert, remove, replace, or swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_column() {
        let mut sources = Sources::default();
        let file = sources.add("compose.yaml", "services:\n  web:\n    imgae: x\n");
        let mut findings = Findings::default();
        findings.error(
            Finding::new(&crate::codes::UNKNOWN_KEY, At { file, line: 3, column: 5 }, "unknown key `imgae`")
                .help("did you mean `image`?"),
        );
        assert_eq!(
            findings.into_errors(&sources).to_string(),
            "[KE-1002] unknown key `imgae`\n  --> compose.yaml:3:5\n  |\n3 |     imgae: x\n  |     ^\n  = help: did you mean `image`?"
        );
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let mut sources = Sources::default();
        let line = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
        let file = sources.add("f", &line);
        let finding = Finding::new(&crate::codes::UNREADABLE, At { file, line: 1, column: 5001 }, "m");
        let shown = sources.diagnostic(finding).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let column = |line: &str, wanted: char| line.chars().position(|c| c == wanted);
        assert_eq!(column(lines[3], 'H'), column(lines[4], '^'), "{shown}");
        assert!(shown.len() < 500, "{shown}");
    }

    #[test]
    fn nothing_in_a_file_reaches_a_terminal_as_a_control_character() {
        let mut sources = Sources::default();
        let file = sources.add("f\u{1b}", "a\u{9b}31m: \u{1b}[2J\tx\n");
        let finding = Finding::new(&crate::codes::UNREADABLE, At { file, line: 1, column: 1 }, "k\u{1b}y\r");
        let shown = sources.diagnostic(finding.help("h\u{7}")).to_string();
        assert!(!shown.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "{shown:?}");
        assert!(shown.contains('\t'));
    }

    #[test]
    fn a_typo_finds_its_word_and_nonsense_finds_none() {
        let known = ["image", "init", "ports", "expose"];
        assert_eq!(nearest("imgae", known.into_iter()), Some("image"));
        assert_eq!(nearest("port", known.into_iter()), Some("ports"));
        assert_eq!(nearest("zzzzzz", known.into_iter()), None);
        assert_eq!(nearest(&"i".repeat(100_000), known.into_iter()), None);
    }
}
