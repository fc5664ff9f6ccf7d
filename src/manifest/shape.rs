//! The tree to Kubernetes' own types: every wrong type and unknown field is found, with its line, in one pass.
//!
//! A serde `Deserializer` of our own, for what a generic one cannot do: go on after a wrong type (with an empty value
//! in its place), and know a struct's field names, so that a typo is told from a field of Kubernetes.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::report::Report;
use super::tree::{Entry, Node, Path, Step, Value, quote};
use crate::spelling::nearest;

/// Reads the document as a `T`. None: a value was refused by its type beyond repair, which the report tells.
/// The second part names the fields that Kubernetes does not know.
pub fn shape<'n, T: de::DeserializeOwned>(report: &mut Report<'n>) -> (Option<T>, HashSet<Path>) {
    let root = report.root();
    let findings = RefCell::new(Findings { report, unknown: HashSet::new() });
    let read =
        T::deserialize(Shape { node: root, trail: Trail { up: None, step: None }, findings: &findings });
    let findings = findings.into_inner();
    if let Err(stop) = &read
        && !findings.report.refused()
    {
        findings.report.refuse(&Path::default(), stop.0.clone());
    }
    (read.ok(), findings.unknown)
}

struct Findings<'r, 'n> {
    report: &'r mut Report<'n>,
    unknown: HashSet<Path>,
}

/// The way here, kept on the stack; a `Path` is only made when there is something to tell.
#[derive(Clone, Copy)]
struct Trail<'a> {
    up: Option<&'a Trail<'a>>,
    step: Option<StepRef<'a>>,
}

#[derive(Clone, Copy)]
enum StepRef<'a> {
    Key(&'a str),
    Item(usize),
}

impl Trail<'_> {
    fn path(&self) -> Path {
        let mut path = self.up.map(Trail::path).unwrap_or_default();
        match self.step {
            Some(StepRef::Key(key)) => path.0.push(Step::Key(key.into())),
            Some(StepRef::Item(index)) => path.0.push(Step::Item(index)),
            None => {}
        }
        path
    }
}

#[derive(Clone, Copy)]
struct Shape<'a, 'r, 'n> {
    node: &'a Node,
    trail: Trail<'a>,
    findings: &'a RefCell<Findings<'r, 'n>>,
}

/// Why a type's own visitor refused a value.
#[derive(Debug)]
struct Stop(String);

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Stop(message.to_string())
    }
}

impl Shape<'_, '_, '_> {
    fn refuse(&self, message: String) {
        self.findings.borrow_mut().report.refuse(&self.trail.path(), message);
    }

    fn wrong(&self, wanted: Wanted) {
        self.refuse(mismatch(self.node, wanted));
    }

    /// A visitor's own refusal is told where it happened; further up it is already known.
    fn told<T>(&self, read: Result<T, Stop>) -> Result<T, Stop> {
        if let Err(stop) = &read {
            let path = self.trail.path();
            let mut findings = self.findings.borrow_mut();
            if !findings.report.refused_within(&path) {
                findings.report.refuse(&path, format!("{} cannot be used here: {stop}", self.node.brief()));
            }
        }
        read
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Text,
    Bool,
    Whole,
    Number,
    List,
    Map,
}

/// What is wrong with the value's type, and what would do.
fn mismatch(node: &Node, wanted: Wanted) -> String {
    let brief = node.brief();
    let kind = match wanted {
        Wanted::Text => "text",
        Wanted::Bool => "true or false",
        Wanted::Whole => "a whole number",
        Wanted::Number => "a number",
        Wanted::List => "a list",
        Wanted::Map => "a map",
    };
    let cure = match (&node.value, wanted) {
        (Value::Number(_), Wanted::Text) => {
            return format!("{brief} is a number, text is wanted: quote it (\"{brief}\")");
        }
        (Value::Bool(flag), Wanted::Text) => {
            return format!(
                "{brief} is read as the truth value {flag}, text is wanted: quote it (\"{brief}\")"
            );
        }
        (Value::Null, Wanted::Text) => "write \"\" for an empty text",
        (Value::Number(_), Wanted::Whole) => "write it without a fraction, and not that large",
        (Value::Text(text), Wanted::Whole | Wanted::Number) if super::scalar::number(text).is_some() => {
            "remove the quotes"
        }
        (Value::Text(text), Wanted::Bool) if matches!(super::scalar::resolve(text), Ok(Value::Bool(_))) => {
            "remove the quotes"
        }
        (Value::Map(_), Wanted::List) => "begin each of its entries with a dash",
        (Value::List(_), Wanted::Map) => "remove the dash",
        (Value::Text(_) | Value::Number(_) | Value::Bool(_), Wanted::List) => {
            "write it as \"- ...\" or [...]"
        }
        (_, Wanted::Map) => "write it as \"name: value\" lines",
        _ => "change it",
    };
    format!("{brief} is not {kind}: {cure}")
}

macro_rules! whole {
    ($($method:ident $visit:ident $kind:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
            let number = match &self.node.value {
                Value::Number(number) => number.as_i64().and_then(|number| <$kind>::try_from(number).ok()),
                _ => None,
            };
            if number.is_none() {
                self.wrong(Wanted::Whole);
            }
            self.told(visitor.$visit(number.unwrap_or_default()))
        }
    )*};
}

impl<'de> Deserializer<'de> for Shape<'_, '_, '_> {
    type Error = Stop;

    whole! { deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
    deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64 }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let read = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => visitor.visit_i64(number),
                (None, Some(number)) => visitor.visit_u64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items { shape: self, items, index: 0 }),
            Value::Map(entries) => {
                visitor.visit_map(Entries { shape: self, entries, fields: None, value: None })
            }
        };
        self.told(read)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Value::Bool(flag) = self.node.value else {
            self.wrong(Wanted::Bool);
            return visitor.visit_bool(false);
        };
        self.told(visitor.visit_bool(flag))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let Value::Number(number) = &self.node.value else {
            self.wrong(Wanted::Number);
            return visitor.visit_f64(0.0);
        };
        self.told(visitor.visit_f64(number.as_f64().unwrap_or_default()))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let text = match &self.node.value {
            Value::Text(text) => text,
            // An empty value of a label or annotation is an empty text, as it is for Kubernetes.
            Value::Null if matches!(self.trail.step, Some(StepRef::Key(_))) => "",
            _ => {
                self.wrong(Wanted::Text);
                ""
            }
        };
        self.told(visitor.visit_str(text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let read = visitor.visit_newtype_struct(self);
        self.told(read)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let items = match &self.node.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            _ => {
                self.wrong(Wanted::List);
                &[]
            }
        };
        visitor.visit_seq(Items { shape: self, items, index: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let entries = self.entries();
        visitor.visit_map(Entries { shape: self, entries, fields: None, value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let entries = self.entries();
        visitor.visit_map(Entries { shape: self, entries, fields: Some(fields), value: None })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum
    }
}

impl<'a> Shape<'a, '_, '_> {
    fn entries(&self) -> &'a [Entry] {
        match &self.node.value {
            Value::Map(entries) => entries,
            // A map that must be there may be empty for Kubernetes; an item of a list may not.
            Value::Null if matches!(self.trail.step, Some(StepRef::Key(_))) => &[],
            _ => {
                self.wrong(Wanted::Map);
                &[]
            }
        }
    }
}

struct Items<'a, 'r, 'n> {
    shape: Shape<'a, 'r, 'n>,
    items: &'a [Node],
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_, '_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        let Some(node) = self.items.get(self.index) else { return Ok(None) };
        let trail = Trail { up: Some(&self.shape.trail), step: Some(StepRef::Item(self.index)) };
        self.index += 1;
        seed.deserialize(Shape { node, trail, findings: self.shape.findings }).map(Some)
    }
}

struct Entries<'a, 'r, 'n> {
    shape: Shape<'a, 'r, 'n>,
    entries: &'a [Entry],
    /// A struct's fields; None: any key will do.
    fields: Option<&'static [&'static str]>,
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_, '_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            if let Some(fields) = self.fields
                && !fields.contains(&entry.key.as_str())
            {
                self.unknown(entry, fields);
                continue;
            }
            self.value = Some(entry);
            return seed.deserialize(entry.key.as_str().into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        let Some(entry) = self.value.take() else {
            return Err(Stop("a value was asked for before its key".into()));
        };
        let trail = Trail { up: Some(&self.shape.trail), step: Some(StepRef::Key(&entry.key)) };
        seed.deserialize(Shape { node: &entry.node, trail, findings: self.shape.findings })
    }
}

impl Entries<'_, '_, '_> {
    fn unknown(&self, entry: &Entry, fields: &[&str]) {
        let path = self.shape.trail.path().entry(&entry.key);
        if self.shape.findings.borrow().report.full() {
            self.shape.findings.borrow_mut().unknown.insert(path);
            return;
        }
        let cure = match nearest(&entry.key, fields) {
            Some(field) => format!("did you mean {field}?"),
            None => "it has no effect".into(),
        };
        let message = format!("Kubernetes knows no field {} here: {cure}", quote(&entry.key));
        let mut findings = self.shape.findings.borrow_mut();
        findings.report.warn(&path, message);
        findings.unknown.insert(path);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::manifest::yaml;

    fn problems(text: &str) -> Vec<String> {
        let node = yaml::read(text, 1).unwrap().unwrap();
        let mut report = Report::new("f", &node, 0);
        let _: (Option<Pod>, _) = shape(&mut report);
        report.into_problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_wrong_type_is_told_with_what_would_do() {
        let table = [
            (
                "spec:\n containers:\n - env:\n   - value: 8080",
                "f:4: spec.containers[0].env[0].value: 8080 is a number, text is wanted: quote it (\"8080\")",
            ),
            (
                "spec:\n containers:\n - env:\n   - value: yes",
                "f:4: spec.containers[0].env[0].value: yes is read as the truth value true, text is wanted: quote it (\"yes\")",
            ),
            (
                "spec:\n containers:\n - args: [~]",
                "f:3: spec.containers[0].args[0]: nothing (null) is not text: write \"\" for an empty text",
            ),
            (
                "spec:\n hostNetwork: 'true'",
                "f:2: spec.hostNetwork: \"true\" is not true or false: remove the quotes",
            ),
            ("spec:\n hostNetwork: 1", "f:2: spec.hostNetwork: 1 is not true or false: change it"),
            (
                "spec:\n terminationGracePeriodSeconds: '5'",
                "f:2: spec.terminationGracePeriodSeconds: \"5\" is not a whole number: remove the quotes",
            ),
            (
                "spec:\n terminationGracePeriodSeconds: 5s",
                "f:2: spec.terminationGracePeriodSeconds: \"5s\" is not a whole number: change it",
            ),
            (
                "spec:\n terminationGracePeriodSeconds: 1.5",
                "f:2: spec.terminationGracePeriodSeconds: 1.5 is not a whole number: write it without a fraction, and not that large",
            ),
            (
                "spec:\n priority: 3000000000",
                "f:2: spec.priority: 3000000000 is not a whole number: write it without a fraction, and not that large",
            ),
            (
                "spec:\n containers:\n  name: a",
                "f:2: spec.containers: a map is not a list: begin each of its entries with a dash",
            ),
            ("spec:\n - containers: []", "f:1: spec: a list is not a map: remove the dash"),
            (
                "spec:\n containers:\n -\n - name: a",
                "f:3: spec.containers[0]: nothing (null) is not a map: write it as \"name: value\" lines",
            ),
            (
                "spec:\n containers:\n - command: sh -c x",
                "f:3: spec.containers[0].command: \"sh -c x\" is not a list: write it as \"- ...\" or [...]",
            ),
            (
                "metadata:\n creationTimestamp: today",
                "f:2: metadata.creationTimestamp: \"today\" cannot be used here: ",
            ),
            (
                "spec:\n containers:\n - livenessProbe: {httpGet: {port: [1]}}",
                "f:3: spec.containers[0].livenessProbe.httpGet.port: a list cannot be used here: ",
            ),
            (
                "spec:\n containers:\n - resources: {limits: {cpu: [1]}}",
                "f:3: spec.containers[0].resources.limits.cpu: a list cannot be used here: ",
            ),
        ];
        for (text, message) in table {
            let found = problems(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].starts_with(message), "{text}: {found:?}");
        }
    }

    #[test]
    fn all_are_found_at_once_and_what_is_right_is_kept() {
        let text = "metadata:\n name: a\n labels: {a: , b: 1}\nspec:\n hostNetwork: 1\n restartPolcy: Never\n containers:\n - name: x\n   image: 5\n   resources: {limits: {cpu: 0.5, memory: 64Mi}}\n   evn: []\n   foobarbaz: 1\n";
        let node = yaml::read(text, 1).unwrap().unwrap();
        let mut report = Report::new("f", &node, 0);
        let (pod, unknown) = shape::<Pod>(&mut report);
        let found: Vec<String> = report.into_problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "f:3: metadata.labels.b: 1 is a number, text is wanted: quote it (\"1\")",
                "f:5: spec.hostNetwork: 1 is not true or false: change it",
                "f:6: spec.restartPolcy: Kubernetes knows no field \"restartPolcy\" here: did you mean restartPolicy?",
                "f:9: spec.containers[0].image: 5 is a number, text is wanted: quote it (\"5\")",
                "f:11: spec.containers[0].evn: Kubernetes knows no field \"evn\" here: did you mean env?",
                "f:12: spec.containers[0].foobarbaz: Kubernetes knows no field \"foobarbaz\" here: it has no effect",
            ]
        );
        assert_eq!(unknown.len(), 3);
        let container = &pod.unwrap().spec.unwrap().containers[0];
        assert_eq!(container.name, "x");
        assert_eq!(container.resources.as_ref().unwrap().limits.as_ref().unwrap()["cpu"].0, "0.5");
    }
}
