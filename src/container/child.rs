//! What every new process of ours needs: a fork by clone3, clean signals, marked descriptors. System calls only, so
//! that a child may use them before exec.
#![allow(unsafe_code)]

use std::io;

use libc::{c_int, c_uint};

/// Caught signals get their default disposition in the child (Linux 5.5): no handler of ours runs there.
pub const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// The child is born in the given cgroup (Linux 5.7).
pub const INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3 as fork: 0 in the child. `cgroup`: a descriptor, used with CLONE_INTO_CGROUP.
pub fn clone3(flags: u64, cgroup: u64) -> io::Result<i32> {
    /// `struct clone_args` up to its third version (Linux 5.7), all the kernel needs to know of.
    #[repr(C)]
    #[derive(Default)]
    struct Args {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let args = Args { flags, exit_signal: libc::SIGCHLD as u64, cgroup, ..Args::default() };
    // SAFETY: the kernel reads `size_of::<Args>()` bytes of `args`; without CLONE_VM the child has its own copy of
    // everything, so it is a fork.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<Args>()) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid as i32),
    }
}

/// Marks the descriptors `first..=last`; by hand before Linux 5.11.
pub fn close_on_exec(first: c_uint, last: c_uint) -> bool {
    // SAFETY: plain system calls on numbers.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return true;
        }
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return false;
        }
        let last = libc::rlim_t::from(last).min(limit.rlim_cur) as c_int;
        for fd in first as c_int..=last {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        true
    }
}

/// Every signal's default disposition (exec keeps ignored ones: Rust ignores SIGPIPE) and an empty mask. By the raw
/// calls: the C library would leave out its own two signals, which may have come to us ignored as well.
pub fn clean_signals() -> bool {
    // The kernel's sigaction and sigset: all zero is SIG_DFL without flags, and the empty set.
    let zero = [0_u64; 8];
    // SAFETY: the kernel reads at most 32 bytes of an action and 8 of a set.
    unsafe {
        for signal in 1..=64 {
            // KILL and STOP refuse, which is as well.
            libc::syscall(libc::SYS_rt_sigaction, signal, zero.as_ptr(), 0, 8);
        }
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, zero.as_ptr(), 0, 8) == 0
    }
}
