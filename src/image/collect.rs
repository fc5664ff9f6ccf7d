//! The store as a collection sees it: images with their files and times, and their removal. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;

use super::store::{Tag, Writing, at, hex, read_tag, sync_dir};
use super::{Reference, Store, imports, room};

/// What all names of one configuration stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The digest of the configuration.
    pub id: String,
    /// In full form; none for what is in use although nothing names it any more.
    pub names: Vec<String>,
    /// The layers and the configuration that it is made of, by the digits of their digests, and the bytes on the disk of
    /// all files of each.
    pub parts: BTreeMap<String, u64>,
    /// When it was last used: that is noted as the time of its tag. The latest of all of its names.
    pub used: Duration,
    /// When it came: the time of its configuration.
    pub detected: Duration,
    /// The operator wants one of its names to stay.
    pub pinned: bool,
    pub in_use: bool,
}

/// What removals took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    pub names: Vec<String>,
    pub files: u64,
    /// On the disk.
    pub bytes: u64,
}

impl Store {
    /// All images. In use are those that one of these names leads to, as `find` goes, or whose id is one of these: also
    /// where they are damaged. A tag that cannot be read is an error: it may name anything.
    pub fn survey(&self, names: &BTreeSet<String>, ids: &BTreeSet<String>) -> Result<Vec<Found>, String> {
        let names: Vec<Reference> = names.iter().filter_map(|name| Reference::parse(name).ok()).collect();
        // What came from an archive that is still there would only come again.
        let again: BTreeSet<String> = imports::pinned(self).into_iter().collect();
        let files = self.files()?;
        let part = |digest: &str| {
            let files = files.get(hex(digest)).into_iter().flatten();
            (hex(digest).to_owned(), files.map(|file| file.bytes).sum())
        };
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for path in self.tag_paths()? {
            let Some(tag) = read_tag(&path)? else { continue };
            let image = found.entry(tag.config.clone()).or_default();
            let own = Reference::parse(&tag.reference).ok();
            image.in_use |= names.iter().any(|name| {
                let digest =
                    name.digest.as_ref().filter(|digest| [&tag.manifest, &tag.config].contains(digest));
                let same = own.as_ref().is_some_and(|own| own.name() == name.name());
                name.to_string() == tag.reference || same && digest.is_some()
            });
            image.used = image.used.max(written(&path).unwrap_or_default());
            image.pinned |= tag.pinned || again.contains(&tag.reference);
            image.names.push(tag.reference);
            image.parts.extend(tag.layers.iter().map(|diff_id| part(diff_id)));
        }
        for id in ids {
            // A container may run from what has lost its name.
            let layers = || self.raw_config(id).ok().map(|config| config["rootfs"]["diff_ids"].clone());
            let layers = (!found.contains_key(id)).then(layers).flatten();
            let layers: Vec<_> = layers.iter().filter_map(|layers| layers.as_array()).flatten().collect();
            let image = found.entry(id.clone()).or_default();
            image.parts.extend(layers.into_iter().filter_map(|layer| layer.as_str()).map(part));
            image.in_use = true;
        }
        for (id, image) in &mut found {
            image.detected = written(&self.config_path(id)).unwrap_or_default();
            image.parts.extend([part(id)]);
            image.names.sort();
            image.id.clone_from(id);
        }
        Ok(found.into_values().collect())
    }

    /// The size of the file system that images come to, what of it is available, and what no image takes.
    pub fn disk(&self) -> io::Result<[u64; 3]> {
        let disk = statvfs(&self.below("")).map_err(io::Error::from)?;
        let size = disk.fragment_size();
        let whole = disk.blocks().saturating_mul(size);
        Ok([whole, disk.blocks_available().saturating_mul(size), room::reserve(whole)])
    }

    /// Notes when an image was used, at all of its names. Not synced: what a power cut takes is one use.
    pub fn note_use(&self, image: &Found, used: Duration) -> io::Result<()> {
        image.names.iter().try_for_each(|name| stamp(&self.tag_path(name), used))
    }

    /// Notes when an image came.
    pub fn note_arrival(&self, image: &Found, detected: Duration) -> io::Result<()> {
        // What is in use may have lost it.
        match stamp(&self.config_path(&image.id), detected) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Whether the image of this name is to stay when images that nothing uses are removed. False: there is none.
    pub fn pin(&self, reference: &str, pinned: bool) -> Result<bool, String> {
        let path = self.tag_path(&Reference::parse(reference)?.to_string());
        let writing = self.write()?;
        let Some(tag) = read_tag(&path)? else { return Ok(false) };
        writing.publish_tag(&Tag { pinned, ..tag }).map(|()| true)
    }

    /// All files but tags, by the digits of the digest in their names: a layer, its sum, what else belongs to it, and
    /// what was put aside of it.
    fn files(&self) -> Result<BTreeMap<String, Vec<Piece>>, String> {
        let mut files: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
        for name in KINDS {
            let dir = self.below(name);
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|error| at(&dir, error))?,
            };
            for entry in entries.flatten() {
                let Ok(about) = entry.metadata() else { continue };
                let name = entry.file_name().to_string_lossy().into_owned();
                let digits = name.split('.').next().unwrap_or_default().to_owned();
                let (bytes, written) = (about.blocks() * 512, since_epoch(&about));
                files.entry(digits).or_default().push(Piece { path: entry.path(), bytes, written });
            }
        }
        Ok(files)
    }
}

/// Where files are that a name must lead to.
const KINDS: [&str; 3] = ["layers", "configs", "damaged"];

struct Piece {
    path: PathBuf,
    /// On the disk: a sparse file takes less than its length.
    bytes: u64,
    written: Duration,
}

impl Writing {
    /// Takes away all names of these images, one after the other, and then what no other of `all` is made of.
    pub fn collect(&self, all: &[Found], ids: &[String]) -> Result<Gone, String> {
        let mut gone = Gone::default();
        let store = self.store();
        let (going, staying): (Vec<_>, Vec<_>) = all.iter().partition(|image| ids.contains(&image.id));
        let turn = |id: &String| going.iter().find(|image| image.id == *id);
        for name in ids.iter().filter_map(turn).flat_map(|image| &image.names) {
            unlink(&store.tag_path(name))?;
            gone.names.push(name.clone());
        }
        sync_dir(&store.below("tags"))?;
        let staying: BTreeSet<&String> = staying.iter().flat_map(|image| image.parts.keys()).collect();
        let going: BTreeSet<&String> = going.iter().flat_map(|image| image.parts.keys()).collect();
        let lost = store.named_by_lost_tags();
        let stays = |digits: &String| staying.contains(digits) || lost.contains(digits);
        self.unlink_all(|digits, _| going.contains(digits) && !stays(digits), &mut gone)?;
        Ok(gone)
    }

    /// Removes files that nothing of `all` is made of, nor what a damaged tag that was put aside seems to name, unless they
    /// stay for the time that they bear.
    pub fn collect_orphans(
        &self,
        all: &[Found],
        stays: impl Fn(&Path, Duration) -> bool,
    ) -> Result<Gone, String> {
        let lost = self.store().named_by_lost_tags();
        let named: BTreeSet<&String> =
            all.iter().flat_map(|image| image.parts.keys()).chain(lost.iter()).collect();
        let mut gone = Gone::default();
        self.unlink_all(
            |digits, file| !named.contains(digits) && !stays(&file.path, file.written),
            &mut gone,
        )?;
        Ok(gone)
    }

    fn unlink_all(&self, goes: impl Fn(&String, &Piece) -> bool, gone: &mut Gone) -> Result<(), String> {
        let files = self.store().files()?;
        let files = files.iter().flat_map(|(digits, files)| files.iter().map(move |file| (digits, file)));
        let mut dirs = BTreeSet::new();
        for (_, file) in files.filter(|(digits, file)| goes(digits, file)) {
            unlink(&file.path)?;
            (gone.files, gone.bytes) = (gone.files + 1, gone.bytes + file.bytes);
            dirs.extend(file.path.parent());
        }
        dirs.into_iter().try_for_each(sync_dir)
    }
}

fn written(path: &Path) -> Option<Duration> {
    fs::symlink_metadata(path).ok().map(|about| since_epoch(&about))
}

fn since_epoch(about: &Metadata) -> Duration {
    about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

/// Gives the file this time.
pub fn stamp(path: &Path, time: Duration) -> io::Result<()> {
    let times = FileTimes::new().set_modified(UNIX_EPOCH + time).set_accessed(UNIX_EPOCH + time);
    File::open(path)?.set_times(times)
}

/// What the wall clock shows.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn unlink(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
