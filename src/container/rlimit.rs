//! The resource limits of every container: explicit, so that none is PID 1's by accident.
#![allow(unsafe_code)]

use std::io;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

/// One limit: soft and hard, `u64::MAX` for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    pub kind: PosixRlimitType,
    pub soft: u64,
    pub hard: u64,
}

/// What a service gets from a current Linux: 1024 files and up to 524288 for who asks (a higher soft limit makes old
/// programs close a million descriptors at each fork), 8 MiB of locked memory, no core dumps unless asked for.
pub const DEFAULT: &[Rlimit] = &[
    Rlimit { kind: PosixRlimitType::RlimitNofile, soft: 1024, hard: 524_288 },
    Rlimit { kind: PosixRlimitType::RlimitMemlock, soft: 8 << 20, hard: 8 << 20 },
    Rlimit { kind: PosixRlimitType::RlimitCore, soft: 0, hard: RLIM_INFINITY },
];

/// The default limits, lowered to our own hard limits where we may not exceed those (`podinit run` in a container).
pub fn possible() -> Vec<Rlimit> {
    let raise = may_raise(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    DEFAULT.iter().map(|limit| if raise { *limit } else { clamp(*limit, ours(limit.kind)) }).collect()
}

/// Sets one of our own.
pub fn set(limit: &PosixRlimit) -> io::Result<()> {
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

fn clamp(limit: Rlimit, ceiling: u64) -> Rlimit {
    Rlimit { kind: limit.kind, soft: limit.soft.min(ceiling), hard: limit.hard.min(ceiling) }
}

fn ours(kind: PosixRlimitType) -> u64 {
    let resource = match kind {
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        _ => Resource::RLIMIT_CORE,
    };
    getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard)
}

/// CAP_SYS_RESOURCE, bit 24 of CapEff in /proc/self/status.
fn may_raise(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0");
    u64::from_str_radix(line.trim(), 16).is_ok_and(|set| set & (1 << 24) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_stay_below_a_ceiling() {
        let [files, ..] = DEFAULT else { panic!("no limits") };
        assert_eq!(clamp(*files, 20_000), Rlimit { hard: 20_000, ..*files });
        assert_eq!(clamp(*files, 512), Rlimit { soft: 512, hard: 512, ..*files });
        assert_eq!(clamp(*files, u64::MAX), *files);
    }

    #[test]
    fn the_capability_is_read_from_its_bit() {
        assert!(may_raise("Name:\tx\nCapEff:\t0000000001000000\n"));
        assert!(may_raise("CapEff:\t000001ffffffffff\n"));
        assert!(!may_raise("CapEff:\t000001fffeffffff\n"));
        assert!(!may_raise(""));
    }
}
