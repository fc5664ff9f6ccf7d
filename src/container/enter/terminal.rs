//! A terminal of the container's own for an exec: its slave becomes 0, 1 and 2, its master goes out over the socket.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::SOCKET;

/// Called inside the container's mount namespace, as a session leader, still root. `uid`: who will own the terminal.
pub fn open(uid: u32) -> io::Result<()> {
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
        .open("/dev/ptmx")?;
    // The container's root may have put anything there.
    let about = master.metadata()?;
    if about.rdev() != libc::makedev(5, 2) {
        return Err(io::Error::other("/dev/ptmx is not a terminal multiplexer"));
    }
    let slave = peer(&master)?;
    fchown(&slave, Some(uid), None)?;
    // SAFETY: an ioctl with a number, and dup2 to numbers that are only stdio.
    unsafe {
        if libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY as _, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        for number in 0..3 {
            if libc::dup2(slave.as_raw_fd(), number) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(SOCKET, &[IoSlice::new(b"/dev/ptmx")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// The slave straight from its master: by a path, the container could show us another one.
fn peer(master: &File) -> io::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: the first ioctl reads an int, the second takes flags and returns a new descriptor.
    unsafe {
        if libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        match libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}
