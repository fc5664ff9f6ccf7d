//! Damaged layers and configurations: put aside, and replaced from another store that has them whole.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::Store;
use super::store::{at, sync_dir};
use super::stream::{self, Hashed};

impl Store {
    /// Reads all that a name stands for, as `verify` does. What is damaged is put aside under `damaged/`, and replaced
    /// from `source` where that has it whole; `source` is only read. Tells what was done, a line each; the second is
    /// whether the image is whole now. A file put aside goes with `prune`, once there is a whole one in its place.
    pub fn repair(&self, reference: &str, source: Option<&Store>) -> Result<(Vec<String>, bool), String> {
        let writing = self.write()?;
        let (config, layers) = self.names_of(reference)?;
        let (mut told, mut whole) = (Vec::new(), true);
        if let Err(why) = self.raw_config(&config) {
            let found = source.and_then(|source| fs::read(source.config_path(&config)).ok());
            let found = found.filter(|bytes| stream::digest(bytes) == config);
            set_aside(self, &self.config_path(&config))?;
            whole &= found.is_some();
            match found {
                Some(bytes) => writing.add_config(&config, &bytes)?,
                None => lose(&self.config_path(&config))?,
            }
            told.push(outcome(&why, whole));
        }
        for diff_id in &layers {
            let Err(why) = self.verify_layer(diff_id) else { continue };
            let path = self.layer(diff_id);
            let found = source.filter(|source| source.verify_layer(diff_id).is_ok());
            set_aside(self, &path)?;
            match found {
                // By rename over the damaged one, so that there is a file at every moment.
                Some(source) => writing.copy_layer(diff_id, source)?,
                None => lose(&path)?,
            }
            whole &= found.is_some();
            told.push(outcome(&why, found.is_some()));
        }
        Ok((told, whole))
    }
}

fn outcome(why: &str, replaced: bool) -> String {
    let what = if replaced { "replaced" } else { "put aside: import or pull the image again" };
    format!("{why}: {what}")
}

/// A second name for the damaged file, if it is there.
fn set_aside(store: &Store, path: &Path) -> Result<(), String> {
    let aside = store.aside(path);
    let _ = fs::remove_file(&aside);
    match fs::hard_link(path, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        _ => aside.parent().map_or(Ok(()), sync_dir),
    }
}

fn lose(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        _ => path.parent().map_or(Ok(()), sync_dir),
    }
}

/// Copies a file and syncs it; tells the digest of what was written, as it is read back.
pub fn copy(from: &Path, to: &Path) -> Result<String, String> {
    fs::copy(from, to).map_err(|error| at(from, error))?;
    let file = File::open(to).and_then(|file| file.sync_all().map(|()| file));
    file.and_then(|file| Hashed::new(file).finish()).map_err(|error| at(to, error))
}

/// Whether a file that was put aside is needed no more: it has a successor, or nobody names it.
pub fn is_done(store: &Store, aside: &Path, named: bool) -> bool {
    let name = aside.file_name().unwrap_or_default();
    !named || ["layers", "configs"].iter().any(|dir| store.below(dir).join(name).exists())
}
