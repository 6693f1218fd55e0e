//! The product document: what a product is called, what it asks of whoever installs it, and when an update counts as good.
//!
//! The vendor writes it as the top-level `x-kedge` section of the compose file ([`Declaration`], strict: a misspelt
//! key is an error); the bundle carries it as JSON ([`Product`], tolerant of keys that newer tools add).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::collectors::{Collector, DeclaredCollector};
use crate::parameters::Parameter;
use crate::roles::name;

/// Name of the compose extension.
pub const EXTENSION: &str = "x-kedge";

/// The product document in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// 1.
    pub format: u32,
    /// Product name, see [`name`].
    pub product: String,
    /// The vendor's version.
    pub version: String,
    /// One paragraph for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the installer is asked, by variable name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Parameter>,
    /// When an update counts as good.
    #[serde(default)]
    pub gate: Gate,
    /// Compose files, in the order in which they are merged.
    pub compose: Vec<String>,
    /// Files with variables for interpolation, as `docker compose --env-file`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_files: Vec<String>,
    /// Profiles that are enabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// What it asks of licences, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<crate::licence::Terms>,
    /// Reference of the image that commands of support sessions run in, which need be no service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// What a diagnostics bundle gathers of it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub diagnostics: BTreeMap<String, Collector>,
}

/// When an update counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Seconds within which everything must be up and healthy.
    pub timeout_seconds: u64,
    /// Seconds for which it must stay so before the previous release is let go.
    pub soak_seconds: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { timeout_seconds: 300, soak_seconds: 600 }
    }
}

impl Gate {
    /// [`Gate::timeout_seconds`].
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// [`Gate::soak_seconds`].
    #[must_use]
    pub const fn soak(&self) -> Duration {
        Duration::from_secs(self.soak_seconds)
    }
}

impl Product {
    /// Checks the rules that a product document keeps by itself.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("format {}; this version reads 1", self.format));
        }
        name("product", &self.product)?;
        if self.version.is_empty() || self.version.len() > 64 || self.version.contains(char::is_control) {
            return Err("version: use 1 to 64 bytes without control characters".into());
        }
        if self.compose.is_empty() {
            return Err("compose: no compose file is named".into());
        }
        const WEEK: u64 = 7 * 86_400;
        if self.gate.timeout_seconds == 0 || self.gate.timeout_seconds > WEEK || self.gate.soak_seconds > WEEK
        {
            return Err("gate: use a timeout above zero, and nothing above seven days".into());
        }
        if self.parameters.len() > 512 {
            return Err("parameters: more than 512".into());
        }
        if let Some(terms) = &self.licence {
            terms.check()?;
        }
        if self.tools.as_ref().is_some_and(|reference| reference.is_empty() || reference.len() > 512) {
            return Err("tools: name an image".into());
        }
        crate::collectors::check(&self.diagnostics)?;
        for (name, parameter) in &self.parameters {
            parameter.check(name).map_err(|reason| format!("parameter {name}: {reason}"))?;
        }
        Ok(())
    }
}

/// The `x-kedge` section of a compose file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Product name.
    pub product: String,
    /// Version; the command line may give another.
    #[serde(default, deserialize_with = "optional_scalar")]
    pub version: Option<String>,
    /// One paragraph for people.
    #[serde(default)]
    pub description: Option<String>,
    /// What the installer is asked.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Where each image comes from, by the reference that the services use; the engine where nothing is said.
    #[serde(default)]
    pub images: BTreeMap<String, String>,
    /// When an update counts as good.
    #[serde(default)]
    pub gate: DeclaredGate,
    /// Compose files; those that were loaded where nothing is said.
    #[serde(default)]
    pub compose: Vec<String>,
    /// Files with variables; `.env` where nothing is said and it exists.
    #[serde(default)]
    pub env: Option<Vec<String>>,
    /// Profiles that are enabled.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// What it asks of licences.
    #[serde(default)]
    pub licence: Option<crate::licence::Terms>,
    /// The image that commands of support sessions run in.
    #[serde(default)]
    pub tools: Option<String>,
    /// What a diagnostics bundle gathers.
    #[serde(default)]
    pub diagnostics: BTreeMap<String, DeclaredCollector>,
}

/// `gate` of a [`Declaration`], durations as text such as `90s` or `1h 30m`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredGate {
    /// 5 minutes where nothing is said.
    pub timeout: Option<String>,
    /// 10 minutes where nothing is said.
    pub soak: Option<String>,
}

impl Declaration {
    /// Reads the section's value.
    ///
    /// # Errors
    /// What is wrong, as a sentence that names the key.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, String> {
        Self::deserialize(value).map_err(|error| error.to_string())
    }

    /// Turns the declaration into the document, for a bundle with these files.
    ///
    /// # Errors
    /// What is wrong, as a sentence that names the key.
    pub fn product(
        &self,
        version: Option<&str>,
        compose: Vec<String>,
        env_files: Vec<String>,
    ) -> Result<Product, String> {
        let version =
            version.or(self.version.as_deref()).ok_or("version: give it in x-kedge or with --version")?;
        let usual = Gate::default();
        let product = Product {
            format: 1,
            product: self.product.clone(),
            version: version.into(),
            description: self.description.clone(),
            parameters: self.parameters.clone(),
            gate: Gate {
                timeout_seconds: seconds(
                    "gate.timeout",
                    self.gate.timeout.as_deref(),
                    usual.timeout_seconds,
                )?,
                soak_seconds: seconds("gate.soak", self.gate.soak.as_deref(), usual.soak_seconds)?,
            },
            compose,
            env_files,
            profiles: self.profiles.clone(),
            licence: self.licence.clone(),
            tools: self.tools.clone(),
            diagnostics: self
                .diagnostics
                .iter()
                .map(|(name, declared)| Ok((name.clone(), declared.collector(name)?)))
                .collect::<Result<_, String>>()?,
        };
        product.check()?;
        Ok(product)
    }
}

pub(crate) fn seconds(field: &str, text: Option<&str>, usual: u64) -> Result<u64, String> {
    let Some(text) = text else { return Ok(usual) };
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|span| u64::try_from(span.as_secs()).ok())
        .ok_or_else(|| format!("{field}: {text:?} is not a duration such as 90s, 5m or 1h 30m"))
}

/// YAML gives `1.2` and `8080` as numbers where a text is meant.
pub(crate) fn optional_scalar<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    use serde_json::Value;
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
        Some(_) => Err(serde::de::Error::custom("expected a text, a number or a truth value")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_declaration_becomes_a_document_that_reads_back() {
        let value = json!({
            "product": "shop", "version": 1.5, "gate": {"timeout": "90s", "soak": "1h 30m"},
            "parameters": {"PORT": {"type": "integer", "default": 8080}, "PASSWORD": {"type": "secret", "generate": 24}},
            "images": {"shop/api:1": "dir:./api"},
        });
        let product = Declaration::from_value(&value)
            .unwrap()
            .product(None, vec!["compose.yaml".into()], vec![])
            .unwrap();
        assert_eq!((product.version.as_str(), product.gate.timeout_seconds), ("1.5", 90));
        assert_eq!(product.gate.soak(), Duration::from_secs(5400));
        assert_eq!(product.parameters["PORT"].default.as_deref(), Some("8080"));
        let text = serde_json::to_vec(&product).unwrap();
        assert_eq!(crate::json::strict::<Product>(&text).unwrap(), product);
    }

    #[test]
    fn mistakes_in_a_declaration_name_the_key() {
        for (value, reason) in [
            (json!({"product": "shop", "version": "1", "paramters": {}}), "paramters"),
            (json!({"version": "1"}), "product"),
            (json!({"product": "Shop!", "version": "1"}), "product"),
            (json!({"product": "shop"}), "version"),
            (json!({"product": "shop", "version": "1", "gate": {"timeout": "soon"}}), "gate.timeout"),
            (json!({"product": "shop", "version": "1", "gate": {"timeout": "0s"}}), "gate"),
            (json!({"product": "shop", "version": "1", "gate": {"timeout": "-5s"}}), "gate.timeout"),
            (json!({"product": "shop", "version": "1", "parameters": {"a b": {}}}), "a b"),
        ] {
            let error = Declaration::from_value(&value)
                .and_then(|declared| declared.product(None, vec!["compose.yaml".into()], vec![]))
                .unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
