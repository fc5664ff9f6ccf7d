//! `podinit pull`: an image from its registry into the store, each layer in one stream: connection, digest,
//! decompression, EROFS, digest. What it is asked and tells is `image::pull`'s.
//!
//! What it hears comes from a network and becomes what runs as root, so it sees the machine's files read-only but for the
//! store, and has no capability. Who started it keeps its memory and its time.

mod download;
mod session;
pub(super) mod shed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oci_spec::image::ImageConfiguration;

use crate::helper::client::FILES;
use crate::image::pull::{self, DONE, FAILED, FULL, Progress, Report, Request};
use crate::image::reference::is_digest;
use crate::image::registry::credentials::{Form, Keyring, Login};
use crate::image::registry::endpoint::endpoints;
use crate::image::registry::manifest::{self, Answer, Blob};
use crate::image::store::Writing;
use crate::image::{Reference, Store, room, stream};
use download::Download;
use session::{Failure, Session};

/// Layers that are pulled at once: each needs a core to decompress.
const AT_ONCE: usize = 2;
/// How often a layer is begun anew whose bytes were wrong.
const BEGINS: u32 = 3;
/// A config.json above this is none.
const KEYRING: u64 = 1 << 20;

pub fn run() -> i32 {
    let Some((request, mut said)) = super::asked::<Request>() else { return 2 };
    let Ok(progress) = File::options().write(true).open("/proc/self/fd/5") else { return 2 };
    let pulled = prepared(&request).and_then(|keys| {
        shed::shed(&request.store)?;
        // Who is refused should know what was not tried.
        pull(&request, &keys, FILES, &progress).map_err(|why| match keys.left_out.as_slice() {
            [] => why,
            left_out => format!("{why} (left out: {})", left_out.join("; ")),
        })
    });
    let (code, text) = match pulled {
        Ok(report) => (DONE, serde_json::to_vec(&report).unwrap_or_default()),
        Err(why) => (if room::is_full(&why) { FULL } else { FAILED }, why.into_bytes()),
    };
    if said.write_all(&text).is_ok() { code } else { 2 }
}

/// The logins that there are.
#[derive(Default)]
struct Keys {
    /// Those of the pod's Secrets, which come first.
    secrets: Keyring,
    /// Those of the machine's file.
    files: Keyring,
    /// What could not be used, and why; never what it says.
    left_out: Vec<String>,
}

/// Reads what only root may read, and makes the store.
fn prepared(request: &Request) -> Result<Keys, String> {
    fs::create_dir_all(&request.store).map_err(|why| format!("{}: {why}", request.store.display()))?;
    let mut keys = Keys::default();
    for secret in &request.secrets {
        if let Some(keyring) =
            keys.read(secret.form, secret.text.as_bytes(), &format!("Secret {}", secret.name))
        {
            keys.secrets.add(keyring);
        }
    }
    // As the kubelet: one that cannot be read is passed over, and told.
    for (form, path) in &request.keyrings {
        let place = path.display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(KEYRING).read_to_end(&mut bytes));
        match read {
            Ok(_) => {
                if let Some(keyring) = keys.read(*form, &bytes, &place) {
                    keys.files = keyring;
                    break;
                }
            }
            Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(why) => keys.left_out.push(format!("{place}: {why}")),
        }
    }
    for why in &keys.left_out {
        eprintln!("pull: {why}");
    }
    Ok(keys)
}

impl Keys {
    fn read(&mut self, form: Form, bytes: &[u8], place: &str) -> Option<Keyring> {
        match Keyring::parse(form, bytes) {
            Ok((keyring, left_out)) => {
                self.left_out.extend(left_out.into_iter().map(|why| format!("{place}: {why}")));
                Some(keyring)
            }
            Err(why) => {
                self.left_out.push(format!("{place}: {why}"));
                None
            }
        }
    }

    /// The logins to be tried in turn.
    fn lookup(&self, image: &Reference) -> Vec<Login> {
        let mut logins = self.secrets.lookup(image);
        for login in self.files.lookup(image) {
            if !logins.contains(&login) {
                logins.push(login);
            }
        }
        logins
    }
}

/// Pulls; `authorities`: the files of which the first that there is tells whom to trust.
fn pull(request: &Request, keys: &Keys, authorities: &[&str], progress: &File) -> Result<Report, String> {
    let image = Reference::parse(&request.image)?;
    let mut sessions = Vec::new();
    for endpoint in endpoints(&image, &request.registries) {
        // A mirror gets its own login, and never the registry's.
        let named = Reference { registry: endpoint.name.clone(), ..image.clone() };
        let given = (endpoint.name == image.registry).then(|| request.login.clone()).flatten();
        let logins: Vec<Login> = given.map_or_else(|| keys.lookup(&named), |login| vec![login]);
        sessions.push(Session::new(endpoint, logins, &request.proxies, authorities)?);
    }
    let what = image.digest.clone().or(image.tag.clone()).unwrap_or_default();
    let (found, at) = resolve(&sessions, &what, request)?;
    // The one that has the manifest is asked for its blobs first, the others where it fails.
    sessions.rotate_left(at);
    let store = Store::open(request.store.clone()).over(&request.behind);
    let writing = store.add()?;
    let bytes = Download::new(&sessions, &found.config).small()?;
    let diff_ids = diff_ids(&bytes, &found, request)?;
    layers(&sessions, &writing, &found.layers, &diff_ids, progress)?;
    let id = found.config.digest.clone();
    writing.add_config(&id, &bytes)?;
    writing.add_tag(&image.to_string(), &found.digest, &id, &diff_ids)?;
    let size = found.layers.iter().map(|layer| layer.size).sum::<u64>() + found.config.size;
    Ok(Report { reference: image.to_string(), digest: found.digest, id, size })
}

/// What a manifest names.
struct Found {
    /// The manifest's.
    digest: String,
    config: Blob,
    layers: Vec<Blob>,
}

/// The manifest for the platform, of the first that has one; and whose it is. The error is the registry's own.
fn resolve(sessions: &[Session], what: &str, request: &Request) -> Result<(Found, usize), String> {
    let mut last = String::new();
    for (at, session) in sessions.iter().enumerate() {
        match found(session, what, request) {
            Ok(found) => return Ok((found, at)),
            Err(why) => last = why.told(&format!("{}:{what}", session.name())),
        }
    }
    Err(last)
}

fn found(session: &Session, what: &str, request: &Request) -> Result<Found, Failure> {
    let (mut what, mut size) = (what.to_owned(), None);
    // An index may lead to a manifest, and to nothing else.
    for _ in 0..2 {
        let (bytes, kind) = session.manifest(&what)?;
        let digest = stream::digest(&bytes);
        if is_digest(&what) && digest != what {
            return Err(Failure::Final(format!("the manifest {what} has the digest {digest}")));
        }
        if let Some(size) = size
            && size != bytes.len() as u64
        {
            return Err(Failure::Final(format!("the manifest {what} has {} bytes, not {size}", bytes.len())));
        }
        match manifest::parse(&bytes, kind.as_deref(), &request.platform).map_err(Failure::Final)? {
            Answer::Image { config, layers } => return Ok(Found { digest, config, layers }),
            Answer::Index(blob) => (what, size) = (blob.digest, Some(blob.size)),
        }
    }
    Err(Failure::Final("the index leads to another index".into()))
}

/// The digests of the uncompressed layers, by the configuration, which must be for the platform and have them all.
fn diff_ids(bytes: &[u8], found: &Found, request: &Request) -> Result<Vec<String>, String> {
    let config: ImageConfiguration =
        serde_json::from_slice(bytes).map_err(|why| format!("the configuration is none: {why}"))?;
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    if request.platform.suits(&os, &architecture, config.variant().as_deref()).is_none() {
        let Request { image, platform, .. } = request;
        return Err(format!("{image} is for {os}/{architecture}, not for {platform}"));
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != found.layers.len() {
        let (here, there) = (found.layers.len(), diff_ids.len());
        return Err(format!("the manifest has {here} layers, the configuration {there}"));
    }
    match diff_ids.iter().find(|diff_id| !is_digest(diff_id)) {
        Some(other) => Err(format!("the configuration's diff id {other:?} is not a sha256 digest")),
        None => Ok(diff_ids.clone()),
    }
}

/// Adds the layers that are not there, some at once. The first that fails ends the others.
fn layers(
    sessions: &[Session],
    writing: &Writing,
    blobs: &[Blob],
    diff_ids: &[String],
    progress: &File,
) -> Result<(), String> {
    let mut todo = VecDeque::new();
    for (at, (blob, diff_id)) in blobs.iter().zip(diff_ids).enumerate() {
        let there = writing.has_layer(diff_id);
        // An empty layer may come more than once.
        if !there && !todo.iter().any(|(_, _, other)| *other == diff_id) {
            todo.push_back((at, blob, diff_id));
        }
        let had = if there { blob.size } else { 0 };
        let _ = pull::tell(progress, at, Progress { done: had, total: blob.size, had });
    }
    // Only the compressed sizes are known; a layer is hardly ever smaller as a file system.
    writing.fits(todo.iter().fold(0, |sum, (_, blob, _)| sum.saturating_add(blob.size)))?;
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (threads, todo) = (todo.len().min(AT_ONCE).min(cores), Mutex::new(todo));
    let (stop, trouble) = (AtomicBool::new(false), Mutex::new(None));
    let work = || {
        loop {
            let next = todo.lock().ok().and_then(|mut todo| todo.pop_front());
            let Some((at, blob, diff_id)) = next.filter(|_| !stop.load(Ordering::Relaxed)) else { return };
            let heard = |done: u64| {
                let _ = pull::tell(progress, at, Progress { done, total: blob.size, had: 0 });
            };
            if let Err(why) = layer(sessions, writing, (blob, diff_id), &heard, &stop) {
                if let Ok(mut trouble) = trouble.lock()
                    && !stop.swap(true, Ordering::Relaxed)
                {
                    *trouble = Some(why);
                }
                return;
            }
            heard(blob.size);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    trouble.into_inner().unwrap_or_default().map_or(Ok(()), Err)
}

/// One layer. Where its bytes were wrong it is begun anew, from the next endpoint.
fn layer(
    sessions: &[Session],
    writing: &Writing,
    (blob, diff_id): (&Blob, &String),
    heard: &(dyn Fn(u64) + Sync),
    stop: &AtomicBool,
) -> Result<(), String> {
    let mut last = String::new();
    for begin in 0..BEGINS {
        let mut download = Download::new(sessions, blob).begin(begin as usize).watched(heard, stop);
        match writing.add_layer(diff_id, Some(&blob.digest), &mut download) {
            Ok(()) => return Ok(()),
            // No connection, or nobody has it: what could be done was done.
            Err(_) if download.failure().is_some() => {
                return Err(download.failure().unwrap_or_default().to_owned());
            }
            Err(fault) if fault.wrong_bytes => last = fault.why,
            // They are what the digest stands for, or we cannot keep them: no other bytes would do.
            Err(fault) => return Err(fault.why),
        }
        eprintln!("pull: {last}: begun anew");
    }
    Err(last)
}
