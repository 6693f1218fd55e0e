//! Variables in values: `$NAME`, `${NAME}`, `:-` `-` `:?` `?` `:+` `+` with nested expressions, and `$$`.
//!
//! Keys are left alone. A dollar sign before anything that is not a name or a brace stands for itself, as it does in
//! `docker compose`. Nesting and the amount of text produced are bounded.

use std::collections::{BTreeMap, BTreeSet};

use crate::budget::{Budget, Weight};
use crate::codes;
use crate::diagnostics::{At, Finding, Findings};
use crate::node::{Mark, Node, Value};

/// Expressions inside of expressions.
const MAX_NESTING: usize = 32;
/// Bytes that one value with variables may have, and may grow to.
const MAX_VALUE: usize = 1 << 20;
/// Bytes that may be produced in all while filling in a file, those of defaults that are then not used counted too.
const MAX_WORK: usize = 16 << 20;

/// Where variables get their values.
pub(crate) type Environment = BTreeMap<String, String>;

/// Gives variables their values.
pub(crate) type Lookup<'l, 'e> = &'l dyn Fn(&str) -> Option<&'e str>;

/// What went wrong in one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Not a template: the rest from the offending `$` on.
    Malformed(String),
    /// `:?` or `?` without a value: name and the message given.
    Required(String, String),
    /// Nested too deep or grown too large.
    Limit,
}

/// What filling in one template gave.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) text: String,
    /// Plain variables that have no value and became nothing.
    pub(crate) unset: BTreeSet<String>,
}

/// Fills in one template.
pub(crate) fn substitute<'e>(template: &str, lookup: Lookup<'_, 'e>) -> Result<Filled, Problem> {
    fill(template, lookup, &mut 0)
}

/// The same for one of many: `work` counts what all of them produce.
pub(crate) fn fill<'e>(template: &str, lookup: Lookup<'_, 'e>, work: &mut usize) -> Result<Filled, Problem> {
    if template.len() > MAX_VALUE {
        return Err(Problem::Limit);
    }
    let mut filled = Filled::default();
    filled.text = expand(template, lookup, &mut filled.unset, work, 0)?;
    Ok(filled)
}

fn expand<'e>(
    template: &str,
    lookup: Lookup<'_, 'e>,
    unset: &mut BTreeSet<String>,
    work: &mut usize,
    depth: usize,
) -> Result<String, Problem> {
    if depth > MAX_NESTING {
        return Err(Problem::Limit);
    }
    let mut out = String::new();
    for part in Parts(template) {
        let before = out.len();
        match part? {
            Part::Text(text) => out.push_str(text),
            Part::Variable { name, operator, word } => {
                let value = lookup(name);
                let filled = value.is_some_and(|value| !value.is_empty());
                match operator {
                    None => {
                        if value.is_none() && !unset.contains(name) {
                            unset.insert(name.to_owned());
                        }
                        out.push_str(value.unwrap_or_default());
                    }
                    Some(operator) => {
                        // The word is filled in whether used or not: a mistake in it is one either way.
                        let word = expand(word, lookup, unset, work, depth + 1)?;
                        let present = if operator.empty_counts_as_unset { filled } else { value.is_some() };
                        match (operator.action, present) {
                            (Action::Default, false) | (Action::Alternative, true) => out.push_str(&word),
                            (Action::Require, false) => return Err(Problem::Required(name.to_owned(), word)),
                            _ => out.push_str(value.unwrap_or_default()),
                        }
                    }
                }
            }
        }
        *work = work.saturating_add(out.len() - before + 1);
        if out.len() > MAX_VALUE || *work > MAX_WORK {
            return Err(Problem::Limit);
        }
    }
    Ok(out)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// `-`
    Default,
    /// `+`
    Alternative,
    /// `?`
    Require,
}

#[derive(Debug, Clone, Copy)]
struct Operator {
    action: Action,
    /// With a colon.
    empty_counts_as_unset: bool,
}

enum Part<'a> {
    Text(&'a str),
    Variable { name: &'a str, operator: Option<Operator>, word: &'a str },
}

/// Splits a template into text and variables.
struct Parts<'a>(&'a str);

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0;
        if rest.is_empty() {
            return None;
        }
        let Some(dollar) = rest.find('$') else {
            self.0 = "";
            return Some(Ok(Part::Text(rest)));
        };
        if dollar > 0 {
            self.0 = &rest[dollar..];
            return Some(Ok(Part::Text(&rest[..dollar])));
        }
        let after = &rest[1..];
        if let Some(tail) = after.strip_prefix('$') {
            self.0 = tail;
            return Some(Ok(Part::Text("$")));
        }
        if let Some(inside) = after.strip_prefix('{') {
            return Some(match braced(inside) {
                Some((part, tail)) => {
                    self.0 = tail;
                    Ok(part)
                }
                None => {
                    self.0 = "";
                    Err(Problem::Malformed(rest.chars().take(60).collect()))
                }
            });
        }
        let name = name(after);
        if name.is_empty() {
            self.0 = after;
            return Some(Ok(Part::Text("$")));
        }
        self.0 = &after[name.len()..];
        Some(Ok(Part::Variable { name, operator: None, word: "" }))
    }
}

/// Longest variable name at the start.
fn name(text: &str) -> &str {
    let valid = |(index, c): &(usize, char)| {
        *c == '_' || c.is_ascii_alphabetic() || (*index > 0 && c.is_ascii_digit())
    };
    let end = text.char_indices().take_while(valid).last().map_or(0, |(index, _)| index + 1);
    &text[..end]
}

/// What follows `${`: the variable, and the text after its closing brace.
fn braced(inside: &str) -> Option<(Part<'_>, &str)> {
    let name = name(inside);
    let rest = &inside[name.len()..];
    if name.is_empty() {
        return None;
    }
    if let Some(tail) = rest.strip_prefix('}') {
        return Some((Part::Variable { name, operator: None, word: "" }, tail));
    }
    let (colon, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let action = match rest.chars().next()? {
        '-' => Action::Default,
        '+' => Action::Alternative,
        '?' => Action::Require,
        _ => return None,
    };
    let word = &rest[1..];
    let end = closing_brace(word)?;
    let operator = Operator { action, empty_counts_as_unset: colon };
    Some((Part::Variable { name, operator: Some(operator), word: &word[..end] }, &word[end + 1..]))
}

/// Index of the brace that closes an expression; braces inside are counted, so that JSON can be a default. Where they
/// do not pair up, it is the last one: `${A:-{}` has the default `{`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(index);
        }
    }
    text.rfind('}')
}

/// Fills in all values of a tree; every problem is put down and its value marked as broken.
pub(crate) fn apply(
    root: &mut Node,
    environment: &Environment,
    findings: &mut Findings,
    budget: &mut Budget,
) {
    let lookup = |name: &str| environment.get(name).map(String::as_str);
    let (mut work, mut spent) = (0, false);
    walk(root, &mut |node, text| {
        // Told already, and not worth the work of going on.
        if spent {
            node.mark = Mark::Broken;
            node.value = Value::Null;
            return;
        }
        let problem = match fill(text, &lookup, &mut work) {
            Ok(filled) => {
                for name in filled.unset {
                    if findings.is_full_of_warnings() {
                        break;
                    }
                    let message = format!("the variable `{name}` has no value and becomes nothing");
                    findings.warn(
                        Finding::new(&codes::VARIABLE_MISSING, node.at, message)
                            .help(format!("give it a value, or a default: `${{{name}:-…}}`")),
                    );
                }
                node.substituted = true;
                spent = budget.spend(Weight::text(filled.text.len()), node.at).is_err();
                node.value = Value::Str(filled.text);
                if !spent {
                    return;
                }
                Problem::Limit
            }
            Err(problem) => {
                spent |= problem == Problem::Limit;
                problem
            }
        };
        findings.error(finding(&problem, node.at));
        node.mark = Mark::Broken;
        node.value = Value::Null;
    });
}

/// A problem, told.
pub(crate) fn finding(problem: &Problem, at: At) -> Finding {
    match problem {
        Problem::Malformed(text) => {
            Finding::new(&codes::VARIABLE_MISSING, at, format!("`{text}` is not a variable expression")).help(
                "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; a literal dollar sign is `$$`",
            )
        }
        Problem::Required(name, message) if message.is_empty() => Finding::new(
            &codes::VARIABLE_MISSING,
            at,
            format!("the variable `{name}` is required and has no value"),
        )
        .help(format!("give `{name}` a value")),
        Problem::Required(name, message) => Finding::new(
            &codes::VARIABLE_MISSING,
            at,
            format!("the variable `{name}` is required and has no value: {message}"),
        )
        .help(format!("give `{name}` a value")),
        Problem::Limit => Finding::new(
            &codes::LIMIT,
            at,
            "filling in variables nests too deep or gives more text than is sensible",
        ),
    }
}

/// Calls `visit` for every text that has a dollar sign.
fn walk(node: &mut Node, visit: &mut dyn FnMut(&mut Node, &str)) {
    match &mut node.value {
        Value::Str(text) if text.contains('$') => {
            let text = std::mem::take(text);
            visit(node, &text);
        }
        Value::List(items) => items.iter_mut().for_each(|item| walk(item, visit)),
        Value::Map(map) => map.values_mut().for_each(|entry| walk(&mut entry.node, visit)),
        _ => {}
    }
}

/// A variable that a project refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The first default given, as written, not filled in.
    pub default: Option<String>,
    /// Whether some place refuses to go on without it (`:?`, `?`).
    pub required: bool,
    /// Whether some place takes it plainly, so that without a value it silently becomes nothing.
    pub plain: bool,
}

/// Adds the variables that a tree refers to, nested ones included. Malformed expressions are passed over.
pub(crate) fn collect(node: &Node, into: &mut BTreeMap<String, Variable>) {
    match &node.value {
        Value::Str(text) => collect_text(text, into, 0),
        Value::List(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Map(map) => map.values().for_each(|entry| collect(&entry.node, into)),
        _ => {}
    }
}

fn collect_text(text: &str, into: &mut BTreeMap<String, Variable>, depth: usize) {
    if text.len() > MAX_VALUE {
        return;
    }
    for part in Parts(text).flatten() {
        let Part::Variable { name, operator, word } = part else { continue };
        let variable = into
            .entry(name.to_owned())
            .or_insert_with(|| Variable { name: name.to_owned(), ..Variable::default() });
        match operator.map(|operator| operator.action) {
            None => variable.plain = true,
            Some(Action::Default) => {
                variable.default.get_or_insert_with(|| word.to_owned());
            }
            Some(Action::Require) => variable.required = true,
            Some(Action::Alternative) => {}
        }
        if operator.is_some() && depth < MAX_NESTING {
            collect_text(word, into, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> Result<String, Problem> {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            "DOLLAR" => Some("$A"),
            _ => None,
        };
        substitute(template, &lookup).map(|filled| filled.text)
    }

    #[test]
    fn every_form_gives_what_docker_compose_gives() {
        for (template, expected) in [
            ("$A-x", "a-x"),
            ("${A}b", "ab"),
            ("$Ab", ""),
            ("$$A", "$A"),
            ("$${A}", "${A}"),
            ("$$$A", "$a"),
            ("cost: 5$", "cost: 5$"),
            ("$1 $ $-", "$1 $ $-"),
            ("${NO}", ""),
            ("${NO:-d}", "d"),
            ("${NO-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:-d}", "a"),
            ("${A:+y}", "y"),
            ("${EMPTY:+y}", ""),
            ("${EMPTY+y}", "y"),
            ("${NO+y}", ""),
            ("${A:?m}", "a"),
            ("${EMPTY?m}", ""),
            ("${NO:-${A}}", "a"),
            ("${NO:-${NEIN:-x}y}z", "xyz"),
            ("${NO:-a:-b}", "a:-b"),
            ("${NO:-{\"k\": 1}}", "{\"k\": 1}"),
            ("${NO:-{}", "{"),
            ("${NO:-{}}x", "{}x"),
            ("${NO:-http://h:80/?q}", "http://h:80/?q"),
            ("${NO:-$$}", "$"),
            ("$DOLLAR", "$A"),
            ("${NO:-}", ""),
            ("${a}${A}", "a"),
            ("${NO:-a\nb}", "a\nb"),
        ] {
            assert_eq!(fill(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn required_variables_say_why() {
        assert_eq!(fill("${NO:?set it, $A}"), Err(Problem::Required("NO".into(), "set it, a".into())));
        assert_eq!(fill("${EMPTY:?}"), Err(Problem::Required("EMPTY".into(), String::new())));
        assert_eq!(fill("${NO?}"), Err(Problem::Required("NO".into(), String::new())));
    }

    #[test]
    fn malformed_expressions_are_errors() {
        for template in ["${", "${}", "${A", "${1}", "${A!}", "${A:}", "${A:x}", "${NO:-${}", "a ${ A}"] {
            assert!(matches!(fill(template), Err(Problem::Malformed(_))), "{template}");
        }
    }

    #[test]
    fn nesting_and_growth_are_bounded() {
        let nested = "${N:-".repeat(40) + &"}".repeat(40);
        assert_eq!(fill(&nested), Err(Problem::Limit));
        let long = "x".repeat(100_000);
        // A default that is not used costs what it costs.
        let unused = "${A:-$B}".repeat(1000);
        let lookup = |name: &str| Some(if name == "A" { "a" } else { long.as_str() });
        assert_eq!(substitute(&unused, &lookup).unwrap_err(), Problem::Limit);
        let bomb = "$A".repeat(20);
        assert_eq!(substitute(&bomb, &|_| Some(long.as_str())).unwrap_err(), Problem::Limit);
    }

    #[test]
    fn variables_are_listed_with_what_is_known_of_them() {
        let text = "${A:-1} $B ${C:?needed} ${D:+${E:-x}} $$F ${A}";
        let mut found = BTreeMap::new();
        collect(&Node::text(text, At::default()), &mut found);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["A", "B", "C", "D", "E"]);
        assert_eq!(found["A"].default.as_deref(), Some("1"));
        assert!(found["A"].plain && found["B"].plain && found["C"].required && !found["E"].required);
    }
}
