//! The tree that a compose file becomes: plain values, each knowing the place it came from.
//!
//! Maps are ordered by key, not by position: nothing in a compose file depends on the order of keys, and one order
//! gives one result.

use std::collections::BTreeMap;

use crate::budget::Weight;
use crate::diagnostics::At;
use crate::scalar::Timestamp;

/// A tag or mark on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing special.
    #[default]
    None,
    /// `!reset`: removes what earlier files said here.
    Reset,
    /// `!override`: replaces what earlier files said here.
    Override,
    /// An error was put down for this node; nothing more is to be said about it.
    Broken,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: At,
    pub(crate) mark: Mark,
    /// Text came out of a variable: it may be a secret and is not repeated in messages.
    pub(crate) substituted: bool,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Anything from `i64::MIN` to `u64::MAX`.
    Int(i128),
    Float(f64),
    Time(Box<Timestamp>),
    Str(String),
    List(Vec<Node>),
    Map(Map),
}

/// Keys and their values.
pub(crate) type Map = BTreeMap<String, Entry>;

/// A value in a map, with the place of its key.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: At,
    pub(crate) node: Node,
}

/// Equal means: says the same. Places and marks do not count.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl Node {
    /// A node that stands for `at`.
    pub(crate) fn new(value: Value, at: At) -> Self {
        Self { value, at, mark: Mark::None, substituted: false }
    }

    /// Text that stands for `at`.
    pub(crate) fn text(text: impl Into<String>, at: At) -> Self {
        Self::new(Value::Str(text.into()), at)
    }

    /// A copy of the place and marks with another value.
    pub(crate) fn with(&self, value: Value) -> Self {
        Self { value, ..self.hollow() }
    }

    /// The node without its value.
    fn hollow(&self) -> Self {
        Self { value: Value::Null, at: self.at, mark: self.mark, substituted: self.substituted }
    }

    /// Takes the value out, leaving null.
    pub(crate) fn take(&mut self) -> Self {
        let hollow = self.hollow();
        std::mem::replace(self, hollow)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// Value of a key, when this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key).map(|entry| &entry.node)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.as_map_mut()?.get_mut(key).map(|entry| &mut entry.node)
    }

    /// Sets a key at the place of this node; does nothing on what is not a map.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        let at = self.at;
        if let Some(map) = self.as_map_mut() {
            map.insert(key.to_owned(), Entry { key: at, node: Node::new(value, at) });
        }
    }

    /// Values and text of this tree, itself included.
    pub(crate) fn weight(&self) -> Weight {
        match &self.value {
            Value::List(list) => Weight::value(0) + list.iter().map(Node::weight).sum(),
            Value::Map(map) => {
                let entry = |(key, entry): (&String, &Entry)| Weight::text(key.len()) + entry.node.weight();
                Weight::value(0) + map.iter().map(entry).sum()
            }
            Value::Str(text) => Weight::value(text.len()),
            _ => Weight::value(0),
        }
    }

    /// What kind of value this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Time(_) => "a date",
            Value::Str(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value for a message: as written, or `…` where it may hold a secret.
    pub(crate) fn shown(&self) -> String {
        if self.substituted {
            return "…".to_owned();
        }
        self.scalar_text().map_or_else(|| self.kind().to_owned(), |text| text.chars().take(80).collect())
    }

    /// A scalar as Go's `fmt.Sprint` writes it, which is what containers have always been given. `None` for null, lists and maps.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(crate::scalar::float_text(*value)),
            Value::Time(value) => Some(value.to_string()),
            Value::Str(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// A map from keys and values at one place.
pub(crate) fn map_at(at: At, entries: impl IntoIterator<Item = (&'static str, Value)>) -> Node {
    let entry = |(key, value): (&str, Value)| (key.to_owned(), Entry { key: at, node: Node::new(value, at) });
    Node::new(Value::Map(entries.into_iter().map(entry).collect()), at)
}
