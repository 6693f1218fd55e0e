//! Parameters from the command line: `--set KEY=VALUE` and `--values FILE`.
//!
//! A file that ends in `.toml` is a flat table; any other holds `KEY=VALUE` lines, with `#` comments. What
//! `--set` says wins. Values are text all the way to the product, which knows what they should be.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::codes;
use crate::problem::Problem;

/// Largest values file, bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Flags that commands taking parameters share.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Values {
    /// A parameter of the product; may be repeated. Others keep their last value
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// A file of parameters: a flat TOML table (*.toml), else NAME=VALUE lines; `-` is standard input.
    /// The way for secrets: arguments can be seen by every user of the host
    #[arg(long, value_name = "FILE")]
    values: Option<PathBuf>,
}

impl Values {
    /// All of them, `--set` over `--values`.
    pub(super) fn read(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut all = match &self.values {
            Some(path) => read_file(path)?,
            None => BTreeMap::new(),
        };
        for set in &self.set {
            let (name, value) = pair(set).ok_or_else(|| {
                // The text itself may be a secret: only its position is said.
                Failure::usage("--set takes NAME=VALUE, with a name before the `=`")
            })?;
            all.insert(name.to_owned(), value.to_owned());
        }
        Ok(all)
    }

    /// Whether any were given.
    pub(super) fn any(&self) -> bool {
        self.values.is_some() || !self.set.is_empty()
    }

    /// Whether standard input is read for values.
    pub(super) fn takes_stdin(&self) -> bool {
        self.values.as_deref() == Some(Path::new("-"))
    }
}

fn pair(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').map(|(name, value)| (name.trim(), value)).filter(|(name, _)| !name.is_empty())
}

fn read_file(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text = read_bounded(path, MAX_FILE)?;
    let toml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
    let values = if toml { from_toml(&text) } else { from_lines(&text) };
    values.map_err(|why| Problem::new(&codes::PARAMETERS, format!("{}: {why}", path.display())).into())
}

/// The text of a file, or of standard input for `-`, up to `most` bytes.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<String, Failure> {
    String::from_utf8(read_bounded_bytes(path, most)?).map_err(|_| unreadable(path, "this is no text"))
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Problem::new(&codes::UNREADABLE, format!("{}: {why}", path.display())).into()
}

/// The same, whatever they are.
pub(super) fn read_bounded_bytes(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| unreadable(path, &why);
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|e| failed(e.to_string()))?)
    };
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(failed(format!("more than {most} bytes")));
    }
    Ok(bytes)
}

fn from_toml(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.message().to_owned())?;
    table
        .into_iter()
        .map(|(name, value)| match value {
            toml::Value::String(text) => Ok((name, text)),
            toml::Value::Table(_) | toml::Value::Array(_) => {
                Err(format!("`{name}` is a table or list; parameters are single values"))
            }
            single => Ok((name, single.to_string())),
        })
        .collect()
}

fn from_lines(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = pair(line).ok_or_else(|| format!("line {number} is not NAME=VALUE"))?;
        values.insert(name.to_owned(), unquoted(value.trim()).to_owned());
    }
    Ok(values)
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn lines_have_comments_quotes_and_equals_signs() {
        let text = "# ports\nPORT=8080\n\n NAME = 'a b' \nURL=x?a=b\nEMPTY=\nQUOTE='\n";
        let expected =
            map(&[("PORT", "8080"), ("NAME", "a b"), ("URL", "x?a=b"), ("EMPTY", ""), ("QUOTE", "'")]);
        assert_eq!(from_lines(text).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_its_content_is_not_said() {
        let error = from_lines("A=1\nhunter2\n").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn toml_values_keep_their_written_form() {
        let values = from_toml("PORT = 8080\nON = true\nNAME = 'x'\nRATE = 0.5").unwrap();
        assert_eq!(values, map(&[("PORT", "8080"), ("ON", "true"), ("NAME", "x"), ("RATE", "0.5")]));
        assert!(from_toml("[a]\nb = 1").unwrap_err().contains("`a`"));
        assert!(!from_toml("PASSWORD = hunter2").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn what_is_set_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.toml");
        std::fs::write(&path, "A = 1\nB = 2\n").unwrap();
        let args = Values { set: vec!["B=3".into(), "C= x=y".into()], values: Some(path) };
        assert_eq!(args.read().unwrap(), map(&[("A", "1"), ("B", "3"), ("C", " x=y")]));
    }

    #[test]
    fn set_without_a_name_is_refused() {
        for bad in ["=x", "novalue", " =x"] {
            let args = Values { set: vec![bad.into()], values: None };
            assert!(matches!(args.read(), Err(Failure::Problem(p)) if p.exit_code == 2), "{bad}");
        }
    }
}
