//! What a pull gives up before it hears anything: all files but the store become read-only, and every capability goes.
//! It stays root, as the store's files are root's.

use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;

use crate::container::identity;
use crate::container::mapped::{self, Attributes};

/// MOUNT_ATTR_RDONLY (linux/mount.h).
const RDONLY: u64 = 1;

pub fn shed(store: &Path) -> Result<(), String> {
    let told = |what: &str, why: &dyn std::fmt::Display| format!("cannot give up {what}: {why}");
    // A kernel before 5.12 has no such mounts: then it goes without.
    if let Err(why) = confine(store)
        && why.raw_os_error() != Some(libc::ENOSYS)
    {
        return Err(told("the machine's files", &why));
    }
    identity::keep(0).map_err(|why| told("root's powers", &why))?;
    prctl::set_no_new_privs().map_err(|why| told("root's powers", &why))?;
    // Who asked has no use for the image any more, once it is gone.
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(|why| told("life", &why))
}

fn confine(store: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(store), store, none, MsFlags::MS_BIND, none)?;
    let root = Attributes { set: RDONLY, ..Attributes::default() };
    mapped::change(libc::AT_FDCWD, Path::new("/"), libc::AT_RECURSIVE, &root)?;
    mapped::change(libc::AT_FDCWD, store, 0, &Attributes { clear: RDONLY, ..Attributes::default() })
}
