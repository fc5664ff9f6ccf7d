//! The store: `layers/<hex>.erofs`, `configs/<hex>.json`, `tags/<name>.json`. No database: what a tag names is whole,
//! what none names is garbage.
//!
//! Everything is written under `tmp/`, synced and renamed into place, tags last, so that a power cut at any moment
//! leaves either the old state or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, PosixFadviseAdvice, posix_fadvise};
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::reference::is_digest;
use super::stream::{self, Hashed};
use super::{Reference, damage, erofs, layer, repair, room, verity};

/// A tag or configuration above this is damaged; PID 1 reads them.
const JSON_LIMIT: u64 = 4 << 20;
const NAME_LIMIT: usize = 240;

/// A directory of images, `<root>/images`, and others behind it, which are only read: what is not whole in one is looked
/// for in the next. None need exist to be looked at.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    behind: Vec<PathBuf>,
}

/// An image that is there, as a tag names it.
#[derive(Clone, Debug)]
pub struct Image {
    /// The full form of its name.
    pub reference: String,
    /// Digest of the configuration: `sha256:<hex>`.
    pub id: String,
    /// Digest of the manifest; empty where the archive held none (`docker save` before 25).
    pub manifest: String,
    /// Digests of the uncompressed layers, lowest first.
    pub layers: Vec<String>,
    pub config: ImageConfiguration,
    /// Bytes of its layer files and configuration.
    pub size: u64,
    /// It stays when images that nothing uses are removed.
    pub pinned: bool,
    /// It is named by a store behind this one, and cannot be removed.
    pub factory: bool,
}

/// A tag file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tag {
    pub reference: String,
    pub manifest: String,
    pub config: String,
    pub layers: Vec<String>,
    /// It stays when images that nothing uses are removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// Why a layer could not be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub why: String,
    /// The bytes were not those of the blob's digest: others may be had.
    pub wrong_bytes: bool,
}

impl From<Fault> for String {
    fn from(fault: Fault) -> Self {
        fault.why
    }
}

/// The right to write; released when dropped.
pub struct Writing {
    store: Store,
    behind: Vec<Store>,
    _lock: Flock<File>,
}

impl Store {
    pub fn open(root: PathBuf) -> Self {
        Store { root, behind: Vec::new() }
    }

    /// The same store with others behind it.
    pub fn over(self, behind: &[PathBuf]) -> Self {
        Store { behind: behind.to_vec(), ..self }
    }

    /// Without those behind it.
    pub fn own(&self) -> Store {
        Store::open(self.root.clone())
    }

    /// It and those behind it, each alone, in the order in which they are asked.
    pub(super) fn each(&self) -> impl Iterator<Item = Store> {
        std::iter::once(self.own()).chain(self.behind())
    }

    /// Those behind it, each alone.
    pub fn behind(&self) -> impl Iterator<Item = Store> {
        self.behind.iter().cloned().map(Store::open)
    }

    /// The image of this name, by tag, or by manifest digest where the name has one. None: not there.
    /// An image of which a part is missing, as one that was put aside, is not there: it may be pulled or imported again.
    /// An error: the name is invalid, or what is there is damaged.
    pub fn find(&self, reference: &str) -> Result<Option<Image>, String> {
        let reference = Reference::parse(reference)?;
        let mut trouble = None;
        for store in self.each() {
            let factory = store.root != self.root;
            let found = store.named(&reference).and_then(|tag| tag.map_or(Ok(None), |tag| self.whole(tag)));
            match found {
                Ok(Some(image)) => return Ok(Some(Image { factory, ..image })),
                Ok(None) => {}
                Err(why) => trouble = trouble.or(Some(why)),
            }
        }
        trouble.map_or(Ok(None), Err)
    }

    /// The tag of this store for a name, or for a digest.
    fn named(&self, reference: &Reference) -> Result<Option<Tag>, String> {
        if let Some(tag) = read_tag(&self.tag_path(&reference.to_string()))? {
            return Ok(Some(tag));
        }
        let Some(digest) = &reference.digest else { return Ok(None) };
        for path in self.tag_paths()? {
            // Another image's damage is not this one's.
            let Ok(Some(tag)) = read_tag(&path) else { continue };
            let same = Reference::parse(&tag.reference).is_ok_and(|other| other.name() == reference.name());
            if same && (tag.manifest == *digest || tag.config == *digest) {
                return Ok(Some(tag));
            }
        }
        Ok(None)
    }

    /// All images that are whole, by name. A damaged one is left out and logged.
    pub fn list(&self) -> Result<Vec<Image>, String> {
        let mut images: BTreeMap<String, Image> = BTreeMap::new();
        for store in self.each() {
            let factory = store.root != self.root;
            for path in store.tag_paths()? {
                match read_tag(&path).and_then(|tag| tag.map(|tag| self.image(tag)).transpose()) {
                    Ok(image) => images.extend(
                        image
                            .filter(|image| !images.contains_key(&image.reference))
                            .map(|image| (image.reference.clone(), Image { factory, ..image })),
                    ),
                    Err(error) => log::warn!("image store: {error}"),
                }
            }
        }
        Ok(images.into_values().collect())
    }

    /// The names of all tags, whole or damaged.
    pub fn names(&self) -> Result<Vec<String>, String> {
        let lost = self.lost_tags();
        let mut names: BTreeSet<String> = lost.iter().filter_map(|path| damage::named_by(path)).collect();
        for store in self.each() {
            for path in store.tag_paths()? {
                match read_tag(&path) {
                    Ok(tag) => names.extend(tag.map(|tag| tag.reference)),
                    Err(_) => names.extend(damage::named_by(&path)),
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The file of a layer, here or in a store behind; where it would be here if it is nowhere.
    pub fn layer(&self, diff_id: &str) -> PathBuf {
        self.located("layers", &format!("{}.erofs", hex(diff_id)))
    }

    fn located(&self, dir: &str, name: &str) -> PathBuf {
        let here = self.root.join(dir).join(name);
        if self.behind.is_empty() || here.exists() {
            return here;
        }
        let distrusted = damage::distrusted(self);
        let mut behind = self.behind.iter().map(|root| root.join(dir).join(name));
        let behind = behind.find(|path| path.exists() && !distrusted.contains(path));
        behind.unwrap_or(here)
    }

    /// Gives the image a further name, which until now may have been another's. False: there is no such image.
    pub fn tag(&self, reference: &str, name: &str) -> Result<bool, String> {
        let name = Reference::parse(name)?;
        if name.digest.is_some() {
            return Err(format!("{name}: a name with a digest is not given: leave the digest out"));
        }
        let writing = self.write()?;
        let Some(image) = self.find(reference)? else { return Ok(false) };
        // What a tag names is in the tag's own store, whatever becomes of those behind.
        if let Some(missing) = image.layers.iter().find(|diff_id| !writing.has_layer(diff_id)) {
            return Err(format!("{reference}: layer {missing} is damaged"));
        }
        let config = self.config_path(&image.id);
        writing.add_config(&image.id, &fs::read(&config).map_err(|error| at(&config, error))?)?;
        writing.add_tag(&name.to_string(), &image.manifest, &image.id, &image.layers)?;
        // What had the name before may be nobody's now.
        writing.sweep()?;
        Ok(true)
    }

    /// Removes all files that no name leads to; tells how many, and their bytes on the disk.
    pub fn prune(&self) -> Result<(u64, u64), String> {
        self.write()?.sweep()
    }

    /// Takes the name away, and with the last name of a layer or configuration its file. False: there was none.
    pub fn remove(&self, reference: &str) -> Result<bool, String> {
        let reference = Reference::parse(reference)?.to_string();
        let path = self.tag_path(&reference);
        let aside = self.aside_tag(&path);
        if !path.exists() && !aside.exists() {
            return match self.find(&reference)? {
                Some(image) if image.factory => {
                    Err(format!("{reference} came with the machine's own image, and stays"))
                }
                _ => Ok(false),
            };
        }
        let writing = self.write()?;
        [&path, &aside].into_iter().try_for_each(|path| repair::lose(path))?;
        writing.sweep()?;
        Ok(true)
    }

    /// Reads all that a name stands for, every byte of its layers, and compares it with the digests taken when it was
    /// written. Tells each damage; none means whole. An error: not there, or not to be read at all.
    pub fn verify(&self, reference: &str) -> Result<Vec<String>, String> {
        let (config, layers) = self.names_of(reference)?;
        let mut damage = Vec::new();
        if let Err(error) = self.config(&config) {
            damage.push(error);
        }
        for diff_id in &layers {
            if let Err(error) = self.verify_layer(diff_id) {
                damage.push(error);
            }
        }
        Ok(damage)
    }

    /// Takes the right to write, waiting for other writers to end, and clears away what a writer cut short left.
    pub fn write(&self) -> Result<Writing, String> {
        let lock = self.lock(FlockArg::LockExclusive)?.ok_or("the store is in use")?;
        self.clear()?;
        Ok(self.writing(lock))
    }

    /// The right to write, if it is to be had at once; None: another adds or writes.
    pub fn write_now(&self) -> Result<Option<Writing>, String> {
        let Some(lock) = self.lock(FlockArg::LockExclusiveNonblock)? else { return Ok(None) };
        self.clear()?;
        Ok(Some(self.writing(lock)))
    }

    /// The right to add beside others who add, for what takes long; nobody sweeps meanwhile.
    pub fn add(&self) -> Result<Writing, String> {
        if let Some(alone) = self.lock(FlockArg::LockExclusiveNonblock)? {
            self.clear()?;
            drop(alone);
        }
        let lock = self.lock(FlockArg::LockShared)?.ok_or("the store is in use")?;
        Ok(self.writing(lock))
    }

    fn writing(&self, lock: Flock<File>) -> Writing {
        Writing { store: self.own(), behind: self.behind().collect(), _lock: lock }
    }

    /// None: another has it, and it is not to be waited for.
    fn lock(&self, how: FlockArg) -> Result<Option<Flock<File>>, String> {
        let mut made = false;
        for dir in ["layers", "configs", "tags", "tmp", "damaged"] {
            let path = self.root.join(dir);
            made |= !path.exists();
            fs::create_dir_all(&path).map_err(|error| at(&path, error))?;
        }
        // A directory that the power cut takes is gone with all that was synced in it.
        for dir in self.root.ancestors().take(if made { 2 } else { 0 }) {
            sync_dir(dir)?;
        }
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(|error| at(&path, error))?;
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(format!("{}: lock: {errno}", path.display())),
        }
    }

    fn clear(&self) -> Result<(), String> {
        let tmp = self.root.join("tmp");
        for entry in fs::read_dir(&tmp).map_err(|error| at(&tmp, error))?.flatten() {
            fs::remove_file(entry.path()).map_err(|error| at(&entry.path(), error))?;
        }
        Ok(())
    }

    /// The configuration and layers of a name, whether they are there or not.
    pub fn names_of(&self, reference: &str) -> Result<(String, Vec<String>), String> {
        let name = Reference::parse(reference)?.to_string();
        let mut stores = self.each();
        let tag = stores.find_map(|store| read_tag(&store.tag_path(&name)).transpose());
        let tag = tag.transpose()?.ok_or_else(|| format!("no image {name}"))?;
        Ok((tag.config, tag.layers))
    }

    /// Writes a file in a directory of the store's that only the writer knows; whole or not at all.
    pub fn note(&self, dir: &str, name: &str, bytes: &[u8]) -> Result<(), String> {
        let writing = self.write()?;
        let folder = self.root.join(dir);
        fs::create_dir_all(&folder).map_err(|error| at(&folder, error))?;
        writing.publish(&folder.join(name), bytes)
    }

    pub fn below(&self, dir: &str) -> PathBuf {
        self.root.join(dir)
    }

    /// Where a damaged file is put.
    pub fn aside(&self, path: &Path) -> PathBuf {
        self.root.join("damaged").join(path.file_name().unwrap_or_default())
    }

    fn whole(&self, tag: Tag) -> Result<Option<Image>, String> {
        let files =
            tag.layers.iter().map(|diff_id| self.layer(diff_id)).chain([self.config_path(&tag.config)]);
        if let Some(missing) = files.into_iter().find(|path| !path.exists()) {
            log::warn!("image store: {} is not whole: {} is missing", tag.reference, missing.display());
            return Ok(None);
        }
        self.image(tag).map(Some)
    }

    fn image(&self, tag: Tag) -> Result<Image, String> {
        let (config, mut size) = self.config(&tag.config)?;
        if *config.rootfs().diff_ids() != tag.layers {
            return Err(format!("{}: damaged: other layers than its configuration has", tag.reference));
        }
        for diff_id in &tag.layers {
            size += self.layer_size(diff_id)?;
        }
        Ok(Image {
            reference: tag.reference,
            id: tag.config,
            manifest: tag.manifest,
            layers: tag.layers,
            config,
            size,
            pinned: tag.pinned,
            factory: false,
        })
    }

    pub(super) fn config(&self, digest: &str) -> Result<(ImageConfiguration, u64), String> {
        self.read_config(digest)
    }

    /// The configuration with all that it says, also what no specification knows.
    pub fn raw_config(&self, digest: &str) -> Result<serde_json::Value, String> {
        self.read_config(digest).map(|(config, _)| config)
    }

    /// The configuration and its bytes' number.
    fn read_config<T: serde::de::DeserializeOwned>(&self, digest: &str) -> Result<(T, u64), String> {
        let path = self.config_path(digest);
        let bytes = read_json(&path)?.ok_or_else(|| format!("{}: missing", path.display()))?;
        if stream::digest(&bytes) != digest {
            return Err(format!("{}: damaged: not what its digest says", path.display()));
        }
        let config =
            serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((config, bytes.len() as u64))
    }

    /// The bytes of a layer's file, which tells its own size in its superblock: catches a missing or truncated one.
    pub(super) fn layer_size(&self, diff_id: &str) -> Result<u64, String> {
        let path = self.layer(diff_id);
        let file = File::open(&path).map_err(|error| at(&path, error))?;
        let size = file.metadata().map_err(|error| at(&path, error))?.len();
        let mut head = [0; 0x28];
        file.read_exact_at(&mut head, 1024).map_err(|error| at(&path, error))?;
        let word = |at: usize| {
            let bytes = head.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        if word(0) != erofs::MAGIC || u64::from(word(0x24)) * erofs::BLOCK as u64 != size {
            return Err(format!("{}: damaged: no file system of {size} bytes", path.display()));
        }
        Ok(size)
    }

    /// Reads the whole layer and compares it with its digest.
    pub fn verify_layer(&self, diff_id: &str) -> Result<(), String> {
        self.layer_size(diff_id)?;
        let path = self.layer(diff_id);
        let sum = self.sum_path(diff_id);
        let stored = fs::read_to_string(&sum).map_err(|error| at(&sum, error))?;
        let file = File::open(&path).map_err(|error| at(&path, error))?;
        // What memory holds of it says nothing of the disk; and what is read once needs no memory.
        let forget = || posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        let _ = forget();
        let found = Hashed::new(&file).finish().map_err(|error| at(&path, error))?;
        let _ = forget();
        if stored.split_whitespace().next() != Some(hex(&found)) {
            return Err(format!("{}: damaged: not what {} says", path.display(), sum.display()));
        }
        Ok(())
    }

    /// Beside each layer, in the form of sha256sum: `sha256sum -c *.sha256` checks a store without podinit.
    fn sum_path(&self, diff_id: &str) -> PathBuf {
        self.layer(diff_id).with_extension("sha256")
    }

    pub fn config_path(&self, digest: &str) -> PathBuf {
        self.located("configs", &format!("{}.json", hex(digest)))
    }

    pub(super) fn tag_path(&self, reference: &str) -> PathBuf {
        self.root.join("tags").join(format!("{}.json", escape(reference)))
    }

    /// The tag files; none where there is no store yet.
    pub(super) fn tag_paths(&self) -> Result<Vec<PathBuf>, String> {
        let dir = self.root.join("tags");
        match fs::read_dir(&dir) {
            Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(at(&dir, error)),
        }
    }
}

impl Writing {
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Passes a source on until it would fill the disk.
    pub fn guarded<R: Read>(&self, source: R) -> room::Guarded<R> {
        room::Guarded::new(source, &self.store.root)
    }

    /// An unnamed file on the store's file system, for an archive that cannot be read twice.
    pub fn spool(&self) -> Result<File, String> {
        let path = self.tmp("spool");
        let open = File::options().read(true).write(true).create_new(true).open(&path);
        let file = open.map_err(|error| at(&path, error))?;
        fs::remove_file(&path).map_err(|error| at(&path, error))?;
        Ok(file)
    }

    /// Whether the layer is there and of the right size; one that a store behind has whole is now.
    pub fn has_layer(&self, diff_id: &str) -> bool {
        let there = || self.store.layer_size(diff_id).is_ok() && self.store.sum_path(diff_id).exists();
        there() || self.take_layer(diff_id)
    }

    /// Copies the layer from the first store behind that has it whole.
    fn take_layer(&self, diff_id: &str) -> bool {
        let source = self.behind.iter().find(|store| store.verify_layer(diff_id).is_ok());
        source.is_some_and(|store| match self.copy_layer(diff_id, store) {
            Ok(()) => true,
            Err(why) => {
                log::warn!("image store: {why}");
                false
            }
        })
    }

    /// Converts and publishes a layer from its blob, compressed or not. `blob` is the digest that the manifest gives
    /// the blob, where there is a manifest. What does not have its digests is refused, and nothing of it stays. One that
    /// another adds at the same moment is waited for, and then not added again.
    pub fn add_layer(&self, diff_id: &str, blob: Option<&str>, source: &mut dyn Read) -> Result<(), Fault> {
        let ours = |why| Fault { why, wrong_bytes: false };
        let tmp = self.tmp(hex(diff_id));
        let Some(claim) = self.claim(diff_id, &tmp).map_err(ours)? else { return Ok(()) };
        let made = self.convert(diff_id, blob, source, &tmp);
        if made.is_err() {
            let _ = fs::remove_file(&tmp);
        }
        let sum = made.map_err(|fault| Fault { why: format!("layer {diff_id}: {}", fault.why), ..fault })?;
        self.place_layer(diff_id, &sum, &tmp).map_err(ours)?;
        // It is held open for writing.
        drop(claim);
        self.seal(diff_id);
        Ok(())
    }

    /// Takes a layer that is whole in another store.
    pub fn copy_layer(&self, diff_id: &str, source: &Store) -> Result<(), String> {
        // Not what a pull of it would write to.
        let tmp = self.tmp(&format!("{}.{}", std::process::id(), hex(diff_id)));
        let from = source.layer(diff_id);
        self.fits(fs::metadata(&from).map_or(0, |about| about.blocks() * 512))?;
        let sum = repair::copy(&from, &tmp)?;
        self.place_layer(diff_id, &sum, &tmp)?;
        self.seal(diff_id);
        Ok(())
    }

    /// From now on the kernel checks what is read of a published layer, where it can. One that a power cut leaves without
    /// is as good as before, and sealed by the next verification.
    fn seal(&self, diff_id: &str) {
        let path = self.store.layer(diff_id);
        if let Err(why) = verity::seal(&path) {
            log::warn!("{}: cannot be sealed: {why}", path.display());
        }
    }

    /// Refuses what is known not to fit on the disk, beside the reserve.
    pub fn fits(&self, bytes: u64) -> Result<(), String> {
        room::check(&self.store.root, bytes).map_err(|error| error.to_string())
    }

    /// Publishes a layer's file, which is synced already, and the digest of the file itself.
    fn place_layer(&self, diff_id: &str, sum: &str, tmp: &Path) -> Result<(), String> {
        let path = self.store.layer(diff_id);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.publish(&self.store.sum_path(diff_id), format!("{}  {file}\n", hex(sum)).as_bytes())?;
        fs::rename(tmp, &path).map_err(|error| at(&path, error))?;
        sync_dir(&self.store.root.join("layers"))
    }

    /// The right to make this layer at `tmp`; None: it is there.
    fn claim(&self, diff_id: &str, tmp: &Path) -> Result<Option<Flock<File>>, String> {
        loop {
            let open = File::options().read(true).write(true).create(true).truncate(false).open(tmp);
            let file = open.map_err(|error| at(tmp, error))?;
            let lock = Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, errno)| format!("{}: lock: {errno}", tmp.display()))?;
            if self.has_layer(diff_id) {
                let _ = fs::remove_file(tmp);
                return Ok(None);
            }
            // Who had it before may have given up, and taken the file away.
            let ours = lock.metadata().map_err(|error| at(tmp, error))?;
            if fs::metadata(tmp).is_ok_and(|there| there.ino() == ours.ino()) {
                return Ok(Some(lock));
            }
        }
    }

    pub fn add_config(&self, digest: &str, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() as u64 > JSON_LIMIT {
            return Err(format!("configuration {digest}: {} bytes, more than {JSON_LIMIT}", bytes.len()));
        }
        self.publish(&self.store.config_path(digest), bytes)
    }

    /// Names an image; its layers and configuration are there already.
    pub fn add_tag(
        &self,
        reference: &str,
        manifest: &str,
        config: &str,
        layers: &[String],
    ) -> Result<(), String> {
        self.publish_tag(&Tag {
            reference: reference.to_owned(),
            manifest: manifest.to_owned(),
            config: config.to_owned(),
            layers: layers.to_vec(),
            // The operator pinned the name, not what it stood for.
            pinned: read_tag(&self.store.tag_path(reference))
                .is_ok_and(|tag| tag.is_some_and(|tag| tag.pinned)),
        })
    }

    pub(super) fn publish_tag(&self, tag: &Tag) -> Result<(), String> {
        let mut text = serde_json::to_vec_pretty(tag).map_err(|error| error.to_string())?;
        text.push(b'\n');
        self.publish(&self.store.tag_path(&tag.reference), &text)
    }

    /// Removes what no tag names. A tag that cannot be read is put aside, and what it seems to name stays.
    /// Tells how many files went, and their bytes on the disk.
    pub fn sweep(&self) -> Result<(u64, u64), String> {
        let (mut count, mut bytes) = (0, 0);
        let mut named = BTreeSet::new();
        for path in self.store.tag_paths()? {
            match read_tag(&path) {
                Ok(Some(tag)) => {
                    named.extend(tag.layers.iter().map(|diff_id| hex(diff_id).to_owned()));
                    named.insert(hex(&tag.config).to_owned());
                }
                Ok(None) => {}
                Err(why) => {
                    log::warn!("image store: {why}: put aside");
                    let aside = self.store.aside_tag(&path);
                    fs::rename(&path, &aside).map_err(|error| at(&path, error))?;
                }
            }
        }
        named.extend(self.store.named_by_lost_tags());
        for name in ["layers", "configs", "damaged"] {
            let dir = self.store.root.join(name);
            for entry in fs::read_dir(&dir).map_err(|error| at(&dir, error))?.flatten() {
                let path = entry.path();
                let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                let named = stem.is_some_and(|stem| named.contains(&stem));
                if if name == "damaged" { repair::is_done(&self.store, &path, named) } else { !named } {
                    // A sparse file takes less than its length.
                    bytes += entry.metadata().map_or(0, |about| about.blocks() * 512);
                    fs::remove_file(&path).map_err(|error| at(&path, error))?;
                    count += 1;
                }
            }
            sync_dir(&dir)?;
        }
        Ok((count, bytes))
    }

    fn convert(
        &self,
        diff_id: &str,
        blob: Option<&str>,
        // Not generic: decompression twice over is 30 KiB.
        source: &mut dyn Read,
        tmp: &Path,
    ) -> Result<String, Fault> {
        let ours = |error| Fault { why: at(tmp, error), wrong_bytes: false };
        let file = File::options().read(true).write(true).create(true).truncate(true).open(tmp);
        let file = file.map_err(ours)?;
        let mut compressed = Hashed::new(source);
        let made = self.layer(diff_id, &mut compressed, file);
        // What does not suit us may be what was meant: the rest of the blob tells. Of no use is it to a full disk.
        let content = |error: &io::Error| {
            use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
            matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
        };
        let file = match made {
            Ok(file) => file,
            Err(error) if !content(&error) => {
                return Err(Fault { why: error.to_string(), wrong_bytes: false });
            }
            Err(error) => {
                let meant = compressed.finish().is_ok_and(|found| blob.is_none_or(|blob| blob == found));
                return Err(Fault { why: error.to_string(), wrong_bytes: !meant });
            }
        };
        let found =
            compressed.finish().map_err(|error| Fault { why: error.to_string(), wrong_bytes: true })?;
        if let Some(blob) = blob
            && found != blob
        {
            return Err(Fault { why: format!("blob {blob} has the digest {found}"), wrong_bytes: true });
        }
        file.sync_all().map_err(ours)?;
        let file = File::open(tmp).map_err(ours)?;
        Hashed::new(file).finish().map_err(ours)
    }

    /// The layer's file of a blob. The error is `InvalidData` where the content has another digest.
    fn layer(&self, diff_id: &str, blob: impl Read, file: File) -> io::Result<File> {
        let plain = stream::decompress(blob)?;
        let mut plain = Hashed::new(room::Guarded::new(plain, &self.store.root));
        let file = layer::convert(&mut plain, file, uuid(diff_id))?;
        match plain.finish()? {
            found if found == diff_id => Ok(file),
            found => {
                let why = format!("the content has the digest {found}");
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }

    fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        // Another may publish the same at the same moment.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let tmp = self.tmp(&format!("{}.{name}", std::process::id()));
        let written = File::create(&tmp).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&tmp, path)
        });
        written.map_err(|error| at(path, error))?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    fn tmp(&self, name: &str) -> PathBuf {
        self.store.root.join("tmp").join(name)
    }
}

/// The digits of a digest; of anything else, nothing that leads out of a directory.
pub fn hex(digest: &str) -> &str {
    if is_digest(digest) { digest.strip_prefix("sha256:").unwrap_or_default() } else { "invalid" }
}

/// The file system's identity: the first half of the layer's digest, by which overlay tells its layers apart.
fn uuid(diff_id: &str) -> [u8; 16] {
    let digits = hex(diff_id);
    std::array::from_fn(|i| {
        digits.get(2 * i..2 * i + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0)
    })
}

/// A reference as a file name: `/` and `:` escaped as in a URL, a very long one by its digest.
pub fn escape(reference: &str) -> String {
    let name = reference.replace('/', "%2F").replace(':', "%3A");
    if name.len() > NAME_LIMIT { hex(&stream::digest(reference.as_bytes())).to_owned() } else { name }
}

pub(super) fn read_tag(path: &Path) -> Result<Option<Tag>, String> {
    let Some(bytes) = read_json(path)? else { return Ok(None) };
    let tag: Tag = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    if let Some(digest) = tag.layers.iter().chain([&tag.config]).find(|digest| !is_digest(digest)) {
        return Err(format!("{}: {digest:?} is not a digest", path.display()));
    }
    if path.file_stem().is_none_or(|stem| stem.to_string_lossy() != escape(&tag.reference)) {
        return Err(format!("{}: damaged: it names {:?}", path.display(), tag.reference));
    }
    Ok(Some(tag))
}

fn read_json(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(JSON_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| at(path, error))?;
    if bytes.len() as u64 > JSON_LIMIT {
        return Err(format!("{}: larger than {JSON_LIMIT} bytes", path.display()));
    }
    Ok(Some(bytes))
}

pub fn sync_dir(path: &Path) -> Result<(), String> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| at(path, error))
}

pub fn at(path: &Path, error: io::Error) -> String {
    format!("{}: {error}", path.display())
}
