//! JSON from outside, read strictly: bounded in size and depth, and no object may hold one key twice.
//!
//! Two readers that disagree on which of two equal keys counts are how a signed document comes to mean
//! two things. So the text is walked once for shape before it is given a type. Documents are objects: a list in the
//! order of the fields, which the parser would take as well, is a second spelling of the same and refused.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// No document or manifest is larger, in bytes.
pub const MAX_SIZE: usize = 4 << 20;

/// No document or manifest is nested deeper.
pub const MAX_DEPTH: usize = 32;

/// Longest reason given for refusing a document, in characters: it is logged, audited and sent.
const MAX_REASON: usize = 240;

/// Why a text was not taken as a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Above [`MAX_SIZE`].
    #[error("{0} bytes are more than the {MAX_SIZE} that a document may have")]
    TooLarge(usize),
    /// Not JSON, nested too deeply, a key twice, or not the fields it should have.
    #[error("{0}")]
    Malformed(String),
}

/// Reads a value of type `T`.
///
/// # Errors
/// [`JsonError`] when the text is too large, too deep, repeats a key, goes on after its end or does not fit `T`.
pub fn strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    if bytes.len() > MAX_SIZE {
        return Err(JsonError::TooLarge(bytes.len()));
    }
    // The parser's messages quote what they stumble over, and that is as long as a stranger wants it to be.
    let malformed = |error: serde_json::Error| JsonError::Malformed(shown(&error.to_string(), MAX_REASON));
    let mut walk = serde_json::Deserializer::from_slice(bytes);
    let depth = Cell::new(0);
    Shape(&depth).deserialize(&mut walk).map_err(malformed)?;
    walk.end().map_err(malformed)?;
    serde_json::from_slice(bytes).map_err(malformed)
}

/// The beginning and the end of a text that may be long: the end says where it is.
fn shown(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let half = most / 2;
    let (head, tail): (String, String) =
        (text.chars().take(half).collect(), text.chars().skip(count - half).collect());
    format!("{head}…{tail}")
}

/// [`strict`], for what must be an object.
///
/// # Errors
/// As [`strict`].
pub fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    let value = strict(bytes)?;
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(JsonError::Malformed("not an object".into()));
    }
    Ok(value)
}

/// Walks any value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Shape<'a>(&'a Cell<usize>);

impl Shape<'_> {
    fn enter<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > MAX_DEPTH {
            return Err(E::custom(format_args!("nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }

    fn leave(self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.enter()?;
        while items.next_element_seed(self)?.is_some() {}
        self.leave();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value_seed(self)?;
            if keys.contains(&key) {
                let shown: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("the key {shown:?} is there twice")));
            }
            keys.insert(key);
        }
        self.leave();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn hostile_shapes_are_refused() {
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        let large = format!("\"{}\"", "x".repeat(MAX_SIZE));
        for (text, reason) in [
            (r#"{"a":1,"a":2}"#, "twice"),
            (r#"{"a":1,"\u0061":2}"#, "twice"),
            (r#"[{"b":{"a":1,"c":0,"a":1}}]"#, "twice"),
            (deep.as_str(), "levels deep"),
            (large.as_str(), "more than"),
            ("{} {}", "trailing"),
            ("{", "EOF"),
            ("", "EOF"),
            ("\"\u{0}\"", "control character"),
        ] {
            let error = strict::<Value>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        assert!(strict::<Value>(&[b'"', 0xff, b'"']).is_err(), "not UTF-8");
        for text in ["[]", "1", "null", " \"x\""] {
            strict::<Value>(text.as_bytes()).unwrap();
            assert_eq!(document::<Value>(text.as_bytes()), Err(JsonError::Malformed("not an object".into())));
        }
    }

    #[test]
    fn a_reason_is_short_however_long_the_text_is_that_it_quotes() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
        let error =
            strict::<std::collections::BTreeMap<String, u32>>(long.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("invalid type") && error.contains("column"), "{error}");
        assert!(error.len() < 2 * MAX_REASON, "{} bytes", error.len());
    }

    #[test]
    fn the_deepest_allowed_value_is_read_and_siblings_do_not_add_up() {
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        strict::<Value>(deep.as_bytes()).unwrap();
        let wide = format!("[{}[]]", "[],".repeat(1000));
        strict::<Value>(wide.as_bytes()).unwrap();
    }
}
