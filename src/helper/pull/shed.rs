//! What a pull gives up before it hears anything: all files but the store become read-only, and every capability goes.
//! It stays root, as the store's files are root's.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;

use crate::container::identity;

/// `struct mount_attr` and MOUNT_ATTR_RDONLY (linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    users: u64,
}

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
    set(Path::new("/"), libc::AT_RECURSIVE, &Attributes { set: RDONLY, ..Attributes::default() })?;
    set(store, 0, &Attributes { clear: RDONLY, ..Attributes::default() })
}

fn set(path: &Path, more: libc::c_int, attributes: &Attributes) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the kernel reads a string that outlives the call, and as many bytes of the attributes as it is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            more,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
