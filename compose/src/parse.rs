//! YAML to the node tree. The only module that knows the YAML library.
//!
//! Aliases are written out as they are met, against a budget, so that a small file cannot become a large tree; merge
//! keys (`<<`) are applied on the way. Depth is bounded, so everything that walks the tree may recurse.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use crate::budget::{Budget, Weight};
use crate::codes;
use crate::diagnostics::{At, Finding};
use crate::node::{Entry, Map, Mark, Node, Value};
use crate::scalar;

/// Documents of one file, each of which is merged into what came before.
const MAX_DOCUMENTS: usize = 32;
/// Nesting of lists and mappings.
const MAX_DEPTH: usize = 64;

/// Reads all documents of a file. `file` is the number that places carry.
pub(crate) fn parse(text: &str, file: u32, budget: &mut Budget) -> Result<Vec<Node>, Finding> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    no_control_characters(text, file)?;
    let mut reader = Reader { parser: Parser::new_from_str(text), file, anchors: BTreeMap::new(), budget };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                let (event, at) = reader.next()?;
                if documents.len() == MAX_DOCUMENTS {
                    let message = format!("the file has more than {MAX_DOCUMENTS} documents");
                    return Err(Finding::new(&codes::LIMIT, at, message).help("put all into one"));
                }
                documents.push(reader.node(event, at, 0)?);
                reader.anchors.clear();
            }
            _ => {}
        }
    }
}

/// YAML has no place for control characters, except as escapes in double quotes.
fn no_control_characters(text: &str, file: u32) -> Result<(), Finding> {
    let forbidden = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    let Some(index) = text.bytes().position(forbidden) else { return Ok(()) };
    let before = &text[..index];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    let line = number(before.bytes().filter(|byte| *byte == b'\n').count());
    let at = At { file, line, column: number(before[start..].chars().count()) };
    let found = u32::from(text.as_bytes()[index]);
    let finding =
        Finding::new(&codes::UNREADABLE, at, format!("the control character U+{found:04X} stands here"));
    Err(finding.help("remove it, or write it as an escape in double quotes"))
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    file: u32,
    /// Finished anchored nodes and their weights.
    anchors: BTreeMap<usize, (Node, Weight)>,
    budget: &'a mut Budget,
}

impl<'a> Reader<'a> {
    fn at(&self, marker: Marker) -> At {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        At { file: self.file, line: number(marker.line()), column: number(marker.col() + 1) }
    }

    fn next(&mut self) -> Result<(Event<'a>, At), Finding> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.at(span.start))),
            Some(Err(error)) => {
                let at = self.at(*error.marker());
                Err(Finding::new(&codes::UNREADABLE, at, format!("not readable as YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, At { file: self.file, line: 0, column: 0 })),
        }
    }

    fn node(&mut self, event: Event<'a>, at: At, depth: usize) -> Result<Node, Finding> {
        if depth > MAX_DEPTH {
            return Err(Finding::new(&codes::LIMIT, at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let text = if let Event::Scalar(text, ..) = &event { text.len() } else { 0 };
        self.budget.spend(Weight::value(text), at)?;
        let (value, anchor, tag) = match event {
            Event::Alias(anchor) => return self.alias(anchor, at, depth),
            Event::Scalar(text, style, anchor, tag) => {
                (scalar_value(&text, style, tag.as_deref()), anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (self.list(depth)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.map(depth)?, anchor, tag),
            _ => return Err(Finding::new(&codes::UNREADABLE, at, "a value was expected here")),
        };
        let mut node = Node::new(value, at);
        node.mark = mark(tag.as_deref());
        if anchor != 0 {
            let weight = node.weight();
            // Keeping the anchored copy costs as much as using it once.
            self.budget.spend(weight, at)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, at: At, depth: usize) -> Result<Node, Finding> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            return Err(Finding::new(&codes::CYCLE, at, "the alias stands inside of what it refers to"));
        };
        self.budget.spend(*weight, at)?;
        if depth + height(node) > MAX_DEPTH {
            return Err(Finding::new(&codes::LIMIT, at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(node.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Value, Finding> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
        // An item that is reset is as if it had not been written.
        items.retain(|item| item.mark != Mark::Reset);
        Ok(Value::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Value, Finding> {
        let mut map = Map::new();
        let mut merged: Option<(At, Node)> = None;
        loop {
            let (event, key_at) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let is_merge = match &event {
                Event::Scalar(text, ScalarStyle::Plain, _, None) => text == "<<",
                Event::Scalar(_, _, _, Some(tag)) => tag.is_yaml_core_schema() && tag.suffix == "merge",
                _ => false,
            };
            let key = self.node(event, key_at, depth + 1)?;
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            if is_merge {
                if merged.replace((key_at, node)).is_some() {
                    return Err(duplicate("<<", key_at, None));
                }
                continue;
            }
            let Value::Str(key) = key.value else {
                let message = format!("a key must be text, and this is {}", key.kind());
                return Err(Finding::new(&codes::UNREADABLE, key_at, message).help("put the key in quotes"));
            };
            if let Some(first) = map.get(&key) {
                return Err(duplicate(&key, key_at, Some(first)));
            }
            map.insert(key, Entry { key: key_at, node });
        }
        if let Some((at, node)) = merged {
            merge_key(&mut map, node, at)?;
        }
        Ok(Value::Map(map))
    }
}

fn duplicate(key: &str, at: At, first: Option<&Entry>) -> Finding {
    let line = first.map_or_else(String::new, |entry| format!(" (first on line {})", entry.key.line));
    Finding::new(&codes::UNREADABLE, at, format!("the key `{key}` is given twice{line}"))
        .help("keep one of the two")
}

/// Takes what `<<` refers to into a mapping; keys that are there already win, earlier mappings of a list win over later ones.
fn merge_key(map: &mut Map, node: Node, at: At) -> Result<(), Finding> {
    let wrong = |at| Finding::new(&codes::UNREADABLE, at, "`<<` needs a mapping, or a list of mappings");
    let sources = match node.value {
        Value::Map(source) => vec![source],
        Value::List(items) => {
            let source = |item: Node| match item.value {
                Value::Map(source) => Ok(source),
                _ => Err(wrong(item.at)),
            };
            items.into_iter().map(source).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong(at)),
    };
    for source in sources {
        for (key, entry) in source {
            map.entry(key).or_insert(entry);
        }
    }
    Ok(())
}

/// Levels below a node.
fn height(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Map(map) => 1 + map.values().map(|entry| height(&entry.node)).max().unwrap_or(0),
        _ => 0,
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let resolved = match tag {
        // `!!str` and tags that YAML does not know leave text as text.
        Some(tag) => tag.is_yaml_core_schema() && tag.suffix != "str",
        None => style == ScalarStyle::Plain,
    };
    match mark(tag) {
        Mark::Reset => Value::Null,
        _ if resolved => scalar::resolve(text),
        _ => Value::Str(text.to_owned()),
    }
}

fn mark(tag: Option<&Tag>) -> Mark {
    match tag {
        Some(tag) if tag.handle == "!" && tag.suffix == "reset" => Mark::Reset,
        Some(tag) if tag.handle == "!" && tag.suffix == "override" => Mark::Override,
        _ => Mark::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        parse(text, 0, &mut Budget::default()).unwrap().remove(0)
    }

    fn error(text: &str) -> Finding {
        parse(text, 0, &mut Budget::default()).unwrap_err()
    }

    #[test]
    fn places_count_from_one() {
        let root = one("a:\n  b: c\n");
        let entry = &root.get("a").unwrap().as_map().unwrap()["b"];
        assert_eq!((entry.key.line, entry.key.column), (2, 3));
        assert_eq!((entry.node.at.line, entry.node.at.column), (2, 6));
    }

    #[test]
    fn merge_keys_yield_to_keys_and_to_earlier_merges() {
        for merge in ["<<", "!!merge <<"] {
            let text =
                format!("x: &x {{a: 1, b: 1}}\ny: &y {{b: 2, c: 2}}\nz:\n  {merge}: [*x, *y]\n  a: 3\n");
            let root = one(&text);
            let value = |key| root.get("z").unwrap().get(key).unwrap().value.clone();
            assert_eq!((value("a"), value("b"), value("c")), (Value::Int(3), Value::Int(1), Value::Int(2)));
        }
    }

    #[test]
    fn duplicate_keys_are_errors_that_name_both_lines() {
        let finding = error("a: 1\nb: 2\na: 3\n");
        assert_eq!((finding.code.id, finding.at.line), ("KE-1001", 3));
        assert!(finding.message.contains("first on line 1"));
    }

    #[test]
    fn a_laughing_file_is_cut_short() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let previous = format!("*a{}, ", level - 1).repeat(9);
            text += &format!("a{level}: &a{level} [{previous}]\n");
        }
        assert_eq!(error(&text).code.id, "KE-1007");
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(error(&"[".repeat(80)).code.id, "KE-1007");
        assert_eq!(
            error(&(0..80).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>()).code.id,
            "KE-1007"
        );
    }

    #[test]
    fn an_alias_inside_its_anchor_is_refused() {
        assert_eq!(error("a: &a [*a]\n").code.id, "KE-1008");
    }

    #[test]
    fn control_characters_are_refused_where_they_stand() {
        let finding = error("a: 1\nb: é\u{1b}[0m\n");
        assert_eq!((finding.at.line, finding.at.column), (2, 5));
        assert_eq!(one("a: \"\\e\"\n").get("a").unwrap().as_str(), Some("\u{1b}"));
    }

    #[test]
    fn keys_that_are_not_text_are_refused() {
        assert!(error("80: x\n").message.contains("a whole number"));
        assert_eq!(one("'80': x\n").get("80").unwrap().as_str(), Some("x"));
    }

    #[test]
    fn tags_leave_marks() {
        let root = one("a: !reset []\nb: !override [x]\nc: !!str 1\nd: !other 1\ne: [!reset x, y]\n");
        assert_eq!(root.get("a").unwrap().mark, Mark::Reset);
        assert_eq!(root.get("b").unwrap().mark, Mark::Override);
        assert_eq!(root.get("c").unwrap().as_str(), Some("1"));
        assert_eq!(root.get("d").unwrap().as_str(), Some("1"));
        assert_eq!(root.get("e").unwrap().as_list().unwrap().len(), 1);
    }
}
