//! The child's part of an exec: from a fork of the helper to the program inside the container.
//!
//! The helper has one thread, so its fork may allocate.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, execve, setgroups, setresgid, setresuid, setsid};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, PosixRlimit, PosixRlimitType, Process};

use super::super::child::{clean_signals, close_on_exec};
use super::super::program::{self, Fault, words};
use super::{Request, terminal};

/// Becomes the requested process; only returns when it cannot. `tell`: the pipe whose reading end is the helper's.
pub fn run(request: &Request, pidfd: &OwnedFd, tell: RawFd) -> Fault {
    match prepare(request, pidfd, tell) {
        Ok((path, args, env)) => match execve(&path, &args, &env) {
            Ok(never) => match never {},
            Err(errno) => Fault::new(&path.to_string_lossy(), errno),
        },
        Err(fault) => fault,
    }
}

/// Tells the helper, and ends without a word to anyone else.
pub fn end(fault: &Fault, tell: RawFd) -> ! {
    let mut bytes = vec![fault.code as u8];
    bytes.extend_from_slice(fault.message.as_bytes());
    // SAFETY: a plain write; _exit runs nothing of the helper's that this fork has copied.
    unsafe {
        libc::write(tell, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(fault.code)
    }
}

type Image = (CString, Vec<CString>, Vec<CString>);

fn prepare(request: &Request, pidfd: &OwnedFd, tell: RawFd) -> Result<Image, Fault> {
    let process = &request.process;
    // With the machine's files still in sight.
    if let Some(score) = process.oom_score_adj() {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|error| trouble("oom_score_adj", &error))?;
    }
    for limit in process.rlimits().iter().flatten() {
        set_rlimit(limit).map_err(|error| trouble(&format!("{}", limit.typ()), &error))?;
    }
    setsid().map_err(|errno| failed("setsid", errno))?;
    namespaces(pidfd).map_err(|errno| failed("enter namespaces", errno))?;
    if request.tty {
        terminal::open(process.user().uid()).map_err(|error| trouble("terminal", &error))?;
    }
    umask(Mode::from_bits_truncate(process.user().umask().unwrap_or(0o022)));
    // Before and after the change of user: either may be the one who may enter it.
    let early = chdir(process.cwd());
    identity(process)?;
    if early.is_err() {
        let cwd = process.cwd().display();
        chdir(process.cwd()).map_err(|errno| failed(&format!("chdir to {cwd}"), errno))?;
    }
    // A working directory reached through a descriptor of ours has no name inside.
    std::env::current_dir().ok().filter(|path| path.is_absolute()).ok_or_else(|| {
        let cwd = process.cwd().display();
        Fault { code: 126, message: format!("exec: chdir to {cwd}: outside of the container") }
    })?;
    leash(tell)?;

    let env = process.env().as_deref().unwrap_or_default();
    let program = request.args.first().map_or("", String::as_str);
    let path = program::find(program, program::search_path(env))?;
    let words =
        |list: &[String]| list.iter().map(|word| CString::new(word.as_str())).collect::<Result<Vec<_>, _>>();
    let nul = |_| Fault::new(program, Errno::EINVAL);
    let image = (
        CString::new(path.as_str()).map_err(nul)?,
        words(&request.args).map_err(nul)?,
        words(env).map_err(nul)?,
    );
    if !(close_on_exec(3, u32::MAX) && clean_signals()) {
        return Err(failed("clean up", Errno::last()));
    }
    Ok(image)
}

/// Everything of the container's; its user namespace only where that is not ours already (the kernel refuses that).
fn namespaces(pidfd: &OwnedFd) -> Result<(), Errno> {
    let rest = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    setns(pidfd.as_fd(), rest)
}

/// Bounding set, groups, ids, then the sets: each step needs what a later one takes away.
fn identity(process: &Process) -> Result<(), Fault> {
    let none = LinuxCapabilities::default();
    let wanted = process.capabilities().as_ref().unwrap_or(&none);
    let bounding = mask(wanted.bounding());
    for number in 0..64 {
        // SAFETY: prctl with numbers only. EINVAL: beyond the kernel's last capability.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
        if known < 0 {
            break;
        }
        if known == 1 && bounding & (1 << number) == 0 {
            prctl(libc::PR_CAPBSET_DROP, number).map_err(|errno| failed("drop capability", errno))?;
        }
    }
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).map_err(|errno| failed("setgroups", errno))?;
    prctl(libc::PR_SET_KEEPCAPS, 1).map_err(|errno| failed("keep capabilities", errno))?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid).map_err(|errno| failed("set group", errno))?;
    setresuid(uid, uid, uid).map_err(|errno| failed("set user", errno))?;
    capset(mask(wanted.effective()), mask(wanted.permitted()), mask(wanted.inheritable()))
        .map_err(|errno| failed("set capabilities", errno))?;
    for number in (0..64).filter(|number| mask(wanted.ambient()) & (1 << number) != 0) {
        // SAFETY: prctl with numbers only.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) } != 0 {
            return Err(failed("raise ambient capability", Errno::last()));
        }
    }
    if process.no_new_privileges() == Some(true) {
        // SAFETY: prctl with numbers only.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(failed("no_new_privs", Errno::last()));
        }
    }
    Ok(())
}

/// Dies with the helper. Set after the change of user, which clears it; the helper's end before that is seen by the
/// pipe, of which only it has the reading end.
fn leash(tell: RawFd) -> Result<(), Fault> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).map_err(|errno| failed("set death signal", errno))?;
    let mut poll = libc::pollfd { fd: tell, events: 0, revents: 0 };
    // SAFETY: one pollfd, as told; no wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    match poll.revents & libc::POLLERR {
        0 => Ok(()),
        _ => Err(Fault { code: 126, message: "exec: the helper is gone".into() }),
    }
}

fn prctl(option: i32, value: u64) -> Result<(), Errno> {
    // SAFETY: prctl with numbers only.
    Errno::result(unsafe { libc::prctl(option, value, 0_u64, 0_u64, 0_u64) }).map(drop)
}

fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    /// `struct __user_cap_header_struct` and two `__user_cap_data_struct`, version 3.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let half = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let data = [half(0), half(32)];
    // SAFETY: the kernel reads a header and two triples of u32, the layout of version 3.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

fn set_rlimit(limit: &PosixRlimit) -> io::Result<()> {
    let resource = match limit.typ() {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    let limit = libc::rlimit { rlim_cur: limit.soft(), rlim_max: limit.hard() };
    // SAFETY: the kernel reads one rlimit.
    match unsafe { libc::setrlimit(resource, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mask(set: &Option<Capabilities>) -> u64 {
    set.iter().flatten().fold(0, |mask, capability| mask | 1 << number(*capability))
}

/// The kernel's number (linux/capability.h).
fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}

fn failed(what: &str, errno: Errno) -> Fault {
    Fault { code: 126, message: format!("exec: {what}: {}", words(errno)) }
}

fn trouble(what: &str, error: &io::Error) -> Fault {
    Fault { code: 126, message: format!("exec: {what}: {error}") }
}
