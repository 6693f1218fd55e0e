//! Values read out of a canonical tree, for the JSON and for the typed model alike.

use std::collections::BTreeMap;

use crate::canonical::units;
use crate::node::{Node, Value};

/// `KEY: value` or `[KEY=value, KEY]`; `None` is a key without a value.
pub(crate) fn pairs(node: &Node) -> BTreeMap<String, Option<String>> {
    match &node.value {
        Value::Map(map) => map.iter().map(|(key, entry)| (key.clone(), entry.node.scalar_text())).collect(),
        Value::List(items) => items.iter().filter_map(|item| item.as_str().map(pair)).collect(),
        _ => BTreeMap::new(),
    }
}

/// `KEY=value` or `KEY`.
pub(crate) fn pair(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// The same, a key without a value having an empty one.
pub(crate) fn mapping(node: &Node) -> BTreeMap<String, String> {
    pairs(node).into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
}

/// Host names and their addresses, in the order given.
pub(crate) fn hosts(node: &Node) -> BTreeMap<String, Vec<String>> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let bare = |address: &str| {
        let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inner.filter(|inner| !inner.is_empty()).unwrap_or(address).to_owned()
    };
    match &node.value {
        Value::Map(map) => {
            for (host, entry) in map {
                let addresses = match &entry.node.value {
                    Value::List(items) => {
                        items.iter().filter_map(Node::scalar_text).map(|a| bare(&a)).collect()
                    }
                    _ => vec![bare(&entry.node.scalar_text().unwrap_or_default())],
                };
                hosts.insert(host.clone(), addresses);
            }
        }
        Value::List(items) => {
            for item in items.iter().filter_map(Node::as_str) {
                if let Some((host, addresses)) = host(item) {
                    hosts.entry(host.to_owned()).or_default().extend(addresses.split(',').map(bare));
                }
            }
        }
        _ => {}
    }
    hosts
}

/// `host=address` or `host:address`.
pub(crate) fn host(text: &str) -> Option<(&str, &str)> {
    text.split_once('=').or_else(|| text.split_once(':'))
}

/// A size in bytes, from a number or text.
pub(crate) fn bytes(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Int(number) => i64::try_from(*number).ok(),
        // 2^63 is the first float that does not fit.
        Value::Float(number) => (number.abs() < 9_223_372_036_854_775_808.0).then_some(*number as i64),
        Value::Str(text) => units::bytes(text),
        _ => None,
    }
}
