//! Who a process of a container is: groups, ids, capabilities, no_new_privs, and the seccomp filter, last before exec.
//! For its first process and for those that are exec'd later, so that both are the same.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp, Process};

use super::capability::{SYS_ADMIN, mask};
use super::program::{Fault, words};
use super::seccomp::Filter;

/// What is still to be done between the last look at files and exec.
pub struct Seal(Option<Filter>);

impl Seal {
    /// From here on only exec is sure to be allowed.
    pub fn close(&self) -> Result<(), Fault> {
        match &self.0 {
            Some(filter) => filter.install().map_err(|errno| failed("seccomp", errno)),
            None => Ok(()),
        }
    }
}

/// Becomes the process that the spec describes. Its filter is made now and installed by the seal.
///
/// Installing needs CAP_SYS_ADMIN unless no_new_privs is set, so that one capability is kept beside the container's
/// own until exec, which takes it away: exec gives a process no more than its bounding set, which is set here before.
/// That way the filter need not allow anything but exec, where runc's must allow what changes users and capabilities.
pub fn assume(process: &Process, seccomp: Option<&LinuxSeccomp>) -> Result<Seal, Fault> {
    let filter = seccomp.map(Filter::compile).transpose();
    let filter = filter.map_err(|why| Fault { code: 126, message: format!("exec: seccomp: {why}") })?;
    let no_new_privs = process.no_new_privileges() == Some(true);
    let kept = if filter.is_some() && !no_new_privs { SYS_ADMIN } else { 0 };

    // Bounding set, groups, ids, then the sets: each step needs what a later one takes away.
    let none = LinuxCapabilities::default();
    let wanted = process.capabilities().as_ref().unwrap_or(&none);
    bound(mask(wanted.bounding())).map_err(|errno| failed("drop capability", errno))?;
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).map_err(|errno| failed("setgroups", errno))?;
    prctl(libc::PR_SET_KEEPCAPS, 1).map_err(|errno| failed("keep capabilities", errno))?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid).map_err(|errno| failed("set group", errno))?;
    setresuid(uid, uid, uid).map_err(|errno| failed("set user", errno))?;
    // What we do not have ourselves (podinit in a container) cannot be given; as runc, that is no error.
    let ours = permitted().map_err(|errno| failed("get capabilities", errno))?;
    let sets = [wanted.effective(), wanted.permitted()].map(|set| (mask(set) | kept) & ours);
    let inheritable = mask(wanted.inheritable()) & ours;
    capset(sets[0], sets[1], inheritable).map_err(|errno| failed("set capabilities", errno))?;
    for number in (0..64).filter(|number| mask(wanted.ambient()) & ours & (1 << number) != 0) {
        // SAFETY: prctl with numbers only.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) } != 0 {
            return Err(failed("raise ambient capability", Errno::last()));
        }
    }
    if no_new_privs {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(|errno| failed("no_new_privs", errno))?;
    }
    Ok(Seal(filter))
}

/// Becomes the root of the user namespace that this process is in. System calls only.
pub fn root() -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// For a helper: keeps these capabilities (a mask) and no others, now and after any exec.
pub fn keep(wanted: u64) -> Result<(), Errno> {
    bound(wanted)?;
    let kept = permitted()? & wanted;
    capset(kept, kept, 0)
}

/// Drops from the bounding set all but these.
fn bound(wanted: u64) -> Result<(), Errno> {
    for number in 0..64 {
        // SAFETY: prctl with numbers only. EINVAL: beyond the kernel's last capability.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
        if known < 0 {
            break;
        }
        if known == 1 && wanted & (1 << number) == 0 {
            prctl(libc::PR_CAPBSET_DROP, number)?;
        }
    }
    Ok(())
}

pub fn prctl(option: i32, value: u64) -> Result<(), Errno> {
    // SAFETY: prctl with numbers only.
    Errno::result(unsafe { libc::prctl(option, value, 0_u64, 0_u64, 0_u64) }).map(drop)
}

/// `struct __user_cap_header_struct`, version 3; pid 0 is ourselves.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

const HEADER: Header = Header { version: 0x2008_0522, pid: 0 };

fn permitted() -> Result<u64, Errno> {
    let (header, mut data) = (HEADER, [[0_u32; 3]; 2]);
    // SAFETY: the kernel reads a header and writes two triples of u32, the layout of version 3.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0][1]) | u64::from(data[1][1]) << 32)
}

fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    let half = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let (header, data) = (HEADER, [half(0), half(32)]);
    // SAFETY: the kernel reads a header and two triples of u32, the layout of version 3.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

fn failed(what: &str, errno: Errno) -> Fault {
    Fault { code: 126, message: format!("exec: {what}: {}", words(errno)) }
}
