//! The canonical tree as JSON, key for key what `docker compose config --format json` prints (2.26.1).

use serde_json::{Map as Json, Value as J, json};

use super::{Object, Printed, Shape};
use crate::canonical::{units, words};
use crate::node::{Node, Value};
use crate::values;

/// A whole project. Dollar signs are doubled, so that the output can be read again.
pub(crate) fn project(root: &Node) -> J {
    let mut out = object(root, &super::PROJECT);
    if let (J::Object(out), Some(map)) = (&mut out, root.as_map()) {
        for (key, entry) in map.iter().filter(|(key, _)| key.starts_with("x-")) {
            out.insert(key.clone(), plain(&entry.node));
        }
    }
    escape(out)
}

/// Any value, as it is.
pub(crate) fn plain(node: &Node) -> J {
    match &node.value {
        Value::Null => J::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => integer(*value),
        Value::Float(value) => number(*value),
        Value::Time(time) => json!(time.rfc3339()),
        Value::Str(text) => json!(text),
        Value::List(items) => J::Array(items.iter().map(plain).collect()),
        Value::Map(map) => {
            J::Object(map.iter().map(|(key, entry)| (key.clone(), plain(&entry.node))).collect())
        }
    }
}

fn escape(value: J) -> J {
    let text = |text: String| if text.contains('$') { text.replace('$', "$$") } else { text };
    match value {
        J::String(content) => J::String(text(content)),
        J::Array(items) => J::Array(items.into_iter().map(escape).collect()),
        J::Object(map) => J::Object(map.into_iter().map(|(key, value)| (text(key), escape(value))).collect()),
        other => other,
    }
}

fn integer(value: i128) -> J {
    i64::try_from(value).map_or_else(|_| u64::try_from(value).map_or(J::Null, J::from), J::from)
}

/// A number without a fraction is written without one.
fn number(value: f64) -> J {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

fn object(node: &Node, object: &Object) -> J {
    let mut out = Json::new();
    for field in object.fields {
        let value = node.get(field.key).and_then(|inner| shaped(inner, &field.shape));
        let value = match (field.printed, value) {
            (Printed::Never, _) => None,
            (Printed::NonZero, Some(value)) => (!is_zero(&value, &field.shape)).then_some(value),
            (Printed::Given, value) => value,
            (Printed::OrNull, value) => Some(value.unwrap_or(J::Null)),
            (Printed::OrEmpty, value) => Some(value.unwrap_or_else(|| json!({}))),
            (Printed::NonZero, None) => None,
        };
        if let Some(value) = value {
            out.insert(if object.capitals { capital(field.key) } else { field.key.to_owned() }, value);
        }
    }
    J::Object(out)
}

fn capital(key: &str) -> String {
    let mut chars = key.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Whether Go would leave a value out. A mapping of known keys stays even when empty: Go keeps it by pointer.
fn is_zero(value: &J, shape: &Shape) -> bool {
    match value {
        J::Null => true,
        J::Bool(value) => !value,
        J::Number(value) => value.as_f64() == Some(0.0),
        J::String(text) => {
            text.is_empty()
                || (matches!(shape, Shape::Bytes | Shape::BytesText) && text == "0")
                || (matches!(shape, Shape::Duration) && text == "0s")
        }
        J::Array(items) => items.is_empty(),
        J::Object(map) => {
            map.is_empty() && !matches!(shape, Shape::Object(_) | Shape::OrNull(_) | Shape::Short(_))
        }
    }
}

fn list(node: &Node, each: impl Fn(&Node) -> Option<J>) -> J {
    J::Array(node.as_list().unwrap_or_default().iter().filter_map(each).collect())
}

fn mapping(node: &Node, each: impl Fn(&Node) -> J) -> J {
    let map = node.as_map().into_iter().flatten();
    J::Object(map.map(|(key, entry)| (key.clone(), each(&entry.node))).collect())
}

fn text(node: &Node) -> J {
    J::String(node.scalar_text().unwrap_or_default())
}

fn shaped(node: &Node, shape: &Shape) -> Option<J> {
    if node.is_null() && !matches!(shape, Shape::OrNull(_)) {
        return None;
    }
    Some(match shape {
        Shape::Any => plain(node),
        Shape::Text | Shape::Word(_) | Shape::Scalar => text(node),
        Shape::Bool | Shape::Int | Shape::Natural | Shape::Whole(..) => plain(node),
        Shape::Float => match node.value {
            Value::Float(value) => single(value),
            _ => plain(node),
        },
        Shape::Bytes | Shape::BytesText => J::String(values::bytes(node).unwrap_or_default().to_string()),
        Shape::Duration => {
            J::String(units::duration_text(node.as_str().and_then(units::duration).unwrap_or_default()))
        }
        Shape::Command => match node.as_str() {
            Some(line) => json!(words::split(line).map(|words| words.words).unwrap_or_default()),
            None => list(node, |item| Some(text(item))),
        },
        Shape::Test => match node.as_str() {
            Some(line) => json!(["CMD-SHELL", line]),
            None => list(node, |item| Some(text(item))),
        },
        Shape::Texts | Shape::Set | Shape::Scalars => list(node, |item| Some(text(item))),
        Shape::TextOrTexts | Shape::TextOrSet => match node.as_str() {
            Some(one) => json!([one]),
            None => list(node, |item| Some(text(item))),
        },
        Shape::Pairs(keep) => {
            let value = |value: Option<String>| match value {
                None if *keep => J::Null,
                value => J::String(value.unwrap_or_default()),
            };
            J::Object(values::pairs(node).into_iter().map(|(key, inner)| (key, value(inner))).collect())
        }
        Shape::Options(_) | Shape::TextMap => mapping(node, text),
        Shape::Hosts => {
            let hosts = values::hosts(node);
            let mut lines: Vec<String> = hosts
                .iter()
                .flat_map(|(host, addresses)| {
                    addresses.iter().map(move |address| format!("{host}={address}"))
                })
                .collect();
            lines.sort_unstable();
            json!(lines)
        }
        Shape::Ulimit => match node.as_map() {
            Some(_) => {
                let one = |key: &str| node.get(key).map(plain).filter(|value| *value != json!(0));
                let both = ["soft", "hard"].map(|key| (key, one(key)));
                J::Object(
                    both.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect(),
                )
            }
            // Docker Compose keeps no limit of zero apart from no limit.
            None if node.value == Value::Int(0) => json!({}),
            None => plain(node),
        },
        Shape::Count => match node.as_str() {
            Some(count) => json!(count.parse::<i64>().unwrap_or(-1)),
            None => plain(node),
        },
        Shape::External => plain(node),
        Shape::List(item) => list(node, |inner| shaped(inner, item)),
        Shape::Named(inner) | Shape::NamesOr(inner) => {
            mapping(node, |one| shaped(one, inner).unwrap_or(J::Null))
        }
        Shape::Object(fields) => object(node, fields),
        Shape::NotText(inner)
        | Shape::Short(inner)
        | Shape::ShortNumber(inner)
        | Shape::AllOr(inner)
        | Shape::OneOrMore(inner) => {
            return shaped(node, inner);
        }
        Shape::OrNull(inner) => match node.value {
            Value::Null => J::Null,
            _ => return shaped(node, inner),
        },
        Shape::Ssh => {
            let map = node.as_map().into_iter().flatten();
            let one = |(key, entry): (&String, &crate::node::Entry)| match entry.node.scalar_text() {
                Some(path) => format!("{key}={path}"),
                None => key.clone(),
            };
            J::Array(map.map(|pair| J::String(one(pair))).collect())
        }
    })
}

/// A number as Go prints a `float32`: the shortest digits that single precision needs.
fn single(value: f64) -> J {
    let short: f64 = (value as f32).to_string().parse().unwrap_or(value);
    number(short)
}
