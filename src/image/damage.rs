//! What is known to be damaged without reading all of it, and what a damaged tag still tells.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::reference::is_digest;
use super::store::{Tag, at, read_tag};
use super::{Image, Reference, Store, verity};

/// The extension of a tag that was put aside.
pub const TAG: &str = "tag";

/// An image that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub reference: String,
    /// Digest of its configuration, where its tag can be read.
    pub id: Option<String>,
    /// What is wrong, with the file's name.
    pub what: Vec<String>,
}

impl Store {
    /// The images that cannot be used as they are, by name: a file is missing, cut short, or not what its digest says, as
    /// far as a look at heads and at small files tells.
    pub fn damaged(&self) -> Result<Vec<Damaged>, String> {
        let mut images = Vec::new();
        for store in self.each() {
            for path in store.tag_paths()? {
                let damaged = self.damage_of(&path);
                let known =
                    |one: &Damaged| images.iter().any(|other: &Damaged| other.reference == one.reference);
                // What a name of ours stands for counts, whole or not.
                let ours = |one: &Damaged| {
                    store.below("") == self.below("") || !self.tag_path(&one.reference).exists()
                };
                images.extend(damaged.filter(|one| ours(one) && !known(one)));
            }
        }
        for aside in self.lost_tags() {
            let what = vec![format!("{}: damaged: put aside", aside.display())];
            images.extend(named_by(&aside).map(|reference| Damaged { reference, id: None, what }));
        }
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// The same of one name; None: it is whole, or not there.
    pub fn damage(&self, reference: &str) -> Result<Option<Damaged>, String> {
        let name = Reference::parse(reference)?.to_string();
        Ok(self.damaged()?.into_iter().find(|image| image.reference == name))
    }

    /// How many of its layers the kernel checks when they are read.
    pub fn sealed(&self, image: &Image) -> usize {
        let sealed =
            |diff_id: &&String| File::open(self.layer(diff_id)).is_ok_and(|file| verity::is_sealed(&file));
        image.layers.iter().filter(sealed).count()
    }

    fn damage_of(&self, path: &Path) -> Option<Damaged> {
        let tag = match read_tag(path) {
            Ok(tag) => tag?,
            Err(why) => {
                return named_by(path).map(|reference| Damaged { reference, id: None, what: vec![why] });
            }
        };
        let mut what = Vec::new();
        match self.diff_ids(&tag.config) {
            Ok(layers) if layers != tag.layers => {
                what.push(format!("{}: damaged: other layers than its configuration has", path.display()));
            }
            Ok(_) => {}
            Err(why) => what.push(why),
        }
        what.extend(tag.layers.iter().filter_map(|diff_id| self.layer_size(diff_id).err()));
        (!what.is_empty()).then_some(Damaged { reference: tag.reference, id: Some(tag.config), what })
    }

    /// The layers that a configuration tells.
    pub(super) fn diff_ids(&self, config: &str) -> Result<Vec<String>, String> {
        Ok(self.config(config)?.0.rootfs().diff_ids().clone())
    }

    /// Where a damaged tag is put.
    pub(super) fn aside_tag(&self, tag: &Path) -> PathBuf {
        self.aside(&tag.with_extension(TAG))
    }

    /// The tags that were put aside and have no successor.
    pub(super) fn lost_tags(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.below("damaged")).into_iter().flatten().flatten();
        let tags = entries.map(|entry| entry.path()).filter(|path| {
            let successor = path.with_extension("json").file_name().map(|name| self.below("tags").join(name));
            path.extension().is_some_and(|kind| kind == TAG) && successor.is_some_and(|tag| !tag.exists())
        });
        tags.collect()
    }

    /// The digits of all digests that lost tags seem to name: what they stand for is not garbage as yet.
    pub(super) fn named_by_lost_tags(&self) -> BTreeSet<String> {
        let texts = self.lost_tags().into_iter().filter_map(|path| fs::read(path).ok());
        texts.flat_map(|text| digits(&text)).collect()
    }
}

/// The list of files behind the store that are damaged, where nobody can put them aside.
fn distrusted_list(store: &Store) -> PathBuf {
    store.below("distrusted")
}

/// The files behind this store that are not to be used.
pub(super) fn distrusted(store: &Store) -> Vec<PathBuf> {
    let text = fs::read_to_string(distrusted_list(store)).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

/// From now on this file behind the store is not to be used, or is again.
pub(super) fn distrust(store: &Store, path: &Path, bad: bool) -> Result<(), String> {
    let mut list = distrusted(store);
    if list.iter().any(|known| known == path) == bad {
        return Ok(());
    }
    list.retain(|known| known != path);
    list.extend(bad.then(|| path.to_owned()));
    let text: String = list.iter().map(|path| format!("{}\n", path.display())).collect();
    // Half of it, after a power cut, is a file that is looked at again.
    fs::write(distrusted_list(store), text).map_err(|error| at(&distrusted_list(store), error))
}

/// The image's name by the name of its tag file. None: it was too long for one.
pub fn named_by(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    stem.contains("%2F").then(|| stem.replace("%2F", "/").replace("%3A", ":"))
}

/// A tag by what is left of it: a configuration in the store, which its digest vouches for, tells all layers.
pub(super) fn salvage(store: &Store, name: &str, text: &[u8]) -> Option<Tag> {
    let configs = digits(text).into_iter().map(|digits| format!("sha256:{digits}"));
    let known: Vec<_> = configs.filter_map(|digest| Some((store.diff_ids(&digest).ok()?, digest))).collect();
    let [(layers, config)] = known.as_slice() else { return None };
    let text = String::from_utf8_lossy(text);
    // By it the image is found by digest; without it, by name only.
    let manifest = text.split_once("\"manifest\": \"").map_or("", |(_, rest)| rest.get(..71).unwrap_or(""));
    let manifest = if is_digest(manifest) { manifest } else { "" };
    Some(Tag {
        reference: name.to_owned(),
        manifest: manifest.to_owned(),
        config: config.clone(),
        layers: layers.clone(),
        // Rather kept too long than lost.
        pinned: text.contains("\"pinned\": true"),
    })
}

/// What looks like the digits of a digest.
fn digits(text: &[u8]) -> BTreeSet<String> {
    let runs = text.split(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    runs.filter(|run| run.len() == 64).map(|run| String::from_utf8_lossy(run).into_owned()).collect()
}
