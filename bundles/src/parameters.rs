//! What a product asks of whoever installs it, and the answers. Pure.
//!
//! Parameters are the variables of the compose file's interpolation. Every mistake is reported at once, so that nobody has
//! to correct them one by one. Secrets have no defaults, because a bundle holds no secret; they are given on the
//! host or generated there. Their values appear in no error and no debug output.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::codes::{self, Code, Coded};

/// Longest value, in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// What kind of value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterKind {
    /// Any text.
    #[default]
    String,
    /// A whole number, decimal, 64 bits, signed.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A text that is shown nowhere.
    Secret,
}

/// One question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Kind of value.
    #[serde(rename = "type", default)]
    pub kind: ParameterKind,
    /// Taken where nothing is given. Not for secrets.
    #[serde(
        default,
        deserialize_with = "crate::product::optional_scalar",
        skip_serializing_if = "Option::is_none"
    )]
    pub default: Option<String>,
    /// A value must be given. Without it and without a default the variable is left unset.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The only values allowed, where given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Regular expression that the whole value must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Integers: smallest value. Others: fewest characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Integers: largest value. Others: most characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// Secrets: made on the host with so many characters where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<u32>,
}

/// A secret value: does not print, is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The answers, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Values of everything that is no secret, defaults filled in.
    pub values: BTreeMap<String, String>,
    /// Secrets that were given.
    pub secrets: BTreeMap<String, Secret>,
    /// Secrets to be made, with their number of characters.
    pub generate: BTreeMap<String, u32>,
}

/// Every mistake in the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterErrors(pub Vec<ParameterError>);

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Required and not given.
    #[error("{name} is required{}", .description.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Missing {
        /// Which.
        name: String,
        /// What it is for.
        description: Option<String>,
    },
    /// The product does not ask for it.
    #[error("{name} is not a parameter of this product{}", .near.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    Unknown {
        /// Which.
        name: String,
        /// A parameter that is spelt much like it.
        near: Option<String>,
    },
    /// Not acceptable.
    #[error("{name} {reason}")]
    Invalid {
        /// Which.
        name: String,
        /// Why, without a secret's value.
        reason: String,
    },
}

impl fmt::Display for ParameterErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for ParameterErrors {}

impl Coded for ParameterErrors {
    fn code(&self) -> Code {
        codes::PARAMETERS
    }
}

/// Checks `given` values against the questions of a product, which have passed [`Parameter::check`].
///
/// # Errors
/// All mistakes at once.
pub fn resolve(
    declared: &BTreeMap<String, Parameter>,
    given: &BTreeMap<String, String>,
) -> Result<Resolved, ParameterErrors> {
    let unknown = given.keys().filter(|name| !declared.contains_key(*name));
    let near = |name: &str| {
        let known = declared.keys().map(String::as_str);
        // A name in the wrong case is the right name.
        let same = declared.keys().find(|known| known.eq_ignore_ascii_case(name)).map(String::as_str);
        same.or_else(|| kedge_compose::diagnostics::nearest(name, known)).map(str::to_owned)
    };
    let mut errors: Vec<_> =
        unknown.map(|name| ParameterError::Unknown { name: name.clone(), near: near(name) }).collect();
    let mut resolved = Resolved::default();
    for (name, parameter) in declared {
        let Some(value) = given.get(name).or(parameter.default.as_ref()) else {
            if let Some(length) = parameter.generate {
                resolved.generate.insert(name.clone(), length);
            } else if parameter.required {
                let description = parameter.description.clone();
                errors.push(ParameterError::Missing { name: name.clone(), description });
            }
            continue;
        };
        match parameter.accepts(value) {
            Err(reason) => errors.push(ParameterError::Invalid { name: name.clone(), reason }),
            Ok(()) if parameter.kind == ParameterKind::Secret => {
                resolved.secrets.insert(name.clone(), Secret::new(value.clone()));
            }
            Ok(()) => {
                resolved.values.insert(name.clone(), value.clone());
            }
        }
    }
    if errors.is_empty() { Ok(resolved) } else { Err(ParameterErrors(errors)) }
}

impl Parameter {
    /// Checks the question itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, name: &str) -> Result<(), String> {
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !first
            || name.len() > 128
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err("a name is letters, digits and `_`, not starting with a digit".into());
        }
        if let Some(pattern) = &self.pattern {
            self.regex(pattern)?;
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Err(format!("min {min} is above max {max}"));
        }
        if self.kind == ParameterKind::Secret {
            if self.default.is_some() || !self.options.is_empty() {
                return Err("a secret has no default and no options, for a bundle holds no secret".into());
            }
            if self.generate.is_some_and(|length| !(8..=256).contains(&length)) {
                return Err("generate: use 8 to 256 characters".into());
            }
        } else if self.generate.is_some() {
            return Err("only a secret can be generated".into());
        }
        for option in &self.options {
            self.fits(option).map_err(|reason| format!("option {option:?} {reason}"))?;
        }
        if let Some(default) = &self.default {
            self.accepts(default).map_err(|reason| format!("the default {reason}"))?;
        }
        Ok(())
    }

    /// Whether a value is an answer; the reason, if not, follows the parameter's name in a sentence.
    fn accepts(&self, value: &str) -> Result<(), String> {
        if !self.options.is_empty() && !self.options.iter().any(|option| option == value) {
            return Err(format!("must be one of {}", self.options.join(", ")));
        }
        self.fits(value)
    }

    fn fits(&self, value: &str) -> Result<(), String> {
        if value.len() > MAX_VALUE || value.contains('\0') {
            return Err(format!("must have at most {MAX_VALUE} bytes, none of them NUL"));
        }
        let (measure, what) = match self.kind {
            ParameterKind::Integer => {
                let number = value.parse().map_err(|_| format!("must be a whole number, not {value:?}"))?;
                (Some(number), "")
            }
            ParameterKind::Boolean if value != "true" && value != "false" => {
                return Err(format!("must be true or false, not {value:?}"));
            }
            ParameterKind::Boolean => (None, ""),
            ParameterKind::String | ParameterKind::Secret => {
                (i64::try_from(value.chars().count()).ok(), " characters long")
            }
        };
        if let (Some(measure), Some(min)) = (measure, self.min)
            && measure < min
        {
            return Err(format!("must be at least {min}{what}"));
        }
        if let (Some(measure), Some(max)) = (measure, self.max)
            && measure > max
        {
            return Err(format!("must be at most {max}{what}"));
        }
        match &self.pattern {
            Some(pattern) if !self.regex(pattern)?.is_match(value) => Err(format!("must match {pattern}")),
            _ => Ok(()),
        }
    }

    fn regex(&self, pattern: &str) -> Result<regex_lite::Regex, String> {
        if pattern.len() > 512 {
            return Err("pattern: longer than 512 bytes".into());
        }
        // Compiled alone first: `a)(b` must not become valid by being wrapped.
        let compile = |text: &str| regex_lite::Regex::new(text).map_err(|error| format!("pattern: {error}"));
        compile(pattern)?;
        compile(&format!("^(?:{pattern})$"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(json: &str) -> BTreeMap<String, Parameter> {
        let declared: BTreeMap<String, Parameter> = serde_json::from_str(json).unwrap();
        for (name, parameter) in &declared {
            parameter.check(name).unwrap();
        }
        declared
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    const QUESTIONS: &str = r#"{
        "DOMAIN": {"required": true, "description": "public host name", "pattern": "[a-z.]+"},
        "PORT": {"type": "integer", "default": 8080, "min": 1, "max": 65535},
        "TLS": {"type": "boolean", "default": true},
        "SIZE": {"options": ["small", "large"], "default": "small"},
        "TOKEN": {"type": "secret", "required": true, "min": 8},
        "PASSWORD": {"type": "secret", "generate": 32},
        "NOTE": {}
    }"#;

    #[test]
    fn defaults_secrets_and_generated_secrets_each_have_their_place() {
        let answers = given(&[("DOMAIN", "a.example"), ("TOKEN", "12345678"), ("TLS", "false")]);
        let resolved = resolve(&declared(QUESTIONS), &answers).unwrap();
        assert_eq!(
            resolved.values,
            given(&[("DOMAIN", "a.example"), ("PORT", "8080"), ("TLS", "false"), ("SIZE", "small")])
        );
        assert_eq!(resolved.secrets["TOKEN"].reveal(), "12345678");
        assert_eq!(resolved.generate, BTreeMap::from([("PASSWORD".to_owned(), 32)]));
        assert!(!format!("{resolved:?}").contains("12345678"));
    }

    #[test]
    fn all_mistakes_come_at_once_and_show_no_secret() {
        let answers = given(&[
            ("PORT", "70000"),
            ("TLS", "yes"),
            ("SIZE", "huge"),
            ("TOKEN", "hunter2"),
            ("COLOUR", "red"),
        ]);
        let errors = resolve(&declared(QUESTIONS), &answers).unwrap_err();
        let text = errors.to_string();
        for part in [
            "COLOUR is not a parameter",
            "DOMAIN is required (public host name)",
            "PORT must be at most 65535",
            "TLS must be true or false",
            "SIZE must be one of small, large",
            "TOKEN must be at least 8 characters long",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(errors.0.len(), 6);
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_right_one() {
        for (name, said) in [
            ("PROT", "PROT is not a parameter of this product; did you mean PORT?"),
            ("port", "port is not a parameter of this product; did you mean PORT?"),
            ("COLOUR", "COLOUR is not a parameter of this product"),
        ] {
            let answers = given(&[("DOMAIN", "a.example"), (name, "1")]);
            let errors = resolve(&declared(QUESTIONS), &answers).unwrap_err();
            assert_eq!(errors.0[0].to_string(), said);
        }
    }

    #[test]
    fn a_pattern_covers_the_whole_value() {
        let questions = declared(r#"{"A": {"pattern": "a|b"}}"#);
        assert!(resolve(&questions, &given(&[("A", "b")])).is_ok());
        assert!(resolve(&questions, &given(&[("A", "ab")])).is_err());
        assert!(resolve(&questions, &given(&[("A", "b\nx")])).is_err());
    }

    #[test]
    fn impossible_questions_are_refused() {
        for (json, reason) in [
            (r#"{"type": "secret", "default": "x"}"#, "no default"),
            (r#"{"generate": 10}"#, "only a secret"),
            (r#"{"type": "secret", "generate": 4}"#, "8 to 256"),
            (r#"{"type": "integer", "default": "x"}"#, "whole number"),
            (r#"{"min": 2, "max": 1}"#, "above max"),
            (r#"{"pattern": "("}"#, "pattern"),
            (r#"{"pattern": "a)(b"}"#, "pattern"),
            (r#"{"options": ["a"], "default": "b"}"#, "one of"),
        ] {
            let parameter: Parameter = serde_json::from_str(json).unwrap();
            let error = parameter.check("A").unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
        for name in ["", "1A", "A-B", "A B"] {
            assert!(Parameter::default().check(name).is_err(), "{name:?}");
        }
    }
}
