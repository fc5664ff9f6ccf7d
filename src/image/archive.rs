//! Archives into the store: OCI image layouts (directory or tar) and `docker save` tars, plain or compressed.
//!
//! Sources: OCI image specification, "Image Layout"; for `docker save` the Docker Engine's image specification v1.2.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;

use super::platform::Platform;
use super::reference::is_digest;
use super::store::Writing;
use super::stream;
use super::tarball::{Kind, Tarball};
use super::{Reference, Store};

/// Manifests, indices and configurations above this are refused.
const JSON_LIMIT: u64 = 4 << 20;
const NESTING_LIMIT: u32 = 4;
/// Files of an archive that is a tar, and bytes of a name; their names are held.
const FILES_LIMIT: usize = 64 << 10;
const NAME_LIMIT: usize = 4096;
/// Manifests and indices of an archive: an index may name another many times, and that one a third.
const READ_LIMIT: u32 = 4096;

/// Reads the archive at `source` (`-`: standard input) and puts its images for `platform` into the store, under the
/// names that the archive gives them, or `name`. Returns the names in full form. Nothing stays of what is refused.
pub fn import(
    store: &Store,
    source: &Path,
    name: Option<&str>,
    platform: &Platform,
) -> Result<Vec<String>, String> {
    let name = name.map(Reference::parse).transpose()?;
    let writing = store.write()?;
    let mut archive = Archive::open(source, &writing)?;
    let found = archive.images(platform)?;
    let done = named(found, name).and_then(|images| {
        images.iter().map(|image| take(&mut archive, &writing, image, platform)).collect()
    });
    if done.is_err() {
        // Layers of a refused image may be in place already; no tag names them.
        let _ = writing.sweep();
    }
    done.map_err(|error| format!("{}: {error}", source.display()))
}

/// An image in an archive.
#[derive(Debug, Default)]
struct Found {
    /// As the archive has it.
    name: Option<String>,
    manifest: String,
    config: String,
    /// Name in the archive, and digest where a manifest gives one.
    layers: Vec<(String, Option<String>)>,
}

/// Gives each image its reference.
fn named(found: Vec<Found>, name: Option<Reference>) -> Result<Vec<(Reference, Found)>, String> {
    let many = found.len() > 1;
    let mut images = Vec::new();
    for image in found {
        let reference = match (&name, &image.name) {
            (Some(_), _) if many => return Err("holds several images: one name cannot stand for all".into()),
            (Some(name), _) => name.clone(),
            // An index tells tags alone, too (`latest`); of which image, nobody knows.
            (None, Some(text)) if text.contains(['/', ':', '@']) => Reference::parse(text)?,
            (None, Some(text)) => {
                return Err(format!("names its image only {text:?}: give a full name with --name"));
            }
            (None, None) => return Err("does not name its image: give one with --name".into()),
        };
        images.push((reference, image));
    }
    if images.is_empty() { Err("holds no image".into()) } else { Ok(images) }
}

fn take(
    archive: &mut Archive,
    writing: &Writing,
    (reference, image): &(Reference, Found),
    platform: &Platform,
) -> Result<String, String> {
    let bytes = archive.small(&image.config)?;
    let id = stream::digest(&bytes);
    if let Some(hex) = image.config.strip_prefix("blobs/sha256/")
        && id != format!("sha256:{hex}")
    {
        return Err(format!("{}: has the digest {id}", image.config));
    }
    let config: ImageConfiguration =
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", image.config))?;
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    if platform.suits(&os, &architecture, config.variant().as_deref()).is_none() {
        return Err(format!("{reference} is for {os}/{architecture}, not for {platform}"));
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != image.layers.len() {
        let (here, there) = (image.layers.len(), diff_ids.len());
        return Err(format!("{reference}: {here} layers, but its configuration tells of {there}"));
    }
    let missing = diff_ids.iter().zip(&image.layers).filter(|(diff_id, _)| !writing.has_layer(diff_id));
    // A compressed layer will take more, and is stopped on the way if that is too much.
    writing.fits(missing.map(|(_, (blob, _))| archive.size(blob)).sum())?;
    for (diff_id, (blob, digest)) in diff_ids.iter().zip(&image.layers) {
        if !is_digest(diff_id) {
            return Err(format!("{}: diff id {diff_id:?} is not a sha256 digest", image.config));
        }
        if !writing.has_layer(diff_id) {
            writing.add_layer(diff_id, digest.as_deref(), &mut archive.open_file(blob)?)?;
        }
    }
    writing.add_config(&id, &bytes)?;
    writing.add_tag(&reference.to_string(), &image.manifest, &id, diff_ids)?;
    Ok(reference.to_string())
}

/// Files by name, from a directory or from a tar that can be sought in.
enum Archive {
    Dir(PathBuf),
    Tar { file: File, files: HashMap<String, (u64, u64)> },
}

/// One image of `manifest.json` in a `docker save` tar.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    fn open(source: &Path, writing: &Writing) -> Result<Self, String> {
        let text = |error: io::Error| format!("{}: {error}", source.display());
        if source.is_dir() {
            return Ok(Archive::Dir(source.to_owned()));
        }
        let mut file = if source == Path::new("-") {
            spool(&mut io::stdin().lock(), writing).map_err(text)?
        } else {
            File::open(source).map_err(text)?
        };
        let mut magic = [0; 4];
        let plain = file.read_exact(&mut magic).is_ok()
            && !magic.starts_with(&[0x1f, 0x8b])
            && magic != [0x28, 0xb5, 0x2f, 0xfd];
        let seekable = file.seek(SeekFrom::Start(0)).is_ok();
        if !plain || !seekable {
            file = spool(&mut file, writing).map_err(text)?;
        }
        let files = contents(&file).map_err(text)?;
        Ok(Archive::Tar { file, files })
    }

    fn images(&mut self, platform: &Platform) -> Result<Vec<Found>, String> {
        // A modern `docker save` is both; its manifest.json has the full names.
        let docker = self.has("manifest.json");
        if !self.has("index.json") {
            return if docker {
                self.docker()
            } else {
                Err("neither index.json nor manifest.json in it".into())
            };
        }
        let index: ImageIndex = self.json("index.json")?;
        let mut best: Vec<(u32, Found)> = Vec::new();
        let mut left = READ_LIMIT;
        for descriptor in index.manifests() {
            let name = name_of(descriptor);
            let Some((rank, mut found)) = self.choose(descriptor, platform, NESTING_LIMIT, &mut left)? else {
                continue;
            };
            found.name = name;
            match best.iter_mut().find(|(_, other)| other.name == found.name) {
                Some(other) if other.0 < rank => *other = (rank, found),
                Some(_) => {}
                None => best.push((rank, found)),
            }
        }
        let mut images: Vec<Found> = best.into_iter().map(|(_, found)| found).collect();
        if images.is_empty() && !index.manifests().is_empty() {
            return Err(format!("holds no image for {platform}"));
        }
        if docker && images.iter().any(|image| !image.name.as_ref().is_some_and(|name| name.contains('/'))) {
            self.docker_names(&mut images)?;
        }
        Ok(images)
    }

    /// The best image for the platform that a descriptor leads to, with its rank.
    fn choose(
        &mut self,
        descriptor: &Descriptor,
        platform: &Platform,
        depth: u32,
        left: &mut u32,
    ) -> Result<Option<(u32, Found)>, String> {
        let mut rank = 0;
        if let Some(offer) = descriptor.platform() {
            let (os, architecture) = (offer.os().to_string(), offer.architecture().to_string());
            match platform.suits(&os, &architecture, offer.variant().as_deref()) {
                Some(suits) => rank = suits,
                None => return Ok(None),
            }
        }
        let digest = descriptor.digest().to_string();
        let path = blob(&digest)?;
        if !self.has(&path) {
            // An archive of one platform may keep the index of all.
            return Ok(None);
        }
        *left = left.checked_sub(1).ok_or_else(|| format!("more than {READ_LIMIT} manifests and indices"))?;
        let bytes = self.small(&path)?;
        if stream::digest(&bytes) != digest {
            return Err(format!("{path}: has the digest {}", stream::digest(&bytes)));
        }
        let kind = descriptor.media_type().to_string();
        if kind.contains("index") || kind.contains("manifest.list") {
            let index: ImageIndex = parse(&path, &bytes)?;
            let depth = depth.checked_sub(1).ok_or_else(|| format!("{path}: indices nested too deep"))?;
            let mut best = None;
            for descriptor in index.manifests() {
                if let Some(found) = self.choose(descriptor, platform, depth, left)?
                    && best.as_ref().is_none_or(|(rank, _)| *rank < found.0)
                {
                    best = Some(found);
                }
            }
            return Ok(best);
        }
        let manifest: ImageManifest = parse(&path, &bytes)?;
        let mut found = Found { manifest: digest, ..Found::default() };
        found.config = blob(manifest.config().digest().as_ref())?;
        for layer in manifest.layers() {
            let digest = layer.digest().to_string();
            found.layers.push((blob(&digest)?, Some(digest)));
        }
        Ok(Some((rank, found)))
    }

    fn docker(&mut self) -> Result<Vec<Found>, String> {
        let images: Vec<DockerImage> = self.json("manifest.json")?;
        let mut found = Vec::new();
        for image in images {
            let names = image.repo_tags.unwrap_or_default();
            let names = if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
            for name in names {
                let layers = image.layers.iter().map(|layer| (layer.clone(), None)).collect();
                found.push(Found { name, manifest: String::new(), config: image.config.clone(), layers });
            }
        }
        Ok(found)
    }

    /// Takes the names from manifest.json, by configuration; an image may have several.
    fn docker_names(&mut self, images: &mut Vec<Found>) -> Result<(), String> {
        let mut renamed: Vec<Found> = Vec::new();
        let docker = self.docker()?;
        for image in images.drain(..) {
            let mut names =
                docker.iter().filter(|other| other.config == image.config && other.name.is_some());
            let Some(first) = names.next() else {
                renamed.push(image);
                continue;
            };
            for other in std::iter::once(first).chain(names) {
                if renamed.iter().any(|done| done.name == other.name) {
                    continue;
                }
                renamed.push(Found {
                    name: other.name.clone(),
                    manifest: image.manifest.clone(),
                    config: image.config.clone(),
                    layers: image.layers.clone(),
                });
            }
        }
        *images = renamed;
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Archive::Dir(dir) => dir.join(name).is_file(),
            Archive::Tar { files, .. } => files.contains_key(name),
        }
    }

    /// A file's bytes as they lie in the archive; 0 where there is none.
    fn size(&self, name: &str) -> u64 {
        match self {
            Archive::Dir(dir) => std::fs::metadata(dir.join(name)).map_or(0, |about| about.len()),
            Archive::Tar { files, .. } => files.get(name).map_or(0, |(_, size)| *size),
        }
    }

    /// A file's content from its start. Names are made of digests, or looked up among the tar's own.
    fn open_file(&mut self, name: &str) -> Result<Box<dyn Read + '_>, String> {
        match self {
            Archive::Dir(dir) => {
                let file = File::open(dir.join(name)).map_err(|error| format!("{name}: {error}"))?;
                Ok(Box::new(file))
            }
            Archive::Tar { file, files } => {
                let &(offset, size) = files.get(name).ok_or_else(|| format!("{name}: not in the archive"))?;
                file.seek(SeekFrom::Start(offset)).map_err(|error| format!("{name}: {error}"))?;
                Ok(Box::new(file.take(size)))
            }
        }
    }

    fn small(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let file = self.open_file(name)?;
        file.take(JSON_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
        if bytes.len() as u64 > JSON_LIMIT {
            return Err(format!("{name}: larger than {JSON_LIMIT} bytes"));
        }
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        parse(name, &self.small(name)?)
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))
}

/// The name that an index gives an image: containerd's annotation is always full, the specification's often.
fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    let key = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    key.iter().find_map(|key| annotations.get(*key)).cloned()
}

fn blob(digest: &str) -> Result<String, String> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if is_digest(digest) => Ok(format!("blobs/sha256/{hex}")),
        _ => Err(format!("{digest:?} is not a sha256 digest")),
    }
}

/// A decompressed copy that can be sought in.
fn spool(source: &mut impl Read, writing: &Writing) -> io::Result<File> {
    let mut file = writing.spool().map_err(io::Error::other)?;
    io::copy(&mut writing.guarded(stream::decompress(source)?), &mut file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Where each file of a tar lies. Older `docker save` tars name a layer twice, by a link.
fn contents(file: &File) -> io::Result<HashMap<String, (u64, u64)>> {
    let mut files: HashMap<String, (u64, u64)> = HashMap::new();
    let mut links = Vec::new();
    let mut tar = Tarball::new(BufReader::new(file));
    let skip = |file: &mut BufReader<&File>, n: u64| match i64::try_from(n) {
        Ok(n) => file.seek_relative(n),
        Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    };
    while let Some(entry) = tar.next_with(skip)? {
        if files.len() + links.len() > FILES_LIMIT {
            return Err(io::Error::other(format!("more than {FILES_LIMIT} files in the archive")));
        }
        if entry.path.len() > NAME_LIMIT {
            return Err(io::Error::other(format!("a name of {} bytes in the archive", entry.path.len())));
        }
        let path = String::from_utf8_lossy(&entry.path);
        let path = path.trim_start_matches("./").to_owned();
        match entry.kind {
            Kind::File if entry.sparse.is_none() => {
                files.insert(path, (tar.position(), entry.size));
            }
            Kind::Symlink(target) | Kind::Link(target) if target.len() <= NAME_LIMIT => {
                links.push((path, target));
            }
            _ => {}
        }
    }
    for (path, target) in links {
        let target = String::from_utf8_lossy(&target).into_owned();
        let whole = Path::new(&path).parent().unwrap_or(Path::new("")).join(&target);
        let mut plain = PathBuf::new();
        for part in whole.components() {
            match part {
                std::path::Component::ParentDir => drop(plain.pop()),
                std::path::Component::Normal(part) => plain.push(part),
                _ => {}
            }
        }
        let found =
            [plain.to_string_lossy().into_owned(), target].iter().find_map(|name| files.get(name).copied());
        if let Some(found) = found {
            files.insert(path, found);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_alone_is_no_name() {
        let image = |name: &str| vec![Found { name: Some(name.into()), ..Found::default() }];
        assert!(named(image("latest"), None).is_err_and(|e| e.contains("--name")));
        assert_eq!(named(image("nginx:1"), None).unwrap()[0].0.to_string(), "docker.io/library/nginx:1");
        let given = Reference::parse("x").ok();
        assert_eq!(
            named(image("latest"), given.clone()).unwrap()[0].0.to_string(),
            "docker.io/library/x:latest"
        );
        assert!(named([image("a:1"), image("b:1")].into_iter().flatten().collect(), given).is_err());
        assert!(named(Vec::new(), None).is_err());
    }
}
