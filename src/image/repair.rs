//! Damaged layers, configurations and tags: put aside, and replaced from the first other store that has them whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::store::{Tag, Writing, at, read_tag, sync_dir};
use super::stream::{self, Hashed};
use super::{Reference, Store, damage, verity};

/// A damaged file, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong, with the file's name.
    pub why: String,
    /// It is one that containers run from.
    pub layer: bool,
    pub cure: Cure,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cure {
    /// A whole one from this store is in its place.
    Replaced(String),
    /// A tag: written anew by what is left of it and by the configuration that it names.
    Rebuilt,
    /// What is mounted is the file of this name, which was put aside before.
    Before(String),
    /// No other store has it.
    Aside,
}

impl Finding {
    pub fn whole(&self) -> bool {
        self.cure != Cure::Aside
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cure {
            Cure::Replaced(store) => write!(out, "{}: put aside, replaced from {store}", self.why),
            Cure::Rebuilt => write!(out, "{}: put aside, rebuilt", self.why),
            Cure::Before(aside) => write!(out, "{}: mounted from {aside}, which was put aside", self.why),
            Cure::Aside => write!(out, "{}: put aside, no other store has it", self.why),
        }
    }
}

impl Store {
    /// Reads all that a name stands for, as `verify` does. What is damaged is put aside under `damaged/`, and replaced
    /// from the first of `sources` that has it whole; those are only read. A file put aside goes with `prune`, once there
    /// is a whole one in its place.
    pub fn repair(&self, reference: &str, sources: &[Store]) -> Result<Vec<Finding>, String> {
        Repair::new(self, sources)?.image(reference)
    }
}

/// A repair of several images, which reads a layer that they share once.
pub struct Repair<'a> {
    /// The own one, without those behind it.
    store: Store,
    behind: Vec<Store>,
    sources: &'a [Store],
    writing: Writing,
    /// By diff id.
    layers: BTreeMap<String, Option<Finding>>,
}

impl<'a> Repair<'a> {
    /// Beside those who pull, who may take long. What lies behind the store is read too, and what is damaged there is not
    /// used any more.
    pub fn new(store: &Store, sources: &'a [Store]) -> Result<Self, String> {
        let behind = store.behind().collect();
        let store = store.own();
        let writing = store.add()?;
        Ok(Repair { store, behind, sources, writing, layers: BTreeMap::new() })
    }

    /// All damage of one image. A layer that is whole and not sealed yet is sealed.
    pub fn image(&mut self, reference: &str) -> Result<Vec<Finding>, String> {
        let name = Reference::parse(reference)?.to_string();
        let mut found = Vec::new();
        if let Some(tag) = self.tag_behind(&name) {
            for diff_id in tag.layers {
                let finding = match self.store.layer(&diff_id).exists() {
                    true => self.known(&diff_id, Self::layer)?,
                    false => self.known(&diff_id, Self::layer_behind)?,
                };
                found.extend(finding);
            }
            return Ok(found);
        }
        let Some(tag) = self.tag(&name, &mut found)? else { return Ok(found) };
        let tag = match self.near(&tag) {
            Some(config) => {
                self.rewritten(Tag { config, ..tag }, "no configuration of that digest", &mut found)?
            }
            None => tag,
        };
        found.extend(self.config(&tag.config)?);
        let tag = match self.store.diff_ids(&tag.config) {
            Ok(layers) if layers != tag.layers => {
                self.rewritten(Tag { layers, ..tag }, "other layers than its configuration has", &mut found)?
            }
            Ok(_) | Err(_) => tag,
        };
        for diff_id in &tag.layers {
            found.extend(self.known(diff_id, Self::layer)?);
        }
        Ok(found)
    }

    /// What a look at this layer finds, which is taken once.
    fn known(
        &mut self,
        diff_id: &str,
        look: fn(&Self, &str) -> Result<Option<Finding>, String>,
    ) -> Result<Option<Finding>, String> {
        if let Some(known) = self.layers.get(diff_id) {
            return Ok(known.clone());
        }
        let finding = look(self, diff_id)?;
        self.layers.insert(diff_id.to_owned(), finding.clone());
        Ok(finding)
    }

    /// What the name stands for behind the store, where the store itself has no such name.
    fn tag_behind(&self, name: &str) -> Option<Tag> {
        let own = self.store.tag_path(name);
        if own.exists() || self.store.aside_tag(&own).exists() {
            return None;
        }
        self.behind.iter().find_map(|store| read_tag(&store.tag_path(name)).ok()?)
    }

    /// A layer of those behind: which of their files are not used any more, and which are again.
    fn layer_behind(&self, diff_id: &str) -> Result<Option<Finding>, String> {
        let (mut first, mut whole) = (None, None);
        for store in self.behind.iter().filter(|store| store.layer(diff_id).exists()) {
            let path = store.layer(diff_id);
            match store.verify_layer(diff_id) {
                Ok(()) => {
                    damage::distrust(&self.store, &path, false)?;
                    whole = Some(shown(store));
                    break;
                }
                Err(why) => {
                    damage::distrust(&self.store, &path, true)?;
                    first = first.or(Some(why));
                }
            }
        }
        let cure = whole.map_or(Cure::Aside, Cure::Replaced);
        Ok(first.map(|why| Finding { why, layer: true, cure }))
    }

    /// What the name stands for; None: that is lost.
    fn tag(&self, name: &str, found: &mut Vec<Finding>) -> Result<Option<Tag>, String> {
        let path = self.store.tag_path(name);
        let why = match read_tag(&path) {
            Ok(Some(tag)) => return Ok(Some(tag)),
            Ok(None) if self.store.aside_tag(&path).exists() => {
                format!("{}: damaged: put aside before", path.display())
            }
            Ok(None) => return Err(format!("no image {name}")),
            Err(why) => why,
        };
        let text = fs::read(&path).or_else(|_| fs::read(self.store.aside_tag(&path))).unwrap_or_default();
        let there = |source: &&Store| read_tag(&source.tag_path(name)).is_ok_and(|tag| tag.is_some());
        // Another store's may be of another day: it comes second.
        let salvaged = damage::salvage(&self.store, name, &text);
        let other = self.sources.iter().find(there).filter(|_| salvaged.is_none());
        let tag = match other {
            Some(source) => read_tag(&source.tag_path(name))?,
            None => salvaged,
        };
        set_aside(&path, &self.store.aside_tag(&path))?;
        let cure = match (&tag, other) {
            (Some(tag), other) => {
                self.writing.add_tag(name, &tag.manifest, &tag.config, &tag.layers)?;
                other.map_or(Cure::Rebuilt, |source| Cure::Replaced(shown(source)))
            }
            (None, _) => {
                lose(&path)?;
                Cure::Aside
            }
        };
        found.push(Finding { why, layer: false, cure });
        Ok(tag)
    }

    /// The configuration that a tag means which names none: it has the same layers, and nearly that digest.
    fn near(&self, tag: &Tag) -> Option<String> {
        if self.store.config_path(&tag.config).exists() {
            return None;
        }
        let entries = fs::read_dir(self.store.below("configs")).into_iter().flatten().flatten();
        let stems = entries.filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()));
        let others = stems.map(|stem| format!("sha256:{stem}"));
        let differ = |other: &String| other.bytes().zip(tag.config.bytes()).filter(|(a, b)| a != b).count();
        let mut near = others.filter(|other| other.len() == tag.config.len() && differ(other) <= 2);
        near.find(|other| self.store.diff_ids(other).is_ok_and(|layers| layers == tag.layers))
    }

    /// A tag that said something else.
    fn rewritten(&self, tag: Tag, why: &str, found: &mut Vec<Finding>) -> Result<Tag, String> {
        let path = self.store.tag_path(&tag.reference);
        set_aside(&path, &self.store.aside_tag(&path))?;
        self.writing.add_tag(&tag.reference, &tag.manifest, &tag.config, &tag.layers)?;
        let why = format!("{}: damaged: {why}", path.display());
        found.push(Finding { why, layer: false, cure: Cure::Rebuilt });
        Ok(tag)
    }

    fn config(&self, digest: &str) -> Result<Option<Finding>, String> {
        let Err(why) = self.store.raw_config(digest) else { return Ok(None) };
        let path = self.store.config_path(digest);
        let whole = |source: &Store| {
            let bytes = fs::read(source.config_path(digest)).ok()?;
            (stream::digest(&bytes) == digest).then(|| (shown(source), bytes))
        };
        let other = self.sources.iter().find_map(whole);
        set_aside(&path, &self.store.aside(&path))?;
        let cure = match other {
            Some((source, bytes)) => {
                self.writing.add_config(digest, &bytes)?;
                Cure::Replaced(source)
            }
            None => {
                lose(&path)?;
                Cure::Aside
            }
        };
        Ok(Some(Finding { why, layer: false, cure }))
    }

    fn layer(&self, diff_id: &str) -> Result<Option<Finding>, String> {
        let path = self.store.layer(diff_id);
        let number = || fs::metadata(&path).map(|about| about.ino()).ok();
        let read = number();
        let Err(why) = self.store.verify_layer(diff_id) else {
            if let Err(why) = verity::seal(&path) {
                log::warn!("{}: cannot be sealed: {why}", path.display());
            }
            return Ok(None);
        };
        if number() != read {
            // A pull that found it wanting has replaced it meanwhile.
            return Ok(None);
        }
        let other = self.sources.iter().find(|source| source.verify_layer(diff_id).is_ok());
        set_aside(&path, &self.store.aside(&path))?;
        let cure = match other {
            // By rename over the damaged one, so that there is a file at every moment.
            Some(source) => {
                self.writing.copy_layer(diff_id, source)?;
                Cure::Replaced(shown(source))
            }
            None => {
                lose(&path)?;
                Cure::Aside
            }
        };
        Ok(Some(Finding { why, layer: true, cure }))
    }
}

fn shown(store: &Store) -> String {
    store.below("").display().to_string().trim_end_matches('/').to_owned()
}

/// A second name for the damaged file, if it is there.
fn set_aside(path: &Path, aside: &Path) -> Result<(), String> {
    if !path.exists() {
        return Ok(());
    }
    let _ = fs::remove_file(aside);
    match fs::hard_link(path, aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        _ => aside.parent().map_or(Ok(()), sync_dir),
    }
}

pub fn lose(path: &Path) -> Result<(), String> {
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
    if aside.extension().is_some_and(|kind| kind == damage::TAG) {
        // Its name is nowhere else, so it stays until somebody gives or takes that name.
        return store.below("tags").join(aside.with_extension("json").file_name().unwrap_or(name)).exists();
    }
    !named || ["layers", "configs"].iter().any(|dir| store.below(dir).join(name).exists())
}
