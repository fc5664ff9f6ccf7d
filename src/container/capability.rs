//! Capabilities: which ones a container gets, and their numbers in the kernel's sets.

use oci_spec::runtime::{Capabilities, Capability};

use super::defaults::CAPABILITIES;
use crate::pod::spec::Security;

/// All, by their number (linux/capability.h).
pub const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The bit of CAP_SYS_ADMIN.
pub const SYS_ADMIN: u64 = 1 << 21;

/// What a container may have: the defaults, with what it adds and without what it drops (containerd's order: ALL is
/// added, ALL is dropped, then the single ones are added and dropped). `filter`: whether the kernel keeps it from
/// devices; else a node that it made would open the machine's disk, so MKNOD is none of the defaults.
pub fn of(security: &Security, filter: bool) -> Result<Capabilities, String> {
    let all = || ALL.into_iter().collect::<Capabilities>();
    if security.privileged {
        return Ok(all());
    }
    let defaults = CAPABILITIES.iter().copied().filter(|one| filter || *one != Capability::Mknod);
    let mut set: Capabilities = defaults.collect();
    let everything = |list: &[String]| list.iter().any(|name| bare(name) == "ALL");
    if everything(&security.add) {
        set = all();
    }
    if everything(&security.drop) {
        set.clear();
    }
    for name in security.add.iter().filter(|name| bare(name) != "ALL") {
        set.insert(named(name)?);
    }
    for name in security.drop.iter().filter(|name| bare(name) != "ALL") {
        set.remove(&named(name)?);
    }
    Ok(set)
}

fn bare(name: &str) -> String {
    let capitals = name.to_ascii_uppercase();
    capitals.strip_prefix("CAP_").map_or(capitals.clone(), str::to_owned)
}

fn named(name: &str) -> Result<Capability, String> {
    bare(name).parse().map_err(|_| {
        format!(
            "capability {name:?}: there is none of this name; use one of capabilities(7), such as NET_ADMIN"
        )
    })
}

/// The kernel's bits of an OCI set.
pub fn mask(set: &Option<Capabilities>) -> u64 {
    let number = |one: &Capability| ALL.iter().position(|known| known == one);
    set.iter().flatten().filter_map(number).fold(0, |mask, number| mask | 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(add: &[&str], drop: &[&str]) -> Result<Vec<String>, String> {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let security = Security { add: words(add), drop: words(drop), ..Security::default() };
        Ok(of(&security, true)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn added_and_dropped_as_the_container_asks() {
        let defaults = made(&[], &[]).expect("defaults");
        assert_eq!(defaults.len(), 14);
        let sorted = |mut list: Vec<String>| {
            list.sort();
            list
        };
        let with = |name: &str| sorted(defaults.iter().cloned().chain([name.to_owned()]).collect());
        let without =
            |name: &str| sorted(defaults.iter().filter(|one| *one != name).cloned().collect::<Vec<_>>());
        let all = sorted(ALL.iter().map(ToString::to_string).collect());
        let all_but = |name: &str| all.iter().filter(|one| *one != name).cloned().collect::<Vec<_>>();
        let only = |name: &str| vec![name.to_owned()];
        type Row<'a> = (&'a [&'a str], &'a [&'a str], Vec<String>);
        let table: &[Row] = &[
            (&["NET_ADMIN"], &[], with("NET_ADMIN")),
            (&["CAP_NET_ADMIN"], &[], with("NET_ADMIN")),
            (&["net_admin"], &[], with("NET_ADMIN")),
            (&["CHOWN"], &[], sorted(defaults.clone())),
            (&[], &["CHOWN"], without("CHOWN")),
            (&[], &["CAP_CHOWN"], without("CHOWN")),
            (&[], &["SYS_ADMIN"], sorted(defaults.clone())),
            (&["ALL"], &[], all.clone()),
            (&["CAP_ALL"], &["SYS_ADMIN"], all_but("SYS_ADMIN")),
            (&[], &["ALL"], vec![]),
            (&["NET_BIND_SERVICE"], &["ALL"], only("NET_BIND_SERVICE")),
            (&["ALL"], &["ALL"], vec![]),
            (&["ALL", "SYS_TIME"], &["all"], only("SYS_TIME")),
            (&["SYS_TIME"], &["SYS_TIME"], sorted(defaults.clone())),
        ];
        for (add, drop, wanted) in table {
            assert_eq!(sorted(made(add, drop).expect("a set")), *wanted, "add {add:?}, drop {drop:?}");
        }
        let error = made(&["NET_ADMN"], &[]).expect_err("a typo");
        assert!(error.starts_with("capability \"NET_ADMN\": there is none of this name"), "{error}");
        assert!(made(&[], &["SYS_ADMINISTRATOR"]).is_err());
    }

    #[test]
    fn without_a_device_filter_nobody_makes_nodes_unasked() {
        let plain = of(&Security::default(), false).expect("a set");
        assert!(!plain.contains(&Capability::Mknod) && plain.len() == 13);
        let asked = Security { add: vec!["MKNOD".into()], ..Security::default() };
        assert!(of(&asked, false).expect("a set").contains(&Capability::Mknod));
        let privileged = Security { privileged: true, drop: vec!["ALL".into()], ..Security::default() };
        assert_eq!(of(&privileged, false).expect("a set").len(), ALL.len());
    }

    #[test]
    fn numbers_are_the_kernels() {
        let bits = |list: &[Capability]| mask(&Some(list.iter().copied().collect()));
        assert_eq!(bits(&[Capability::SysAdmin]), SYS_ADMIN);
        assert_eq!(bits(CAPABILITIES), 0xa804_25fb);
        assert_eq!(bits(&ALL), 0x1ff_ffff_ffff);
        assert_eq!(mask(&None), 0);
    }
}
