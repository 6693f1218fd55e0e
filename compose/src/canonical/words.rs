//! Splits a command line into arguments, the way Docker Compose does for `command` and `entrypoint` given as text.
//!
//! Not a shell: no variables, no globs. Quotes and backslashes group; an unquoted `;`, `&`, `|`, `<` or `>` ends the
//! command, and what follows is lost, which is worth a warning.

/// Arguments of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) words: Vec<String>,
    /// The operator that ended the command early.
    pub(crate) cut_at: Option<char>,
}

/// Splits; `None` when a quote or parenthesis is left open.
pub(crate) fn split(line: &str) -> Option<Words> {
    let mut words = Vec::new();
    let mut word = String::new();
    // A word can be empty and still be there: `""`.
    let mut started = false;
    let (mut escaped, mut single, mut double, mut back, mut dollar) = (false, false, false, false, false);
    let mut cut_at = None;
    for c in line.chars() {
        if escaped {
            word.push(c);
            escaped = false;
            started = true;
            continue;
        }
        match c {
            '\\' if single => word.push(c),
            '\\' => escaped = true,
            ' ' | '\t' | '\r' | '\n' => {
                if single || double || back || dollar {
                    word.push(c);
                } else if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            '"' if !single && !dollar => {
                started |= double;
                double = !double;
            }
            '\'' if !double && !dollar => {
                started |= single;
                single = !single;
            }
            ';' | '&' | '|' | '<' | '>' if !(single || double || back || dollar) => {
                // A number before `>` names a file descriptor and is no argument.
                if c == '>' && word.starts_with(|c: char| c.is_ascii_digit()) {
                    started = false;
                }
                cut_at = Some(c);
                break;
            }
            '(' if !single && !double && !back => {
                if dollar || !word.ends_with('$') {
                    return None;
                }
                dollar = true;
                word.push(c);
                started = true;
            }
            ')' if !single && !double && !back => {
                dollar = !dollar;
                word.push(c);
                started = true;
            }
            '`' if !single && !double && !dollar => {
                back = !back;
                word.push(c);
                started = true;
            }
            other => {
                word.push(other);
                started = true;
            }
        }
    }
    if escaped || single || double || back || dollar {
        return None;
    }
    if started {
        words.push(word);
    }
    Some(Words { words, cut_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_group() {
        for (line, expected) in [
            ("a b  c", &["a", "b", "c"][..]),
            ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
            ("a\\ b", &["a b"]),
            ("'a\\b'", &["a\\b"]),
            ("\"a\\\"b\"", &["a\"b"]),
            ("a''b", &["ab"]),
            ("\"\" x", &["", "x"]),
            ("sh -c 'echo $$X'", &["sh", "-c", "echo $$X"]),
            ("", &[]),
            ("echo $(a b) c", &["echo", "$(a b)", "c"]),
            ("a\nb", &["a", "b"]),
            ("a\\tb", &["atb"]),
        ] {
            assert_eq!(split(line).unwrap().words, expected, "{line}");
        }
    }

    #[test]
    fn operators_end_the_command() {
        let words = split("echo a && b").unwrap();
        assert_eq!((words.words, words.cut_at), (vec!["echo".to_owned(), "a".to_owned()], Some('&')));
        assert_eq!(split("x 2>/dev/null").unwrap().words, ["x"]);
        assert_eq!(split("x 'a|b'").unwrap().cut_at, None);
    }

    #[test]
    fn open_quotes_are_refused() {
        for line in ["'a", "\"a", "a\\", "`a", "$(a", "a(b)"] {
            assert_eq!(split(line), None, "{line}");
        }
    }
}
