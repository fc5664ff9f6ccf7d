//! A store as its files show it, on a board or in a mounted disk, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::book::{Book, State};

#[derive(Debug, Deserialize)]
pub struct Tag {
    reference: String,
    manifest: String,
    config: String,
    layers: Vec<String>,
}

#[derive(Debug)]
pub struct Shown {
    tags: Vec<Tag>,
    /// As `layers/<hex>.erofs`.
    pub files: BTreeSet<String>,
}

impl Shown {
    /// `tags`: the tag files' texts, one after the other; `files`: a path a line.
    pub fn parse(tags: &str, files: &str) -> Result<Shown, String> {
        let tags = serde_json::Deserializer::from_str(tags).into_iter().collect::<Result<_, _>>();
        let files = files.lines().map(|line| line.trim().trim_start_matches("./").to_owned());
        Ok(Shown {
            tags: tags.map_err(|why| format!("a tag cannot be read: {why}"))?,
            files: files.filter(|line| !line.is_empty()).collect(),
        })
    }

    /// A store's directory.
    pub fn read(store: &Path) -> Result<Shown, String> {
        let (mut tags, mut files) = (String::new(), String::new());
        for dir in ["tags", "layers", "configs", "tmp", "damaged"] {
            let path = store.join(dir);
            for entry in fs::read_dir(&path).map_err(|why| format!("{}: {why}", path.display()))? {
                let entry = entry.map_err(|why| format!("{}: {why}", path.display()))?;
                if dir == "tags" {
                    tags += &fs::read_to_string(entry.path()).map_err(|why| format!("{entry:?}: {why}"))?;
                } else {
                    files += &format!("{dir}/{}\n", entry.file_name().to_string_lossy());
                }
            }
        }
        Shown::parse(&tags, &files)
    }

    pub fn states(&self) -> BTreeMap<String, State> {
        self.tags.iter().map(|tag| (tag.reference.clone(), Some(tag.manifest.clone()))).collect()
    }

    /// The files that names lead to.
    fn named(&self) -> BTreeSet<String> {
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        let layer = |id: &String| ["erofs", "sha256"].map(|end| format!("layers/{}.{end}", hex(id)));
        let of = |tag: &Tag| {
            let config = format!("configs/{}.json", hex(&tag.config));
            tag.layers.iter().flat_map(layer).chain([config]).collect::<Vec<_>>()
        };
        self.tags.iter().flat_map(of).collect()
    }

    /// What no name leads to.
    pub fn unnamed(&self) -> Vec<&String> {
        let named = self.named();
        self.files.iter().filter(|file| !named.contains(*file)).collect()
    }

    /// What no power cut at this moment may leave.
    pub fn judge(&self, book: &Book, at: u64) -> Result<(), String> {
        if let Some(missing) = self.named().iter().find(|file| !self.files.contains(*file)) {
            return Err(format!("{missing} is missing, and an image names it"));
        }
        let there = self.states();
        for name in book.names().iter().chain(there.keys()) {
            let (state, allowed) = (there.get(name).cloned().flatten(), book.allowed(name, at));
            if !allowed.contains(&state) {
                return Err(format!("{name} is {state:?}, and of these it may be: {allowed:?}"));
            }
        }
        match self.unnamed().first() {
            Some(left) if book.swept(at) => Err(format!("{left} is left, and was swept away")),
            _ => Ok(()),
        }
    }
}
