//! Env files: `.env` of a project, `env_file` and `label_file` of services.
//!
//! The dialect is that of `docker compose`: `KEY=value`, `KEY: value`, `export`, comments, single quotes (literal),
//! double quotes (escapes and variables), values over several lines, and a bare `KEY` that takes its value from
//! outside. Messages name the line and never repeat it, since it may hold a secret.

use std::collections::BTreeMap;

use crate::interpolate::{self, Lookup, Problem};

/// Why an env file is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) line: u32,
    pub(crate) reason: Reason,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    Text(String),
    Variable(Problem),
}

/// Parses an env file. `lookup` gives values from outside, which win over earlier lines inside expressions.
pub(crate) fn parse<'e>(text: &str, lookup: Lookup<'_, 'e>) -> Result<BTreeMap<String, String>, Malformed> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let mut values = BTreeMap::new();
    let mut work = 0;
    while reader.skip_to_statement() {
        let line = reader.line;
        let fail = |reason| Malformed { line, reason };
        let (key, has_value) = reader.key().map_err(|text| fail(Reason::Text(text)))?;
        if !has_value {
            if let Some(value) = lookup(&key).map(str::to_owned) {
                values.insert(key, value);
            }
            continue;
        }
        let (raw, quote) = reader.value().map_err(|text| fail(Reason::Text(text)))?;
        let template = match quote {
            Quote::Single => {
                values.insert(key, raw);
                continue;
            }
            Quote::Double => unescape(&raw),
            Quote::None => raw,
        };
        let inside: Lookup<'_, '_> = &|name| lookup(name).or_else(|| values.get(name).map(String::as_str));
        let filled = interpolate::fill(&template, inside, &mut work);
        let filled = filled.map_err(|problem| fail(Reason::Variable(problem)))?;
        values.insert(key, filled.text);
    }
    Ok(values)
}

/// Parses an env file with `format: raw`: `KEY=value` lines taken as they are, `#` comments and blank lines skipped.
pub(crate) fn parse_raw<'e>(
    text: &str,
    lookup: Lookup<'_, 'e>,
) -> Result<BTreeMap<String, String>, Malformed> {
    let mut values = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, content) in (1u32..).zip(text.lines()) {
        let content = content.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let (key, value) = match content.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (content, lookup(content).map(str::to_owned)),
        };
        if key.is_empty() || key.contains(char::is_whitespace) {
            let reason = Reason::Text("the name of the variable is empty or contains a space".to_owned());
            return Err(Malformed { line, reason });
        }
        if let Some(value) = value {
            values.insert(key.to_owned(), value);
        }
    }
    Ok(values)
}

enum Quote {
    None,
    Single,
    Double,
}

struct Reader<'a> {
    rest: &'a str,
    line: u32,
}

impl Reader<'_> {
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        let lines = passed.bytes().filter(|byte| *byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.rest = rest;
    }

    /// Moves to the next statement, over blank lines and comments; `false` at the end.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.advance(blank);
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.advance(end);
        }
    }

    /// The name, and whether a value follows it on this line.
    fn key(&mut self) -> Result<(String, bool), String> {
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with(blank)
        {
            let skipped = self.rest.len() - rest.trim_start_matches(blank).len();
            self.advance(skipped);
        }
        let stop = |c: char| !(c.is_alphanumeric() || blank(c) || matches!(c, '_' | '.' | '-' | '[' | ']'));
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let key = self.rest[..end].trim_end().to_owned();
        let found = self.rest[end..].chars().next();
        if key.is_empty() {
            return Err("the name of the variable is missing".to_owned());
        }
        if key.contains(blank) {
            return Err("the name of the variable contains a space".to_owned());
        }
        match found {
            Some('=' | ':') => {
                self.advance(end + 1);
                let skipped = self.rest.len() - self.rest.trim_start_matches(blank).len();
                self.advance(skipped);
                Ok((key, true))
            }
            None | Some('\n') => {
                self.advance(end);
                Ok((key, false))
            }
            Some(c) => Err(format!("unexpected character {c:?} in the name of the variable")),
        }
    }

    /// The value as written, without its quotes and the comment after it.
    fn value(&mut self) -> Result<(String, Quote), String> {
        let (quote, kind) = match self.rest.chars().next() {
            Some('"') => ('"', Quote::Double),
            Some('\'') => ('\'', Quote::Single),
            _ => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                let line = &self.rest[..end];
                let value = line.split(" #").next().unwrap_or(line).trim_end().to_owned();
                self.advance(end);
                return Ok((value, Quote::None));
            }
        };
        let mut value = String::new();
        let mut escaped = false;
        for (index, c) in self.rest.char_indices().skip(1) {
            match (c, escaped) {
                // An escaped quote is a quote; any other escape is kept for later.
                (c, true) => {
                    if c != quote {
                        value.push('\\');
                    }
                    value.push(c);
                    escaped = false;
                }
                ('\\', false) => escaped = true,
                (c, false) if c == quote => {
                    self.advance(index + 1);
                    return Ok((value, kind));
                }
                (c, false) => value.push(c),
            }
        }
        Err("the quoted value has no closing quote".to_owned())
    }
}

/// White space that does not end a line.
fn blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// Escapes of double quotes: `\n` and friends, `\\`, `\0` with octal digits; `\$` becomes the `$$` of templates.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(index) = rest.find('\\') {
        out.push_str(&rest[..index]);
        let after = &rest[index + 1..];
        let mut consumed = 1;
        match after.chars().next() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some('"') => out.push('"'),
            Some('\\') => out.push('\\'),
            Some('$') => out.push_str("$$"),
            Some('0') => {
                let digits: String = after[1..].chars().take(3).take_while(|c| c.is_digit(8)).collect();
                let code = (digits.len() == 3).then(|| u32::from_str_radix(&digits, 8).ok()).flatten();
                match code.filter(|code| *code < 256).and_then(char::from_u32) {
                    Some(c) => {
                        out.push(c);
                        consumed = 4;
                    }
                    // Fewer than three digits are no escape, and lose their zero.
                    None => out.push('\\'),
                }
            }
            _ => {
                out.push('\\');
                consumed = 0;
            }
        }
        rest = &after[consumed..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> BTreeMap<String, String> {
        parse(text, &|name| (name == "OUT").then_some("outside")).unwrap()
    }

    #[test]
    fn every_form_of_line_is_read() {
        for (text, expected) in [
            ("A=1", "1"),
            ("A: 1", "1"),
            ("export A=1", "1"),
            ("  A = 1  ", "1"),
            ("A=1 # note", "1"),
            ("A=1#2", "1#2"),
            ("# note\n\nA=1\n", "1"),
            ("A=", ""),
            ("A=''", ""),
            ("A='$OUT \\n'", "$OUT \\n"),
            ("A='it\\'s'", "it's"),
            ("A=\"x\\ty\"", "x\ty"),
            ("A=\"x\\\\ny\"", "x\\ny"),
            ("A=\"\\0101\"", "A"),
            ("A=\"two\nlines\" # note\nB=2", "two\nlines"),
            ("A=$OUT", "outside"),
            ("A=\"${OUT}!\"", "outside!"),
            ("A=\"\\$OUT\"", "$OUT"),
            ("A=$$OUT", "$OUT"),
            ("B=b\nA=${B}c", "bc"),
            ("OUT=x\nA=$OUT", "outside"),
            ("A=${NO:-d}", "d"),
            ("A=a b c", "a b c"),
            ("A=1\r\nB=2\r\n", "1"),
            ("\u{feff}A=1", "1"),
            ("A=1\nA=2", "2"),
            ("A={\"k\": \"v\"}", "{\"k\": \"v\"}"),
        ] {
            assert_eq!(parsed(text).get("A").map(String::as_str), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn a_bare_name_is_inherited_or_left_out() {
        assert_eq!(parsed("OUT\nNONE\nA=1").into_keys().collect::<Vec<_>>(), ["A", "OUT"]);
        assert_eq!(parsed("OUT")["OUT"], "outside");
    }

    #[test]
    fn errors_name_the_line_and_not_the_value() {
        let error = |text: &str| parse(text, &|_| None).unwrap_err();
        assert_eq!(error("A=1\nB C=2").line, 2);
        assert_eq!(error("A=1\n=2").line, 2);
        assert_eq!(error("A=1\n\n\"x\"=2").line, 3);
        assert_eq!(
            error("A='secret").reason,
            Reason::Text("the quoted value has no closing quote".to_owned())
        );
        assert_eq!(error("A=${B:?}").reason, Reason::Variable(Problem::Required("B".into(), String::new())));
    }

    #[test]
    fn raw_files_are_taken_as_they_are() {
        let values = parse_raw("# c\nA=\"$X\" # y\nOUT\n\nB=", &|_| Some("o")).unwrap();
        assert_eq!(values["A"], "\"$X\" # y");
        assert_eq!((values["OUT"].as_str(), values["B"].as_str()), ("o", ""));
        assert_eq!(parse_raw("A=1\nB C=1", &|_| None).unwrap_err().line, 2);
    }
}
