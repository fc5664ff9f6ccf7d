//! What a verification of images is asked for, and what it finds. Who asks gives two files in memory: 3 holds the
//! request, 4 takes the answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::repair::{Cure, Finding, Repair};
use super::{Reference, Store, damage, mount};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The store's directory.
    pub store: PathBuf,
    /// Those of others, which are only read: what is damaged is taken from the first that has it whole.
    pub sources: Vec<PathBuf>,
    /// The names of the images, in any form.
    pub images: Vec<String>,
    /// Where layers are mounted.
    pub mounts: PathBuf,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// By the names that were asked for; those that are whole are left out.
    pub damaged: BTreeMap<String, Vec<Finding>>,
    /// What could not be read at all.
    pub troubles: Vec<String>,
}

/// Reads all of these images, puts aside what is damaged, replaces what can be.
pub fn verify(request: &Request) -> Result<Answer, String> {
    let store = Store::open(request.store.clone()).over(&request.sources);
    let sources: Vec<Store> = request.sources.iter().cloned().map(Store::open).collect();
    let mut repair = Repair::new(&store, &sources)?;
    let mut answer = Answer::default();
    for image in &request.images {
        let Some(name) = there(&store, image) else { continue };
        match repair.image(&name) {
            Ok(mut found) => {
                let mounted = mounted_aside(&store, &name, &request.mounts);
                match &mounted {
                    Some((path, aside)) if !found.iter().any(|finding| finding.layer) => {
                        found.push(Finding {
                            why: format!("{}: damaged", path.display()),
                            layer: true,
                            cure: Cure::Before(aside.display().to_string()),
                        })
                    }
                    Some(_) => {}
                    // Nothing runs from what is damaged.
                    None => found.iter_mut().for_each(|finding| finding.layer = false),
                }
                if !found.is_empty() {
                    answer.damaged.insert(image.clone(), found);
                }
            }
            Err(why) => answer.troubles.push(format!("{image}: {why}")),
        }
    }
    Ok(answer)
}

/// The name by which the store has it, whole or damaged.
fn there(store: &Store, image: &str) -> Option<String> {
    if let Ok(Some(found)) = store.find(image) {
        return Some(found.reference);
    }
    let name = Reference::parse(image).ok()?.to_string();
    store.names().is_ok_and(|names| names.contains(&name)).then_some(name)
}

/// The first layer that is mounted from a damaged file: one that was put aside just now, by an operator, or by a
/// verification whose end nobody learned of; or one behind the store.
fn mounted_aside(store: &Store, image: &str, mounts: &Path) -> Option<(PathBuf, PathBuf)> {
    let (_, layers) = store.names_of(image).ok()?;
    let distrusted = damage::distrusted(store);
    layers.iter().find_map(|diff_id| {
        let path = store.layer(diff_id);
        let name = path.file_name()?;
        let behind = distrusted.iter().filter(|path| path.file_name() == Some(name)).cloned();
        [store.aside(&path)].into_iter().chain(behind).find_map(|bad| {
            let name = mount::mount_name(diff_id, &bad).ok()?;
            fs::symlink_metadata(mounts.join(name)).is_ok().then(|| (path.clone(), bad))
        })
    })
}
