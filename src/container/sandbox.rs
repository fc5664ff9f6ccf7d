//! A pod's sandbox without a process: user, net, ipc and uts namespaces held by bind mounts, and its /dev/shm.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, pipe2};

use super::child::{CLEAR_SIGHAND, clone3};
use crate::pod::sysctl;
use crate::pod::users::Ids;

/// The size of /dev/shm, as containerd has it.
const SHM: &str = "mode=1777,size=65536k";

/// The names under `ns/`, as far as the pod has its own; `pid` is held by `pause`.
const NAMESPACES: [&str; 5] = ["ipc", "uts", "net", "pid", USER];

/// The user namespace under `ns/`, which owns the others.
pub const USER: &str = "user";

/// What a pod wants of its sandbox.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sandbox<'a> {
    pub host_network: bool,
    pub host_ipc: bool,
    /// A user namespace of its own, of these ids. It shares no other with the machine then.
    pub ids: Option<Ids>,
    pub hostname: &'a str,
    /// Names in normal form (see `pod::sysctl`), judged before.
    pub sysctls: &'a [(String, String)],
}

/// Makes `<dir>/ns/{ipc,uts,net,user}` and `<dir>/shm`. `dir` may exist; on an error nothing half-made is left of it but
/// empty directories. Our own namespaces stay as they are: a short-lived child is born in the new ones, names its
/// host, raises `lo`, sets the sysctls, and waits until they are held here.
pub fn set_up(dir: &Path, wanted: &Sandbox) -> io::Result<()> {
    let made = make(dir, wanted);
    if made.is_err() {
        let _ = tear_down(dir);
    }
    made
}

/// Lets go of what `set_up` made, whole or half; may be repeated.
pub fn tear_down(dir: &Path) -> io::Result<()> {
    let ns = dir.join("ns");
    for path in NAMESPACES.map(|name| ns.join(name)).iter().chain([&ns, &dir.join("shm")]) {
        unmount(path)?;
    }
    for path in [ns, dir.join("shm")] {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(context(&error, "remove", &path));
            }
            _ => {}
        }
    }
    Ok(())
}

fn make(dir: &Path, wanted: &Sandbox) -> io::Result<()> {
    let ns = dir.join("ns");
    let shm = dir.join("shm");
    for path in [&ns, &shm] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .map_err(|error| context(&error, "make", path))?;
    }
    // A mount of its own, private: under a shared one every other mount namespace would hold the namespaces as well.
    attach(Some(&ns), &ns, None, MsFlags::MS_BIND)?;
    attach(None, &ns, None, MsFlags::MS_PRIVATE)?;

    let names = [
        (wanted.ids.is_some(), &[USER][..]),
        (!wanted.host_ipc, &["ipc"]),
        (!wanted.host_network, &["uts", "net"]),
    ];
    let names: Vec<_> = names.into_iter().filter(|(own, _)| *own).flat_map(|(_, names)| names).collect();
    if !names.is_empty() {
        let child = Newborn::bear(wanted)?;
        for name in names {
            let path = ns.join(name);
            File::create(&path).map_err(|error| context(&error, "make", &path))?;
            let source = format!("/proc/{}/ns/{name}", child.pid);
            attach(Some(Path::new(&source)), &path, None, MsFlags::MS_BIND)?;
        }
    }

    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let root = wanted.ids.map_or(0, |ids| ids.first);
    let options = format!("{SHM},uid={root},gid={root}");
    mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|error| context(&error.into(), "mount shm on", &shm))?;
    // Where the machine's umask or an old kernel had its say.
    fs::set_permissions(&shm, Permissions::from_mode(0o1777)).map_err(|error| context(&error, "chmod", &shm))
}

/// A child in new namespaces; dropped, it ends and is reaped.
struct Newborn {
    pid: i32,
    /// The child lives until this end is closed: by our drop, or by our death.
    leash: Option<OwnedFd>,
}

impl Newborn {
    fn bear(wanted: &Sandbox) -> io::Result<Newborn> {
        let name = CString::new(wanted.hostname)?;
        let settings = Setting::all(wanted)?;
        let (ready, tell) = pipe2(OFlag::O_CLOEXEC)?;
        let (hold, leash) = pipe2(OFlag::O_CLOEXEC)?;
        let mut flags = 0;
        if !wanted.host_ipc {
            flags |= libc::CLONE_NEWIPC as u64;
        }
        if !wanted.host_network {
            flags |= (libc::CLONE_NEWUTS | libc::CLONE_NEWNET) as u64;
        }
        if wanted.ids.is_some() {
            // In one call, so that it owns the others.
            flags |= libc::CLONE_NEWUSER as u64;
        }
        let pid = match clone3(flags | CLEAR_SIGHAND, 0).map_err(|error| refused(error, wanted))? {
            0 => {
                // SAFETY: only system calls until _exit; nothing is allocated, nothing of ours is dropped.
                unsafe {
                    libc::close(leash.as_raw_fd());
                    let mut byte = 0_u8;
                    // Its ids are mapped by then.
                    libc::read(hold.as_raw_fd(), (&raw mut byte).cast(), 1);
                    let mut fault = [if wanted.host_network { 0 } else { furnish(&name) }, -1];
                    if fault[0] == 0 {
                        fault = set(&settings);
                    }
                    libc::write(tell.as_raw_fd(), (&raw const fault).cast(), size_of::<[i32; 2]>());
                    libc::read(hold.as_raw_fd(), (&raw mut byte).cast(), 1);
                    libc::_exit(0)
                }
            }
            pid => pid,
        };
        let child = Newborn { pid, leash: Some(leash) };
        drop((tell, hold));
        if let Some(ids) = wanted.ids {
            map(pid, ids)?;
        }
        if let Some(leash) = &child.leash {
            nix::unistd::write(leash, b"g")?;
        }
        let mut answer = [0; 8];
        let count = loop {
            match nix::unistd::read(&ready, &mut answer) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        let [a, b, c, d, rest @ ..] = answer;
        match (count, i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes(rest)) {
            (8, 0, _) => Ok(child),
            (8, fault, index) => {
                let error = io::Error::from_raw_os_error(fault);
                let setting = usize::try_from(index).ok().and_then(|index| settings.get(index));
                let what = match setting {
                    Some(setting) => format!("sysctl {}", setting.name),
                    None => format!("furnish namespaces for {:?}", wanted.hostname),
                };
                Err(io::Error::new(error.kind(), format!("{what}: {error}")))
            }
            _ => Err(io::Error::other("the child that makes the namespaces died")),
        }
    }
}

/// Gives a new user namespace its ids, of both kinds.
fn map(pid: i32, ids: Ids) -> io::Result<()> {
    for kind in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{kind}");
        fs::write(&path, format!("0 {} {}", ids.first, ids.count))
            .map_err(|error| context(&error, "map ids by", Path::new(&path)))?;
    }
    Ok(())
}

/// A kernel's plain words for want of a user namespace, made plainer.
fn refused(error: io::Error, wanted: &Sandbox) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) if wanted.ids.is_some() => {
            io::Error::other("hostUsers: false: this kernel has no user namespaces (CONFIG_USER_NS)")
        }
        Some(libc::ENOSPC) if wanted.ids.is_some() => io::Error::other(
            "hostUsers: false: the machine's user.max_user_namespaces allows no more of them",
        ),
        _ => error,
    }
}

/// One sysctl, ready to be written without an allocation.
struct Setting {
    name: String,
    path: CString,
    value: String,
    /// One of our defaults: a kernel without it, or a /proc/sys that may not be written, is no trouble.
    default: bool,
}

impl Setting {
    /// The defaults for a network of its own, then the pod's.
    fn all(wanted: &Sandbox) -> io::Result<Vec<Setting>> {
        let defaults = if wanted.host_network { &[][..] } else { sysctl::DEFAULTS };
        // The machine's groups up to the last are not the pod's to allow.
        let defaults = defaults.iter().filter(|(name, _)| wanted.ids.is_none() || *name != sysctl::PING);
        let defaults = defaults.map(|(name, value)| (*name, *value, true));
        let own = wanted.sysctls.iter().map(|(name, value)| (name.as_str(), value.as_str(), false));
        let setting = |(name, value, default): (&str, &str, bool)| {
            let path = CString::new(sysctl::path(name))?;
            Ok(Setting { name: name.into(), path, value: value.into(), default })
        };
        defaults.chain(own).map(setting).collect()
    }
}

/// Sets them in our own namespaces; an errno and which one, or 0 and -1. Called in the child: system calls only.
///
/// # Safety
/// Always safe to call; see `furnish`.
unsafe fn set(settings: &[Setting]) -> [i32; 2] {
    for (setting, index) in settings.iter().zip(0..) {
        let value = setting.value.as_bytes();
        // SAFETY: plain system calls on strings that outlive them.
        let write = || unsafe {
            let file = libc::open(setting.path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            file >= 0 && libc::write(file, value.as_ptr().cast(), value.len()) == value.len() as isize
        };
        // Those of ipc belong to the machine's root up to Linux 6.8, and from then on to the namespace's: first we are
        // the one, then the other (or the same once more, without a user namespace).
        // SAFETY: a plain system call on numbers.
        let done = write() || unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) == 0 } && write();
        let error = Errno::last_raw();
        let forgiven = setting.default && matches!(error, libc::ENOENT | libc::EROFS | libc::EACCES);
        if !done && !forgiven {
            return [error, index];
        }
    }
    [0, -1]
}

impl Drop for Newborn {
    fn drop(&mut self) {
        self.leash = None;
        while waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::empty())) == Err(Errno::EINTR) {}
    }
}

/// Names the host and raises `lo`; an errno, or 0. Called in the child: system calls only.
///
/// # Safety
/// Always safe to call; it is the child's part of `bear` and so runs between fork and _exit.
unsafe fn furnish(hostname: &CString) -> i32 {
    // SAFETY: plain system calls on locals that outlive them; an all-zero ifreq is a valid one.
    unsafe {
        let bytes = hostname.to_bytes();
        if libc::sethostname(bytes.as_ptr().cast(), bytes.len()) != 0 {
            return Errno::last_raw();
        }
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        // A kernel without IPv4 has no lo to raise by this door.
        if socket < 0 {
            return if Errno::last() == Errno::EAFNOSUPPORT { 0 } else { Errno::last_raw() };
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = *byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) != 0 {
            return Errno::last_raw();
        }
        0
    }
}

fn attach(source: Option<&Path>, target: &Path, kind: Option<&str>, flags: MsFlags) -> io::Result<()> {
    mount(source, target, kind, flags, None::<&str>).map_err(|error| context(&error.into(), "mount", target))
}

/// All mounts on top of one another; a path that is no mount point or is not there is fine.
pub(super) fn unmount(path: &Path) -> io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(context(&error.into(), "unmount", path)),
        }
    }
}

fn context(error: &io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}
