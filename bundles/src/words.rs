//! A command line as words, split as people expect it and run by no shell: spaces part words; quotes and backslashes hold
//! one together; nothing else means anything.

/// The words of a line.
///
/// # Errors
/// A reason when a quote is left open or the line ends in a backslash.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = rest.next().ok_or("the command ends in a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("the command has a quote that is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// The line that [`split`] makes these words of.
#[must_use]
pub fn join<W: AsRef<str>>(words: &[W]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=@%+".contains(c);
    let quoted = |word: &W| {
        let word = word.as_ref();
        if !word.is_empty() && word.chars().all(plain) {
            return word.to_owned();
        }
        let mut out = String::from("\"");
        for c in word.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
        out
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_and_joined_again() {
        let cases: [(&str, &[&str]); 5] = [
            ("a  b\tc", &["a", "b", "c"]),
            (r#"a 'b c' "d 'e'" f\ g "" "#, &["a", "b c", "d 'e'", "f g", ""]),
            ("a $(b) `c` | d > e ; f", &["a", "$(b)", "`c`", "|", "d", ">", "e", ";", "f"]),
            (r"'a\b'x", &[r"a\bx"]),
            ("", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(split(line).unwrap(), expected, "{line}");
            assert_eq!(split(&join(expected)).unwrap(), expected, "{line}");
        }
        for bad in ["a 'b", "a \"b", "a\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
