//! Archives that lie in directories (a board's boot partition, a stick that was copied), imported when podinit begins.
//!
//! Beside the store's tags, `imported/<path>.json` tells which archives were imported, as they were then, and the names
//! that came of them: an archive that is as it was and whose images are there is not read again. One that was changed
//! is, and its images take the names.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::platform::Platform;
use super::store::{at, escape};
use super::{Store, archive};

/// What an archive's name may end with; directories are OCI layouts.
const ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];
const NOTES: &str = "imported";

/// What became of an archive, in words: imported, or why not.
pub type Told = Result<String, String>;

/// An archive as it was when it was imported, and the full names that it gave.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    archive: PathBuf,
    size: u64,
    /// Seconds since 1970; on a FAT file system every second one.
    modified: i64,
    images: Vec<String>,
}

/// The archives in these directories, in the order of the directories and of their names. What is no archive by its name
/// is left alone, and so is a directory that is not there.
pub fn archives(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| is_archive(path)).collect();
        paths.sort();
        found.extend(paths);
    }
    found
}

fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    // What other systems leave beside their files (`._x.tar`) begins with a dot.
    let named = !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending));
    named && path.is_file() || path.join("index.json").is_file()
}

/// Imports an archive if it is not in the store as it is. The names of its images; None: it is in the store.
pub fn import(store: &Store, path: &Path, platform: &Platform) -> Result<Option<Vec<String>>, String> {
    let about = stamp(path).map_err(|error| at(path, error))?;
    let name = format!("{}.json", escape(&path.to_string_lossy()));
    let note = read(&store.below(NOTES).join(&name));
    if let Some(note) = note
        && note.archive == path
        && (note.size, note.modified) == about
        && note.images.iter().all(|image| matches!(store.find(image), Ok(Some(_))))
    {
        return Ok(None);
    }
    let images = archive::import(store, path, None, platform)?;
    let note = Note { archive: path.to_owned(), size: about.0, modified: about.1, images: images.clone() };
    let text = serde_json::to_vec_pretty(&note).map_err(|error| error.to_string())?;
    store.note(NOTES, &name, &text)?;
    Ok(Some(images))
}

/// The names of all images that came from archives which are still there: they would come back.
pub fn pinned(store: &Store) -> Vec<String> {
    let notes = fs::read_dir(store.below(NOTES)).into_iter().flatten().flatten();
    let notes = notes.filter_map(|entry| read(&entry.path())).filter(|note| note.archive.exists());
    notes.flat_map(|note| note.images).collect()
}

/// Size and time by which a changed archive is known; of an OCI layout those of its index.
fn stamp(path: &Path) -> io::Result<(u64, i64)> {
    let index = path.join("index.json");
    let about = fs::metadata(if path.is_dir() { &index } else { path })?;
    Ok((about.len(), about.mtime()))
}

/// What cannot be read counts as not noted: the archive is imported once more.
fn read(path: &Path) -> Option<Note> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
