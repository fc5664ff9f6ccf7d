//! A manifest as read: values with their lines, and paths to name them by.

use std::fmt;

use serde_json::Number;

/// One value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// From 1.
    pub line: u32,
    pub value: Value,
    /// How an unquoted scalar other than text was written: `0644`, `yes`.
    pub raw: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    /// The key's own line.
    pub line: u32,
    pub node: Node,
}

impl Node {
    /// The value of a map's key, None where it is null or absent.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node).filter(|node| node.value != Value::Null)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What the path names.
    pub fn find(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(self, |node, step| match (step, &node.value) {
            (Step::Key(key), _) => node.entry(key).map(|entry| &entry.node),
            (Step::Item(index), Value::List(items)) => items.get(*index),
            (Step::Item(_), _) => None,
        })
    }

    /// The line of what the path names; of its nearest parent where it does not exist.
    pub fn line_of(&self, path: &Path) -> u32 {
        let (mut node, mut line) = (self, self.line);
        for step in &path.0 {
            let next = match (step, &node.value) {
                (Step::Key(key), _) => node.entry(key).map(|entry| (&entry.node, entry.line)),
                (Step::Item(index), Value::List(items)) => items.get(*index).map(|item| (item, item.line)),
                (Step::Item(_), _) => None,
            };
            let Some(next) = next else { break };
            (node, line) = next;
        }
        line
    }

    /// How much it is: one for each value, itself among them, and one for every 32 bytes of a text. Recursion is bounded
    /// by the readers' depth.
    pub fn weight(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Node::weight).sum::<usize>(),
            Value::Map(entries) => {
                1 + entries.iter().map(|entry| entry.key.len() / 32 + entry.node.weight()).sum::<usize>()
            }
            Value::Text(text) => 1 + text.len() / 32,
            Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        }
    }

    /// The value in a few characters, as a message shows it.
    pub fn brief(&self) -> String {
        match (&self.value, &self.raw) {
            (Value::Text(text), _) => quote(text),
            (Value::Null, _) => "nothing (null)".into(),
            (_, Some(raw)) => raw.chars().take(60).collect(),
            (Value::Bool(flag), None) => flag.to_string(),
            (Value::Number(number), None) => number.to_string(),
            (Value::List(_), None) => "a list".into(),
            (Value::Map(_), None) => "a map".into(),
        }
    }
}

/// Text in quotes, control characters escaped, long text cut.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(60) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}...", text.get(..cut).unwrap_or_default()),
    }
}

/// The way from a document's top to a value: `spec.containers[0].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Key(String),
    Item(usize),
}

impl Path {
    /// A path of plain keys: `spec.restartPolicy`; the empty text is the document.
    pub fn of(keys: &str) -> Path {
        Path(keys.split('.').filter(|key| !key.is_empty()).map(|key| Step::Key(key.into())).collect())
    }

    /// Further down by plain keys.
    pub fn key(&self, keys: &str) -> Path {
        let mut path = self.clone();
        path.0.extend(Path::of(keys).0);
        path
    }

    /// Further down by one key, which may hold dots.
    pub fn entry(&self, key: &str) -> Path {
        let mut path = self.clone();
        path.0.push(Step::Key(key.into()));
        path
    }

    pub fn item(&self, index: usize) -> Path {
        let mut path = self.clone();
        path.0.push(Step::Item(index));
        path
    }

    /// Whether this is the other path or a part of what it names.
    pub fn within(&self, other: &Path) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(item) => write!(out, "[{item}]")?,
                Step::Key(key) if plain(key) => {
                    write!(out, "{}{key}", if index > 0 { "." } else { "" })?;
                }
                Step::Key(key) => write!(out, "['{}']", key.escape_debug())?,
            }
        }
        Ok(())
    }
}

fn plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_kubernetes_writes_it() {
        let path = Path::of("spec.containers").item(0).key("env").item(2).key("value");
        assert_eq!(path.to_string(), "spec.containers[0].env[2].value");
        assert_eq!(Path::of("metadata.labels").entry("a.b/c").to_string(), "metadata.labels['a.b/c']");
        assert_eq!(Path::of("").to_string(), "");
        assert!(path.within(&Path::of("spec.containers").item(0)));
        assert!(!path.within(&Path::of("spec.containers").item(1)));
    }
}
