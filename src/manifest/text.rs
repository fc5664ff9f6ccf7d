//! A file's bytes to its documents: each is read by itself, so that a bad one spoils no other.

use super::tree::Node;
use super::yaml::{Budget, Fault};
use super::{json, yaml};
use crate::pod::fetch::LARGEST;

/// How many documents a file may have: beyond any use, and short of keeping PID 1 busy for seconds.
const MOST: usize = 1000;

/// One document: its tree, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The bare name of the pod, where the text of an unreadable document betrays it.
    pub hint: Option<String>,
    pub read: Result<Node, Fault>,
}

/// The documents that are not empty. Err: the file as a whole cannot be read.
pub fn documents(bytes: &[u8]) -> Result<Vec<Piece>, Fault> {
    if bytes.len() > LARGEST {
        let message = format!("larger than {LARGEST} bytes: a manifest may not be");
        return Err(Fault { line: 0, message });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = line_at(bytes, error.valid_up_to());
        Fault { line, message: "not UTF-8: save the file as UTF-8".into() }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((at, odd)) =
        text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}'))
    {
        let message = format!(
            "control character U+{:04X}: remove it, or write it escaped in double quotes",
            odd as u32
        );
        return Err(Fault { line: line_at(text.as_bytes(), at), message });
    }
    let parts = split(text);
    if let Some((line, _)) = parts.get(MOST) {
        let message = format!("more than {MOST} documents: write several files");
        return Err(Fault { line: *line, message });
    }
    let mut budget = Budget::default();
    Ok(parts.into_iter().flat_map(|(line, part)| piece(part, line, &mut budget)).collect())
}

fn piece(text: &str, line: u32, budget: &mut Budget) -> Vec<Piece> {
    let whole = |node| Piece { hint: None, read: Ok(node) };
    if text.trim_start().starts_with('{') {
        return match json::read(text, line, budget) {
            Ok(nodes) => nodes.into_iter().map(whole).collect(),
            Err(fault) => match yaml::document(text, line, budget) {
                // A flow mapping of YAML also begins with a brace.
                Ok(Some(node)) => vec![whole(node)],
                _ => vec![Piece { hint: None, read: Err(fault) }],
            },
        };
    }
    match yaml::document(text, line, budget) {
        Ok(None) => Vec::new(),
        Ok(Some(node)) => vec![whole(node)],
        Err(mut fault) => {
            // What is missed at the end of the text is missed on its last line.
            let last =
                text.trim_end_matches(['\n', '\r']).bytes().filter(|byte| *byte == b'\n').count() as u32;
            fault.line = fault.line.min(line.saturating_add(last));
            if indented_by_tab(text, fault.line.saturating_sub(line)) {
                fault.message += "; the line is indented by a tab: use spaces";
            }
            vec![Piece { hint: hint(text), read: Err(fault) }]
        }
    }
}

/// Parts the text at lines of three dashes or dots: (first line, text). A directive stays with its document.
fn split(text: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut first, mut at, mut line) = (0, 1, 0, 0);
    for whole in text.split_inclusive('\n') {
        line += 1;
        let (begin, end) = (marks(whole, "---"), marks(whole, "..."));
        let sofar = text.get(start..at).unwrap_or_default();
        if (begin && !only_directives(sofar)) || end {
            parts.push((first, sofar));
            (start, first) = (at, line);
        }
        at += whole.len();
        let bare = whole.trim_end() == "---" && text.get(start..at).is_some_and(|part| part.trim() == "---");
        if bare || end {
            (start, first) = (at, line + 1);
        }
    }
    parts.push((first, text.get(start..).unwrap_or_default()));
    parts.retain(|(_, part)| !part.trim().is_empty());
    parts
}

fn marks(line: &str, mark: &str) -> bool {
    line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

/// Comments, blank lines and at least one `%` directive: the head of a document yet to come.
fn only_directives(text: &str) -> bool {
    text.lines().any(|line| line.starts_with('%'))
        && text.lines().all(|line| line.trim().is_empty() || line.starts_with(['%', '#']))
}

/// The pod's bare name in a text that does not parse: the first `name:` under a `metadata:` at the margin.
fn hint(text: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| line.trim_end() != "metadata:").skip(1);
    let name = lines
        .by_ref()
        .take_while(|line| line.starts_with([' ', '#']) || line.trim().is_empty())
        .find_map(|line| line.trim().strip_prefix("name:"))?;
    let name = name.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

fn indented_by_tab(text: &str, index: u32) -> bool {
    text.lines()
        .nth(index as usize)
        .is_some_and(|line| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'))
}

fn line_at(bytes: &[u8], offset: usize) -> u32 {
    let before = bytes.get(..offset).unwrap_or(bytes);
    1 + before.iter().filter(|byte| **byte == b'\n').count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Result<u32, u32>> {
        let pieces = documents(text.as_bytes()).unwrap();
        pieces
            .iter()
            .map(|piece| piece.read.as_ref().map(|node| node.line).map_err(|fault| fault.line))
            .collect()
    }

    #[test]
    fn documents_are_parted_and_a_bad_one_spoils_no_other() {
        let table: [(&str, &[Result<u32, u32>]); 16] = [
            ("", &[]),
            ("# only\n\n# comments\n", &[]),
            ("a: 1", &[Ok(1)]),
            ("---\na: 1\n", &[Ok(2)]),
            ("a: 1\n---\nb: 2\n---\n", &[Ok(1), Ok(3)]),
            ("---\n---\n# x\n---\na: 1\n...\n", &[Ok(5)]),
            ("a: [\n---\nb: 2\n", &[Err(1), Ok(3)]),
            ("a: 1\n---\nb: 'x\n---\nc: 3", &[Ok(1), Err(3), Ok(5)]),
            ("--- {a: 1}\n--- # c\nb: 2\n", &[Ok(1), Ok(3)]),
            ("%YAML 1.1\n# c\n---\na: 1\n...\n%YAML 1.1\n---\nb: 2", &[Ok(4), Ok(8)]),
            ("a: |\n  text\n  ---\n  more\n", &[Ok(1)]),
            ("{\"a\": 1}\n", &[Ok(1)]),
            ("{\"a\":\n 1}\n{\"b\": 1}\n---\n{\"c\": 1}", &[Ok(1), Ok(3), Ok(5)]),
            ("{a: 1}", &[Ok(1)]),
            ("\u{feff}a: 1\r\n---\r\nb: 1\r\n", &[Ok(1), Ok(3)]),
            ("---a: 1\n----: x\n", &[Ok(1)]),
        ];
        for (text, expected) in table {
            assert_eq!(lines(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_is_refused_with_its_line() {
        let refused = |bytes: &[u8]| documents(bytes).expect_err("accepted");
        assert_eq!(refused(b"a: 1\nb: \xff").line, 2);
        assert_eq!(refused(b"a: 1\n\nb: \0").line, 3);
        assert!(refused(b"a: \x1b[1m").message.contains("U+001B"));
        assert_eq!(refused("---\na: 1\n".repeat(1001).as_bytes()).line, 2002);
        assert!(documents("---\na: 1\n".repeat(1000).as_bytes()).is_ok());
        assert!(refused(&vec![b' '; LARGEST + 1]).message.contains("larger than"));
    }

    #[test]
    fn an_unreadable_document_betrays_its_name() {
        let hint = |text: &str| documents(text.as_bytes()).unwrap()[0].hint.clone();
        assert_eq!(hint("metadata:\n  labels: {}\n  name: web # x\nspec: [\n"), Some("web".into()));
        assert_eq!(hint("metadata:\n  name: \"web\"\nspec: [\n"), Some("web".into()));
        assert_eq!(hint("metadata:\nspec:\n  name: x\n  a: [\n"), None);
    }
}
