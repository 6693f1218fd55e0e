//! Reading keys of a checked mapping: what is not there, or not what the table promises, is as if not given.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::canonical::units;
use crate::node::{Node, Value};
use crate::values;

/// Typed access to the keys of a mapping.
pub(super) trait Read {
    fn text(&self, key: &str) -> Option<String>;
    fn text_or(&self, key: &str, default: &str) -> String;
    fn boolean(&self, key: &str) -> Option<bool>;
    /// A boolean that is `false` unless given.
    fn flag(&self, key: &str) -> bool;
    fn int(&self, key: &str) -> Option<i64>;
    /// A whole number that is not negative and fits.
    fn unsigned<T: TryFrom<i64>>(&self, key: &str) -> Option<T>;
    fn float(&self, key: &str) -> Option<f64>;
    fn texts(&self, key: &str) -> Vec<String>;
    fn mapping(&self, key: &str) -> BTreeMap<String, String>;
    fn pairs(&self, key: &str) -> BTreeMap<String, Option<String>>;
    /// Bytes, when not zero.
    fn bytes(&self, key: &str) -> Option<i64>;
    fn duration(&self, key: &str) -> Option<Duration>;
    fn items<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a Node>;
    fn entries<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a String, &'a Node)>;
}

impl Read for Node {
    fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(Node::scalar_text).filter(|text| !text.is_empty())
    }

    fn text_or(&self, key: &str, default: &str) -> String {
        self.text(key).unwrap_or_else(|| default.to_owned())
    }

    fn boolean(&self, key: &str) -> Option<bool> {
        match self.get(key)?.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> bool {
        self.boolean(key).unwrap_or_default()
    }

    fn int(&self, key: &str) -> Option<i64> {
        match self.get(key)?.value {
            Value::Int(value) => i64::try_from(value).ok(),
            _ => None,
        }
    }

    fn unsigned<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        T::try_from(self.int(key)?).ok()
    }

    fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)?.value {
            Value::Int(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            _ => None,
        }
    }

    fn texts(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            Some(Node { value: Value::List(items), .. }) => {
                items.iter().filter_map(Node::scalar_text).collect()
            }
            Some(node) => node.scalar_text().into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn mapping(&self, key: &str) -> BTreeMap<String, String> {
        self.get(key).map(values::mapping).unwrap_or_default()
    }

    fn pairs(&self, key: &str) -> BTreeMap<String, Option<String>> {
        self.get(key).map(values::pairs).unwrap_or_default()
    }

    fn bytes(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(values::bytes).filter(|bytes| *bytes != 0)
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        let nanos = units::duration(self.get(key)?.as_str()?)?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }

    fn items<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a Node> {
        self.get(key).and_then(Node::as_list).unwrap_or_default().iter()
    }

    fn entries<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a String, &'a Node)> {
        self.get(key).and_then(Node::as_map).into_iter().flatten().map(|(key, entry)| (key, &entry.node))
    }
}
