//! OCI images: what a reference means, archives read into layer files, the store that holds them, and their mounts.

/// Archives into the store: OCI layouts and `docker save` tars.
pub mod archive;
/// What a collection sees of the store, and takes away.
pub mod collect;
/// What is damaged, as far as a look tells.
pub mod damage;
/// The EROFS on-disk format, written front to back.
mod erofs;
mod erofs_dir;
mod erofs_read;
mod erofs_xattr;
/// An image out of the store, as an OCI layout.
pub mod export;
/// Directories that a layer does not describe.
mod implied;
/// Archives that lie in directories, imported once each.
pub mod imports;
/// A tar stream to one EROFS file.
pub mod layer;
/// Layers and writable views, mounted.
pub mod mount;
/// PAX extended headers.
mod pax;
/// Which machine an image is for.
pub mod platform;
/// What a pull is asked for, and what it tells.
pub mod pull;
/// Image names.
pub mod reference;
/// A registry's language.
pub mod registry;
/// Damaged files put aside and replaced.
pub mod repair;
/// Room on the disk, and the reserve.
pub mod room;
/// The store: layers, configurations, tags.
pub mod store;
/// Digests and decompression on the way through.
pub mod stream;
/// Reading tar.
mod tarball;
/// What a layer holds, in memory, while it is read.
mod tree;
/// A layer file back to a tar.
pub mod untar;
/// What a verification is asked for, and what it finds.
pub mod verify;
/// Layers sealed by the kernel.
mod verity;

pub use reference::Reference;
pub use store::{Image, Store};

use std::io;
use std::path::Path;

/// The error with the path that it is of.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
