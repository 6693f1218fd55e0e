//! Holds a tree against the table: unknown keys, wrong types, missing keys. All findings, not the first.
//!
//! Text that stands for a boolean or a number becomes one on the way, so that later stages see one type per key.

use std::collections::HashSet;

use super::{Object, Shape};
use crate::canonical::{units, words};
use crate::codes;
use crate::diagnostics::{At, Finding, Findings, Stop, nearest};
use crate::node::{Mark, Node, Value};
use crate::values;

/// Bytes of a command line: what Linux allows for one argument.
const MAX_COMMAND: usize = 128 << 10;

/// Holds a whole compose file against the table.
pub(crate) fn project(root: &mut Node, findings: &mut Findings) {
    let mut checker = Checker { path: Vec::new(), findings };
    checker.object(root, &super::PROJECT);
}

/// Holds a key that is resolved before the whole is checked (`include`, `extends`) against the table.
pub(crate) fn fragment(
    node: &mut Node,
    shape: &Shape,
    path: &str,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let before = findings.count();
    let mut checker = Checker { path: vec![path.to_owned()], findings };
    checker.check(node, shape);
    if node.mark != Mark::Broken && findings.count() == before { Ok(()) } else { Err(Stop) }
}

struct Checker<'a> {
    /// Keys from the root, for messages.
    path: Vec<String>,
    findings: &'a mut Findings,
}

impl Checker<'_> {
    fn wrong(&mut self, node: &Node, expected: &str) {
        let path = self.path.join(".");
        let found = match node.value {
            Value::Null | Value::List(_) | Value::Map(_) => node.kind().to_owned(),
            _ => format!("{} (`{}`)", node.kind(), node.shown()),
        };
        let mut finding = Finding::new(
            &codes::WRONG_VALUE,
            node.at,
            format!("`{path}` must be {expected}, and is {found}"),
        );
        let quotable =
            matches!(node.value, Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Time(_));
        if quotable && expected.contains("text") {
            finding = finding.help("put the value in quotes");
        }
        self.findings.error(finding);
    }

    fn bad(&mut self, at: At, problem: &str, help: &str) {
        let path = self.path.join(".");
        self.findings.error(Finding::new(&codes::WRONG_VALUE, at, format!("`{path}`: {problem}")).help(help));
    }

    fn below(&mut self, key: &str, visit: impl FnOnce(&mut Self)) {
        self.path.push(key.to_owned());
        visit(self);
        self.path.pop();
    }

    fn items(&mut self, items: &mut [Node], shape: &Shape) {
        for (index, item) in items.iter_mut().enumerate() {
            self.below(&format!("[{index}]"), |this| this.check(item, shape));
        }
    }

    /// Items of which none may stand there twice.
    fn set(&mut self, items: &mut [Node], shape: &Shape) {
        self.items(items, shape);
        let mut known = HashSet::new();
        for item in items {
            let Some(text) = item.scalar_text() else { continue };
            if !known.insert((item.as_str().is_some(), text)) {
                let problem = format!("`{}` stands in the list twice", item.shown());
                self.bad(item.at, &problem, "remove one of them");
            }
        }
    }

    fn check(&mut self, node: &mut Node, shape: &Shape) {
        if node.mark == Mark::Broken {
            return;
        }
        match shape {
            Shape::Any => {}
            Shape::Text => self.text(node),
            Shape::Word(words) => match node.as_str() {
                Some(text) if words.contains(&text) => {}
                _ => self.wrong(node, &format!("one of {}", words.join(", "))),
            },
            Shape::Scalar => match node.value {
                Value::Str(_) | Value::Int(_) => {}
                _ => self.wrong(node, "text or a whole number"),
            },
            Shape::Bool => self.boolean(node),
            Shape::Int => self.integer(node, i64::MIN, i64::MAX, true),
            Shape::Natural => self.integer(node, 0, i64::MAX, true),
            Shape::Whole(least, most) => self.integer(node, *least, *most, false),
            Shape::Float => self.float(node),
            Shape::Bytes => match &node.value {
                Value::Str(text) if units::bytes(text).is_none() => {
                    self.bad(node.at, "not a size", "write bytes, or a number with b, k, m or g: `512m`")
                }
                _ if values::bytes(node).is_some() => {}
                _ => self.wrong(node, "a size, such as `512m`"),
            },
            Shape::BytesText => match &node.value {
                Value::Str(text) if units::bytes(text).is_some() => {}
                Value::Str(_) => self.bad(node.at, "not a size", "write a number with b, k, m or g: `512m`"),
                _ => self.wrong(node, "a size as text, such as `512m`"),
            },
            Shape::Duration => match &node.value {
                Value::Str(text) if units::duration(text).is_some() => {}
                Value::Str(_) => self.bad(
                    node.at,
                    "not a duration",
                    "write numbers with h, m, s or ms, such as `1m30s`; there is no unit for days",
                ),
                _ => self.wrong(node, "a duration as text, such as `1m30s`"),
            },
            Shape::Command => match &mut node.value {
                Value::Str(line) if line.len() > MAX_COMMAND => {
                    let message = format!("the command line is longer than {MAX_COMMAND} bytes");
                    self.findings.error(Finding::new(&codes::LIMIT, node.at, message));
                }
                Value::Str(line) if words::split(line).is_none() => self.bad(
                    node.at,
                    "the command line has an open quote or parenthesis",
                    "close it, or write the command as a list",
                ),
                Value::Null | Value::Str(_) => {}
                Value::List(items) => self.items(items, &Shape::Text),
                _ => self.wrong(node, "text or a list of text"),
            },
            Shape::Test | Shape::TextOrTexts => match &mut node.value {
                Value::Str(_) => {}
                Value::List(items) => self.items(items, &Shape::Text),
                _ => self.wrong(node, "text or a list of text"),
            },
            Shape::TextOrSet => match &mut node.value {
                Value::Str(_) => {}
                Value::List(items) => self.set(items, &Shape::Text),
                _ => self.wrong(node, "text or a list of text"),
            },
            Shape::Texts => match &mut node.value {
                Value::List(items) => self.items(items, &Shape::Text),
                _ => self.wrong(node, "a list of text"),
            },
            Shape::Set => match &mut node.value {
                Value::List(items) => self.set(items, &Shape::Text),
                _ => self.wrong(node, "a list of text"),
            },
            Shape::Scalars => match &mut node.value {
                Value::List(items) => self.set(items, &Shape::Scalar),
                _ => self.wrong(node, "a list"),
            },
            Shape::Pairs(_) => match &mut node.value {
                Value::List(items) => {
                    self.set(items, &Shape::Text);
                    let nameless = |item: &&mut Node| {
                        item.as_str().is_some_and(|item| item.is_empty() || item.starts_with('='))
                    };
                    if let Some(item) = items.iter_mut().find(nameless) {
                        self.bad(item.at, "the key is empty", "give it a name");
                    }
                }
                Value::Map(map) => {
                    if let Some(entry) = map.get("") {
                        self.bad(entry.key, "the key is empty", "give it a name");
                    }
                    self.scalars_by_key(node, true, true);
                }
                _ => self.wrong(node, "a mapping, or a list of `KEY=value`"),
            },
            Shape::Options(nothing) => match &node.value {
                Value::Map(_) => self.scalars_by_key(node, false, *nothing),
                _ => self.wrong(node, "a mapping"),
            },
            Shape::TextMap => self.named(node, &Shape::Text),
            Shape::Hosts => match &mut node.value {
                Value::List(items) => {
                    self.set(items, &Shape::Text);
                    items.iter().for_each(|item| self.host(item));
                }
                Value::Map(_) => self.named(node, &Shape::TextOrTexts),
                _ => self.wrong(node, "a mapping, or a list of `host=address`"),
            },
            Shape::Ulimit => match node.value {
                Value::Map(_) => self.object(node, &ULIMIT),
                _ => self.integer(node, i64::MIN, i64::MAX, false),
            },
            Shape::Count => match &node.value {
                Value::Int(_) => {}
                Value::Str(text) if text.eq_ignore_ascii_case("all") || text.parse::<i64>().is_ok() => {}
                _ => self.wrong(node, "`all` or a whole number"),
            },
            Shape::External => match node.value {
                Value::Map(_) => self.object(node, &EXTERNAL),
                _ => self.boolean(node),
            },
            Shape::List(item) => match &mut node.value {
                Value::List(items) => self.items(items, item),
                _ => self.wrong(node, "a list"),
            },
            Shape::Named(inner) => self.named(node, inner),
            Shape::Object(object) => self.object(node, object),
            Shape::NotText(inner) => match node.value {
                Value::Str(_) => self.wrong(node, "written without quotes, and not as a variable"),
                _ => self.check(node, inner),
            },
            Shape::Short(long) => {
                if node.as_str().is_none() {
                    self.check(node, long);
                }
            }
            Shape::AllOr(long) => match node.as_str() {
                Some("all") => {}
                Some(_) => self.wrong(node, "`all` or a list"),
                None => self.check(node, long),
            },
            Shape::ShortNumber(long) => {
                if !matches!(node.value, Value::Str(_) | Value::Int(_)) {
                    self.check(node, long);
                }
            }
            Shape::OneOrMore(one) => match &mut node.value {
                Value::List(items) => self.items(items, one),
                Value::Str(_) => {}
                _ => self.wrong(node, "text or a list"),
            },
            Shape::NamesOr(inner) => match &mut node.value {
                Value::List(items) => self.set(items, &Shape::Text),
                Value::Map(_) => self.named(node, inner),
                _ => self.wrong(node, "a list of names, or a mapping"),
            },
            Shape::OrNull(inner) => {
                if !node.is_null() {
                    self.check(node, inner);
                }
            }
            Shape::Ssh => match &mut node.value {
                Value::List(items) => self.set(items, &Shape::Text),
                Value::Map(_) => self.scalars_by_key(node, false, true),
                _ => self.wrong(node, "a list, or a mapping"),
            },
        }
    }

    /// `host=address` or `host:address`.
    fn host(&mut self, item: &Node) {
        let Some(text) = item.as_str() else { return };
        if !values::host(text).is_some_and(|(host, _)| !host.is_empty() && !host.contains(':')) {
            self.bad(item.at, "not a host name and an address", "write `host=address`");
        }
    }

    fn text(&mut self, node: &Node) {
        if node.as_str().is_none() {
            self.wrong(node, "text");
        }
    }

    fn boolean(&mut self, node: &mut Node) {
        let value = match &node.value {
            Value::Bool(value) => Some(*value),
            Value::Str(text) => match text.to_lowercase().as_str() {
                "true" | "yes" | "y" | "on" => Some(true),
                "false" | "no" | "n" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        match value {
            Some(value) => node.value = Value::Bool(value),
            None => self.wrong(node, "`true` or `false`"),
        }
    }

    /// A whole number within bounds; `cut` allows a fraction and cuts it off.
    fn integer(&mut self, node: &mut Node, least: i64, most: i64, cut: bool) {
        let value = match &node.value {
            Value::Int(value) => i64::try_from(*value).ok(),
            Value::Float(value) if value.abs() < 9e15 && (cut || value.fract() == 0.0) => Some(*value as i64),
            Value::Str(text) => text.parse::<i64>().ok(),
            _ => None,
        };
        match value {
            Some(value) if (least..=most).contains(&value) => node.value = Value::Int(value.into()),
            _ => {
                let expected = match (least, most) {
                    (i64::MIN, _) => "a whole number".to_owned(),
                    (least, i64::MAX) => format!("a whole number from {least} on"),
                    (least, most) => format!("a whole number from {least} to {most}"),
                };
                self.wrong(node, &expected);
            }
        }
    }

    fn float(&mut self, node: &mut Node) {
        match &node.value {
            Value::Int(_) => {}
            Value::Float(value) if value.is_finite() => {}
            Value::Str(text) => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => node.value = Value::Float(value),
                _ => self.wrong(node, "a number"),
            },
            _ => self.wrong(node, "a number"),
        }
    }

    fn named(&mut self, node: &mut Node, shape: &Shape) {
        let Value::Map(map) = &mut node.value else { return self.wrong(node, "a mapping") };
        for (name, entry) in map {
            self.below(name, |this| {
                let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
                let free = matches!(shape, Shape::Text | Shape::TextOrTexts);
                let named = free || (!name.is_empty() && name.chars().all(valid));
                if !named {
                    this.findings.error(
                        Finding::new(&codes::WRONG_VALUE, entry.key, format!("`{name}` is not a valid name"))
                            .help("use letters, digits, `.`, `_` and `-`"),
                    );
                }
                this.check(&mut entry.node, shape);
            });
        }
    }

    /// Values of `environment`, `labels`, options: text, numbers, and where allowed booleans and nothing.
    fn scalars_by_key(&mut self, node: &Node, booleans: bool, nothing: bool) {
        let Some(map) = node.as_map() else { return };
        for (key, entry) in map {
            let fine = match &entry.node.value {
                Value::Null => nothing,
                Value::Str(_) | Value::Int(_) | Value::Time(_) => true,
                Value::Float(value) => value.is_finite(),
                Value::Bool(_) => booleans,
                Value::List(_) | Value::Map(_) => false,
            };
            if !fine && entry.node.mark != Mark::Broken {
                self.below(key, |this| this.wrong(&entry.node, "text or a number"));
            }
        }
    }

    fn object(&mut self, node: &mut Node, object: &Object) {
        let at = node.at;
        let Value::Map(map) = &mut node.value else { return self.wrong(node, "a mapping") };
        for (key, entry) in map.iter_mut() {
            if key.starts_with("x-") && object.extensions {
                continue;
            }
            match object.field(key) {
                Some(field) => self.below(key, |this| this.check(&mut entry.node, &field.shape)),
                None if self.findings.is_full() => {}
                None => {
                    let message = format!("unknown key `{key}` in {}", object.what);
                    let finding = Finding::new(&codes::UNKNOWN_KEY, entry.key, message);
                    let keys = object.fields.iter().map(|field| field.key);
                    self.findings.error(match nearest(key, keys) {
                        Some(known) => finding.help(format!("did you mean `{known}`?")),
                        None => finding,
                    });
                }
            }
        }
        for required in object.required {
            if !map.contains_key(*required) {
                let path = self.path.join(".");
                let message = format!("`{path}`: the key `{required}` is missing in {}", object.what);
                self.findings.error(Finding::new(&codes::WRONG_VALUE, at, message));
            }
        }
    }
}

/// A soft and a hard limit.
static ULIMIT: Object = Object {
    required: &["hard", "soft"],
    ..super::object("a limit", &[super::f("hard", super::WHOLE), super::f("soft", super::WHOLE)])
};
/// The old form of `external`.
static EXTERNAL: Object = super::object("`external`", &[super::f("name", Shape::Text)]);
