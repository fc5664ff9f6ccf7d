//! One YAML document to a tree: anchors, aliases and merge keys resolved within bounds, no key twice.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::scalar;
use super::tree::{Entry, Node, Value, quote};

/// How many values a document may have, its aliases expanded.
pub const NODES: usize = 50_000;
/// How deep they may nest.
pub const DEPTH: usize = 100;
/// How many bytes of text they may hold, aliases expanded.
const TEXT: usize = 4 << 20;
/// The same of all documents of a file: a thousand bombs, each short of its own bounds, are gigabytes.
const FILE_NODES: usize = 200_000;
const FILE_TEXT: usize = 8 << 20;

/// Why a document cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: u32,
    pub message: String,
}

/// Reads the one document of `text`, whose first line is `line` of its file. None: it is empty.
pub fn document(text: &str, line: u32, budget: &mut Budget) -> Result<Option<Node>, Fault> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        base: line.saturating_sub(1),
        anchors: HashMap::new(),
        budget: budget.document(),
        last: line,
    };
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(None),
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
            (event, line) => {
                let node = reader.node(event, line, 1)?;
                reader.end()?;
                return Ok(Some(node).filter(|node| node.value != Value::Null));
            }
        }
    }
}

/// The same of a file of one document.
#[cfg(test)]
pub fn read(text: &str, line: u32) -> Result<Option<Node>, Fault> {
    document(text, line, &mut Budget::default())
}

struct Reader<'t, 'b> {
    parser: Parser<'t, StrInput<'t>>,
    base: u32,
    anchors: HashMap<usize, Node>,
    budget: &'b mut Budget,
    /// The line of the newest event.
    last: u32,
}

type Tagged<'t> = Option<std::borrow::Cow<'t, Tag>>;

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, u32), Fault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.last = self.line(&span);
                Ok((event, self.last))
            }
            Some(Err(error)) => {
                let line = self.base.saturating_add(error.marker().line() as u32);
                let column = error.marker().col() + 1;
                Err(Fault { line, message: format!("not YAML: {} (column {column})", error.info()) })
            }
            None => Ok((Event::StreamEnd, self.last)),
        }
    }

    fn line(&self, span: &Span) -> u32 {
        self.base.saturating_add(span.start.line() as u32)
    }

    /// Nothing may follow: documents were parted before.
    fn end(&mut self) -> Result<(), Fault> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd | Event::Nothing, _) => {}
                (_, line) => {
                    return Err(fault(line, "a second document starts here without a line of three dashes"));
                }
            }
        }
    }

    fn node(&mut self, event: Event<'t>, line: u32, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH {
            return Err(fault(line, &format!("nested deeper than {DEPTH}")));
        }
        self.budget.spend(1, 0, line)?;
        let (node, anchor) = match event {
            Event::Alias(id) => return self.alias(id, line, depth),
            Event::Scalar(text, style, anchor, tag) => {
                self.budget.spend(0, text.len(), line)?;
                (scalar_node(&text, style, &tag, line)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(&tag, "seq", line)?;
                (self.list(line, depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(&tag, "map", line)?;
                (self.map(line, depth)?, anchor)
            }
            _ => return Err(fault(line, "not YAML: the document ends within a value")),
        };
        if anchor > 0 {
            // The copy kept for aliases counts too, or nested anchors would multiply for nothing.
            let size = Size::of(&node);
            self.budget.spend(size.nodes, size.bytes, line)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// A copy of what the anchor named. An anchor inside itself is not known yet, and so refused.
    fn alias(&mut self, id: usize, line: u32, depth: usize) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(fault(line, "the alias stands within its own anchor"));
        };
        let size = Size::of(node);
        self.budget.spend(size.nodes, size.bytes, line)?;
        if depth + size.depth > DEPTH + 1 {
            return Err(fault(line, &format!("nested deeper than {DEPTH}")));
        }
        Ok(node.clone())
    }

    fn list(&mut self, line: u32, depth: usize) -> Result<Node, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node { line, value: Value::List(items), raw: None }),
                (event, line) => items.push(self.node(event, line, depth + 1)?),
            }
        }
    }

    fn map(&mut self, line: u32, depth: usize) -> Result<Node, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        // Lines by key: finds a second one without looking through all.
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut merges: Vec<(u32, Node)> = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, 0, tag), line) => {
                    let merge = style == ScalarStyle::Plain && text == "<<";
                    if merge {
                        let (event, at) = self.next()?;
                        merges.push((line, self.node(event, at, depth + 1)?));
                        continue;
                    }
                    self.budget.spend(1, text.len(), line)?;
                    if scalar_node(&text, style, &tag, line)?.value == Value::Null {
                        return Err(fault(line, "a key is empty: write a name before the colon"));
                    }
                    (text.into_owned(), line)
                }
                (_, line) => return Err(fault(line, "a key must be a plain word")),
            };
            if let Some(first) = seen.insert(key.clone(), line) {
                return Err(duplicate(&key, first, line));
            }
            let (event, at) = self.next()?;
            let node = self.node(event, at, depth + 1)?;
            entries.push(Entry { key, line, node });
        }
        for (at, merged) in merges {
            merge(&mut entries, &mut seen, merged, at)?;
        }
        Ok(Node { line, value: Value::Map(entries), raw: None })
    }
}

/// What both readers say of a key that comes twice.
pub fn duplicate(key: &str, first: u32, second: u32) -> Fault {
    fault(second, &format!("key {} is given twice, first on line {first}: remove one", quote(key)))
}

/// Adds a merge key's entries: those that are there already win, and of several sources the earlier.
fn merge(
    entries: &mut Vec<Entry>,
    seen: &mut HashMap<String, u32>,
    from: Node,
    line: u32,
) -> Result<(), Fault> {
    let sources = match from.value {
        Value::List(items) => items,
        value => vec![Node { value, ..from }],
    };
    for source in sources {
        let Value::Map(merged) = source.value else {
            return Err(fault(line, "the merge key << takes a map or a list of maps"));
        };
        for entry in merged {
            if !seen.contains_key(&entry.key) {
                seen.insert(entry.key.clone(), entry.line);
                entries.push(entry);
            }
        }
    }
    Ok(())
}

fn scalar_node(text: &str, style: ScalarStyle, tag: &Tagged<'_>, line: u32) -> Result<Node, Fault> {
    let wanted = match tag {
        None => None,
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Some("str"),
        Some(tag) if tag.is_yaml_core_schema() => Some(tag.suffix.as_str()),
        Some(tag) => return Err(fault(line, &format!("tag {tag} is not known: remove it"))),
    };
    let plain = style == ScalarStyle::Plain;
    let value = match wanted {
        Some("str") => Value::Text(text.into()),
        None if !plain => Value::Text(text.into()),
        None => scalar::resolve(text).map_err(|why| fault(line, &why))?,
        Some(wanted @ ("int" | "float" | "bool" | "null")) => {
            let value = scalar::resolve(text).map_err(|why| fault(line, &why))?;
            let fits = match value {
                Value::Number(_) => matches!(wanted, "int" | "float"),
                Value::Bool(_) => wanted == "bool",
                Value::Null => wanted == "null",
                _ => false,
            };
            if !fits {
                return Err(fault(line, &format!("{} does not fit its tag !!{wanted}", quote(text))));
            }
            value
        }
        Some(other) => {
            return Err(fault(line, &format!("tag !!{other} is not supported in a manifest: remove it")));
        }
    };
    let raw = (!matches!(value, Value::Text(_) | Value::Null)).then(|| text.into());
    Ok(Node { line, value, raw })
}

fn collection_tag(tag: &Tagged<'_>, wanted: &str, line: u32) -> Result<(), Fault> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == wanted) => {
            Err(fault(line, &format!("tag {tag} is not supported in a manifest: remove it")))
        }
        _ => Ok(()),
    }
}

/// What a file and its present document have used of their bounds. Aliases pay for what they stand for.
#[derive(Default)]
pub struct Budget {
    document: Used,
    file: Used,
}

#[derive(Clone, Copy, Default)]
struct Used {
    nodes: usize,
    bytes: usize,
}

impl Used {
    fn add(&mut self, nodes: usize, bytes: usize) {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn beyond(&self, nodes: usize, bytes: usize) -> bool {
        self.nodes > nodes || self.bytes > bytes
    }
}

impl Budget {
    /// For the next document.
    pub fn document(&mut self) -> &mut Self {
        self.document = Used::default();
        self
    }

    pub fn spend(&mut self, nodes: usize, bytes: usize, line: u32) -> Result<(), Fault> {
        self.document.add(nodes, bytes);
        if self.document.beyond(NODES, TEXT) {
            return Err(fault(line, &format!("more than {NODES} values or {TEXT} bytes, aliases expanded")));
        }
        // What is refused is not kept, and takes nothing from the others.
        let before = self.file;
        self.file.add(nodes, bytes);
        if self.file.beyond(FILE_NODES, FILE_TEXT) {
            self.file = before;
            return Err(fault(
                line,
                &format!(
                    "with this document the file has more than {FILE_NODES} values or {FILE_TEXT} bytes, aliases \
                     expanded: write several files"
                ),
            ));
        }
        Ok(())
    }
}

struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Size {
    /// Recursion is bounded by `DEPTH`, which held when the node was read.
    fn of(node: &Node) -> Size {
        let mut size = Size { nodes: 1, bytes: 0, depth: 0 };
        match &node.value {
            Value::Text(text) => size.bytes = text.len(),
            Value::List(items) => items.iter().for_each(|item| size.add(Size::of(item))),
            Value::Map(entries) => entries.iter().for_each(|entry| {
                size.nodes += 1;
                size.bytes += entry.key.len();
                size.add(Size::of(&entry.node));
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        size.depth += 1;
        size
    }

    fn add(&mut self, part: Size) {
        self.nodes += part.nodes;
        self.bytes += part.bytes;
        self.depth = self.depth.max(part.depth);
    }
}

pub fn fault(line: u32, message: &str) -> Fault {
    Fault { line, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as JSON: what the document says, without lines.
    fn json(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(json).collect::<Vec<_>>().into(),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), json(&entry.node)));
                pairs.collect::<serde_json::Map<_, _>>().into()
            }
        }
    }

    #[test]
    fn documents_read_as_kubernetes_reads_them() {
        let table = [
            ("a: yes\nb: 'yes'\nc: \"0644\"\nd: 0644", r#"{"a":true,"b":"yes","c":"0644","d":420}"#),
            ("a: |\n  yes\nb: >-\n  1\n  2", r#"{"a":"yes\n","b":"1 2"}"#),
            ("a: !!str 5\nb: ! 5\nc: !!int 5\nd: !!float 1.5", r#"{"a":"5","b":"5","c":5,"d":1.5}"#),
            ("on: 1\nyes: 2\n80: 3", r#"{"on":1,"yes":2,"80":3}"#),
            ("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3", r#"{"a":{"b":1,"c":2},"d":{"c":3,"b":1}}"#),
            (
                "a: &x {b: 1}\ne: &y {b: 2, c: 3}\nd:\n  <<: [*x, *y]",
                r#"{"a":{"b":1},"e":{"b":2,"c":3},"d":{"b":1,"c":3}}"#,
            ),
            ("a: &x [1, 2]\nb: *x\nc: &x 5\nd: *x", r#"{"a":[1,2],"b":[1,2],"c":5,"d":5}"#),
            ("a:\nb: ~\nc: {}\nd: []", r#"{"a":null,"b":null,"c":{},"d":[]}"#),
            ("'<<': 1", r#"{"<<":1}"#),
            ("%YAML 1.1\n---\na: 1\n", r#"{"a":1}"#),
            ("--- # c\na: 2024-01-01\nb: 1.2.3", r#"{"a":"2024-01-01","b":"1.2.3"}"#),
            ("{\n  \"a\": [1, 2.5],\n  'b': {c: d}\n}", r#"{"a":[1,2.5],"b":{"c":"d"}}"#),
            ("a:\n- b\n-  - c\n   - d", r#"{"a":["b",["c","d"]]}"#),
            ("a: b\r\nc:\r\n  - d\r\n", r#"{"a":"b","c":["d"]}"#),
        ];
        for (text, expected) in table {
            let node = read(text, 1).unwrap_or_else(|fault| panic!("{text}: {fault:?}")).unwrap();
            assert_eq!(json(&node), serde_json::from_str::<serde_json::Value>(expected).unwrap(), "{text}");
        }
        for text in ["", "\n# nothing\n", "~", "---\n", "--- # x\n", "null"] {
            assert_eq!(read(text, 1), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let node = read("# c\na:\n  - b: 1\n    c: |\n      x\n      y\n    d: 2\n", 11).unwrap().unwrap();
        let item = super::super::tree::Path::of("a").item(0);
        for (field, line) in [("b", 13), ("c", 14), ("d", 17), ("absent", 13)] {
            assert_eq!(node.line_of(&item.key(field)), line, "{field}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_line() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &('b'..='g')
                .map(|c| {
                    let before = (c as u8 - 1) as char;
                    format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 10].join(","))
                })
                .collect::<String>();
        let deep = format!("a: {}{}", "[".repeat(120), "]".repeat(120));
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), vec!["*a"; 200].join(","));
        let table: [(&str, u32, &str); 14] = [
            ("a: 1\nb: 2\na: 3", 3, "key \"a\" is given twice, first on line 1: remove one"),
            ("{a: 1,\n\"a\": 2}", 2, "given twice"),
            (&bomb, 5, "more than 50000 values"),
            (&deep, 1, "nested deeper than 100"),
            (&long, 2, "bytes, aliases expanded"),
            ("a: &x [*x]", 1, "within its own anchor"),
            ("a: *nothing", 1, "not YAML"),
            ("a: [1, 2\nb: 3", 2, "not YAML"),
            ("a:\n\t- b", 2, "not YAML"),
            ("a: 'b", 1, "not YAML"),
            ("? [a, b]\n: c", 1, "a key must be a plain word"),
            ("~: c", 1, "a key is empty"),
            ("a: !foo b", 1, "tag !foo is not known"),
            ("a: !!binary aGk=", 1, "!!binary is not supported"),
        ];
        for (text, line, message) in table {
            let fault = read(text, 1).expect_err(text);
            assert!(fault.message.contains(message), "{text}: {fault:?}");
            assert_eq!(fault.line, line, "{text}: {fault:?}");
        }
    }
}
