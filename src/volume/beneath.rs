//! Opening below a directory and nowhere else: openat2(2), which resolves and checks in one step.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// How links and mounts on the way are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// No symlink and no other mount, not even of the same file system.
    Strict,
    /// Symlinks that stay beneath, and mounts.
    Inside,
}

/// Opens `name` beneath `parent`. A way that leads out is EXDEV, a forbidden link ELOOP.
pub fn open(parent: BorrowedFd, name: &CStr, flags: i32, way: Way) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    let nofollow = match way {
        Way::Strict => libc::O_NOFOLLOW,
        Way::Inside => 0,
    };
    how.flags = (flags | nofollow | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_BENEATH
        | match way {
            Way::Strict => libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS,
            Way::Inside => libc::RESOLVE_NO_MAGICLINKS,
        };
    let size = std::mem::size_of::<libc::open_how>();
    // A rename elsewhere during the resolution is EAGAIN: the container may do that again and again, but not for ever.
    for _ in 0..128 {
        // SAFETY: the pointers live through the call, and the size is that of the struct.
        let fd = unsafe { libc::syscall(libc::SYS_openat2, parent.as_raw_fd(), name.as_ptr(), &how, size) };
        match Errno::result(fd) {
            // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EAGAIN.into())
}
