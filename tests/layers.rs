//! The doors: which room may use which. A `use crate::room` (or a path) that this table does not allow fails here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and what it may use beside itself. Use goes downward only; rooms on one line do not know each other.
const DOORS: &[(&str, &[&str])] = &[
    ("main", &["init", "helper", "cli", "config"]),
    (
        "init",
        &[
            "senses", "hands", "ledger", "fatal", "manifest", "pod", "machine", "net", "operator", "config",
            "clock", "console", "pages",
        ],
    ),
    ("hands", &["spawn", "pod", "container", "image", "volume", "net", "logs", "config", "clock"]),
    (
        "helper",
        &[
            "container",
            "image",
            "volume",
            "net",
            "logs",
            "operator",
            "pod",
            "config",
            "clock",
            "console",
            "pages",
        ],
    ),
    ("cli", &["spawn", "operator", "logs", "image", "pod", "config", "clock"]),
    ("operator", &["pod", "clock", "config"]),
    ("manifest", &["pod", "spelling"]),
    ("container", &["pod", "clock", "config"]),
    ("volume", &["pod", "clock", "config", "octal"]),
    ("ledger", &["pod", "clock"]),
    ("machine", &["clock", "config", "console", "octal"]),
    ("image", &["clock", "config"]),
    ("net", &["clock", "config"]),
    ("logs", &["clock", "config"]),
    ("console", &["clock", "config"]),
    ("senses", &["clock"]),
    ("pod", &["clock", "spelling"]),
    ("spawn", &["container"]),
    ("fatal", &[]),
    ("pages", &[]),
    ("config", &["clock", "spelling"]),
    ("clock", &[]),
    ("octal", &[]),
    ("spelling", &[]),
];

#[test]
fn every_import_goes_through_a_door() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for file in files(&source) {
        let room = room(&source, &file);
        if room == "lib" {
            continue;
        }
        let Some((_, doors)) = DOORS.iter().find(|(name, _)| *name == room) else {
            broken.push(format!("{room}: a room without a line in this table"));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for used in uses(&text) {
            if used != room && !doors.contains(&used.as_str()) {
                broken.push(format!("{}: {room} uses {used}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "forbidden imports:\n{}", broken.join("\n"));
}

#[test]
fn a_forbidden_import_would_be_seen() {
    let found =
        uses("use crate::{hands, pod::plan};\nfn f() { crate::image::store::x(); podinit::cli::run() }");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["cli", "hands", "image", "pod"]);
}

#[test]
fn only_one_file_names_libcontainer_and_pid_1_starts_no_thread() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files(&source) {
        let code = code(&fs::read_to_string(&file).unwrap());
        let name = file.strip_prefix(&source).unwrap().display().to_string();
        assert!(
            !code.contains("libcontainer::") || name == "container/create.rs",
            "{name} names libcontainer"
        );
        assert!(!code.contains("thread::spawn") || name.starts_with("helper/"), "{name} starts a thread");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

fn room(source: &Path, file: &Path) -> String {
    let first = file.strip_prefix(source).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The rooms that a text names after `crate::` or `podinit::`, braces resolved one level deep.
fn uses(text: &str) -> BTreeSet<String> {
    let text = code(text);
    let mut rooms = BTreeSet::new();
    for start in ["crate::", "podinit::"] {
        for (at, _) in text.match_indices(start) {
            let rest = &text[at + start.len()..];
            match rest.strip_prefix('{') {
                None => rooms.extend(word(rest)),
                Some(list) => rooms.extend(top_level(list)),
            }
        }
    }
    rooms
}

fn word(text: &str) -> Option<String> {
    let word: String =
        text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn top_level(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(word(&list[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(word(&list[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The text without its line comments.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}
