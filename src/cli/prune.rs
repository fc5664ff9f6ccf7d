//! `podinit image prune -a`, and what `image list` tells of use. Only PID 1 knows what is in use, so it is asked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ask;
use super::image::size;
use crate::image::Store;
use crate::image::collect::{Found, Gone};
use crate::operator::request::{Answer, Request};
use crate::pod::collect::Used;

/// Images that no pod uses go, and files that no name leads to. `force`: also where it is not known what is in use.
pub fn all(store: &Store, dir: &Path, socket: &Path, force: bool) -> Result<(), String> {
    // From now on nothing is added; what a pod came to want meanwhile PID 1 tells.
    let writing = store.write()?;
    let used = match used(dir, socket) {
        Ok((used, true)) => used,
        Ok((used, false)) if force => used,
        Ok((_, false)) => {
            return Err(
                "not all that is in use is known: a manifest is refused (podinit get problems), or another \
                        podinit has the same store; --force removes what is not known to be in use"
                    .to_owned(),
            );
        }
        Err(_) if force => Used::default(),
        Err(why) => {
            return Err(format!(
                "it is not known what is in use: {why}; --force removes all images that are not pinned"
            ));
        }
    };
    let all = store.survey(&used.names, &used.ids)?;
    let going = all.iter().filter(|image| !image.in_use && !image.pinned).map(|image| image.id.clone());
    let images = writing.collect(&all, &going.collect::<Vec<_>>())?;
    images.names.iter().for_each(|name| println!("removed {name}"));
    let left: Vec<Found> = all.into_iter().filter(|image| image.in_use || image.pinned).collect();
    let nothing = |_: &Path, _: Duration| false;
    let Gone { files, bytes, .. } = writing.collect_orphans(&left, nothing)?;
    println!("removed {} files, {}", images.files + files, size(images.bytes + bytes));
    Ok(())
}

/// The ids of images in use, where PID 1 runs pods from this store.
pub fn in_use(store: &Store, dir: &Path, socket: &Path) -> Option<BTreeSet<String>> {
    let (used, _) = used(dir, socket).ok()?;
    let all = store.survey(&used.names, &used.ids).ok()?;
    Some(all.into_iter().filter(|image| image.in_use).map(|image| image.id).collect())
}

/// What PID 1 says of this store, and whether that is all. The error tells why it does not.
fn used(dir: &Path, socket: &Path) -> Result<(Used, bool), String> {
    match ask::ask(socket, &Request::Images {}).map_err(|failure| failure.text)? {
        Answer::Images { store, used, certain } if whole(&store) == whole(dir) => Ok((used, certain)),
        Answer::Images { store, .. } => {
            let (theirs, ours) = (store.display(), dir.display());
            Err(format!("podinit at {} runs pods from {theirs}, not from {ours}", socket.display()))
        }
        other => Err(ask::unexpected(&other).text),
    }
}

fn whole(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
