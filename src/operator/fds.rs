//! Descriptors over a unix socket (SCM_RIGHTS), for both ends.
#![allow(unsafe_code)]

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockFlag, UnixAddr, accept4, sendmsg};

/// The most descriptors that the kernel lets one message carry (SCM_MAX_FD). Room for all of them: those that do not
/// fit would stay open and nameless.
const MOST: usize = 253;

/// Takes up a connection: non-blocking, close-on-exec.
pub fn accept(socket: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let fd = accept4(socket.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 just made this descriptor, and no one else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `bytes` (at least one) with these descriptors; returns how many bytes went. Raises no SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<usize> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
}

/// Receives up to `buffer.len()` bytes and adds the descriptors that came with them, close-on-exec.
/// `Ok(0)` is the end.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> nix::Result<usize> {
    const SPACE: usize = 64 + MOST * size_of::<RawFd>();
    // As u64 for the alignment that a control message wants.
    let mut control = [MaybeUninit::<u64>::zeroed(); SPACE / size_of::<u64>() + 1];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // The field's type differs between C libraries.
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message points to a buffer and a control area of the lengths given, both alive for the call.
    let size = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let size = Errno::result(size)?;
    // SAFETY: the kernel filled in the control area and its length; the macros walk within it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // Looked at even where the kernel says that some did not fit (MSG_CTRUNC): those that did are open.
    while !header.is_null() {
        // SAFETY: a header that is not null lies whole within the control area.
        let (level, kind, length) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: pure arithmetic.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            for at in 0..length.saturating_sub(head) / size_of::<RawFd>() {
                // SAFETY: the kernel wrote so many descriptors behind the header, each newly made for us alone.
                descriptors.push(unsafe {
                    let data = libc::CMSG_DATA(header).cast::<RawFd>();
                    OwnedFd::from_raw_fd(data.add(at).read_unaligned())
                });
            }
        }
        // SAFETY: as for the first one.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(size as usize)
}
