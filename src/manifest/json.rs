//! JSON manifests to the same tree, with lines: tabs, escapes and surrogates are JSON's, which YAML's differ from.

use std::collections::HashMap;

use serde_json::Number;

use super::tree::{Entry, Node, Value, quote};
use super::yaml::{Budget, DEPTH, Fault, duplicate, fault};

/// Reads the objects of `text` (one, or several one after the other), whose first line is `line` of its file.
pub fn read(text: &str, line: u32, budget: &mut Budget) -> Result<Vec<Node>, Fault> {
    let mut reader = Reader { text, at: 0, line, budget: budget.document() };
    let mut nodes = Vec::new();
    loop {
        reader.blanks();
        if reader.at >= text.len() {
            return Ok(nodes);
        }
        nodes.push(reader.node(1)?);
    }
}

struct Reader<'t, 'b> {
    text: &'t str,
    /// A byte offset, always at a character's start.
    at: usize,
    line: u32,
    budget: &'b mut Budget,
}

impl Reader<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            self.line += u32::from(byte == b'\n');
            self.at += 1;
        }
    }

    fn fault(&self, wanted: &str) -> Fault {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = match rest.chars().next() {
            None => "the end of the file".into(),
            Some(_) => quote(&rest.chars().take_while(|c| *c != '\n').take(20).collect::<String>()),
        };
        fault(self.line, &format!("not JSON: {wanted} is wanted, found {found}"))
    }

    fn node(&mut self, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH {
            return Err(fault(self.line, &format!("nested deeper than {DEPTH}")));
        }
        self.budget.spend(1, 0, self.line)?;
        let line = self.line;
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            _ => self.word()?,
        };
        let raw = matches!(value, Value::Bool(_) | Value::Number(_))
            .then(|| self.text.get(start..self.at).unwrap_or_default().into());
        Ok(Node { line, value, raw })
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        let mut seen: HashMap<String, u32> = HashMap::new();
        self.at += 1;
        loop {
            self.blanks();
            match self.peek() {
                Some(b'}') if entries.is_empty() => break,
                Some(b'"') => {}
                _ => return Err(self.fault("a key in double quotes")),
            }
            let line = self.line;
            self.budget.spend(1, 0, line)?;
            let key = self.string()?;
            if let Some(first) = seen.insert(key.clone(), line) {
                return Err(duplicate(&key, first, line));
            }
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.fault("a colon"));
            }
            self.at += 1;
            self.blanks();
            let node = self.node(depth + 1)?;
            entries.push(Entry { key, line, node });
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.fault("a comma or }")),
            }
        }
        self.at += 1;
        Ok(Value::Map(entries))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.blanks();
            if self.peek() == Some(b']') && items.is_empty() {
                break;
            }
            items.push(self.node(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.fault("a comma or ]")),
            }
        }
        self.at += 1;
        Ok(Value::List(items))
    }

    /// Finds the closing quote; serde_json judges what is between.
    fn string(&mut self) -> Result<String, Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut escaped = false;
        let end = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        });
        let literal = end
            .and_then(|(end, _)| rest.get(..=end))
            .ok_or_else(|| fault(self.line, "not JSON: a text without its closing quote"))?;
        self.budget.spend(0, literal.len(), self.line)?;
        let text = serde_json::from_str(literal).map_err(|error| {
            fault(self.line, &format!("not JSON: {} is no text: {error}", quote(literal)))
        })?;
        self.at += literal.len();
        Ok(text)
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
            .unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default();
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::Number(number(word).ok_or_else(|| self.fault("a value"))?),
        };
        self.at += end;
        Ok(value)
    }
}

/// Whole floats are integers, as in YAML.
fn number(word: &str) -> Option<Number> {
    let number: Number = serde_json::from_str(word).ok()?;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9.0e15 => {
            Some(Number::from(float as i64))
        }
        _ => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tree::Path;

    #[test]
    fn json_reads_with_its_own_rules_and_lines() {
        let text = "{\n\t\"a\": \"\\ud83d\\ude00\\t\\/\",\n\t\"b\": [1, 2.5, 1e3, -0, true, null],\n\t\"yes\": {}\n}\n{\"c\": []}";
        let nodes = read(text, 1, &mut Budget::default()).unwrap();
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].get("a").and_then(Node::text), Some("😀\t/"));
        assert_eq!(nodes[0].line_of(&Path::of("b").item(2)), 3);
        assert_eq!(nodes[0].line_of(&Path::of("yes")), 4);
        assert_eq!(nodes[1].line_of(&Path::of("c")), 6);
        let Some(Value::List(items)) = nodes[0].get("b").map(|node| &node.value) else { panic!() };
        assert_eq!(items[2].value, Value::Number(1000.into()));
        assert_eq!(items[1].brief(), "2.5");
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_line() {
        let deep = "[".repeat(200);
        let table: [(&str, u32, &str); 13] = [
            ("{\"a\": 1,\n\"a\": 2}", 2, "given twice, first on line 1"),
            ("{\"a\": 1,}", 1, "a key in double quotes"),
            ("{a: 1}", 1, "a key in double quotes is wanted, found \"a: 1}\""),
            ("{\"a\" 1}", 1, "a colon"),
            ("{\"a\": 1\n", 2, "a comma or } is wanted, found the end of the file"),
            ("{\"a\": [1,]}", 1, "a value"),
            ("{\"a\": [1 2]}", 1, "a comma or ]"),
            ("{\"a\": yes}", 1, "a value"),
            ("{\"a\": 01}", 1, "a value"),
            ("{\"a\": \"x}", 1, "closing quote"),
            ("{\"a\": \"\\ud83d\"}", 1, "is no text"),
            ("{\"a\": \"x\ny\"}", 1, "is no text"),
            (&deep, 1, "nested deeper"),
        ];
        for (text, line, message) in table {
            let fault = read(text, 1, &mut Budget::default()).expect_err(text);
            assert!(fault.message.contains(message), "{text}: {fault:?}");
            assert_eq!(fault.line, line, "{text}: {fault:?}");
        }
    }
}
