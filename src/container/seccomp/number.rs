//! The numbers of system calls by name and architecture (Linux' own tables, up to 6.15).

use oci_spec::runtime::Arch;

/// One a line: the name, and its number on x86_64, i386, aarch64 and arm, `-` where there is none.
const TABLE: &str = include_str!("numbers.txt");

/// An architecture whose system calls a filter can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    X86_64,
    I386,
    Aarch64,
    Arm,
}

impl Machine {
    /// The one that this binary is for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Machine = Machine::X86_64;
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Machine = Machine::Aarch64;

    /// AUDIT_ARCH_* of linux/audit.h, which the kernel tells the filter.
    pub fn audit(self) -> u32 {
        match self {
            Machine::X86_64 => 0xc000_003e,
            Machine::I386 => 0x4000_0003,
            Machine::Aarch64 => 0xc000_00b7,
            Machine::Arm => 0x4000_0028,
        }
    }

    /// None: no machine of ours runs it. x32 comes as x86_64 (see `filter`).
    pub fn of(arch: Arch) -> Option<Machine> {
        Some(match arch {
            Arch::ScmpArchNative => Machine::NATIVE,
            Arch::ScmpArchX86_64 => Machine::X86_64,
            Arch::ScmpArchX86 => Machine::I386,
            Arch::ScmpArchAarch64 => Machine::Aarch64,
            Arch::ScmpArchArm => Machine::Arm,
            _ => return None,
        })
    }
}

/// All numbers of an architecture by name.
pub fn table(machine: Machine) -> impl Iterator<Item = (&'static str, u32)> {
    let column = match machine {
        Machine::X86_64 => 1,
        Machine::I386 => 2,
        Machine::Aarch64 => 3,
        Machine::Arm => 4,
    };
    TABLE.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        let name = words.next()?;
        Some((name, words.nth(column - 1)?.parse().ok()?))
    })
}

/// Whether any of them has a system call of this name.
#[cfg(test)]
pub fn known(name: &str) -> bool {
    TABLE.lines().any(|line| line.split(' ').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_c_librarys() {
        let own = [
            ("read", libc::SYS_read),
            ("socket", libc::SYS_socket),
            ("clone", libc::SYS_clone),
            ("clone3", libc::SYS_clone3),
            ("execve", libc::SYS_execve),
            ("ptrace", libc::SYS_ptrace),
            ("openat2", libc::SYS_openat2),
            ("seccomp", libc::SYS_seccomp),
            ("personality", libc::SYS_personality),
            ("mount_setattr", libc::SYS_mount_setattr),
        ];
        for (name, number) in own {
            let found = table(Machine::NATIVE).find(|(known, _)| *known == name);
            assert_eq!(found.map(|(_, number)| i64::from(number)), Some(number), "{name}");
        }
    }

    #[test]
    fn every_line_has_five_words_and_no_name_comes_twice() {
        let mut names: Vec<&str> = TABLE.lines().map(|line| line.split(' ').next().unwrap_or("")).collect();
        for line in TABLE.lines() {
            let numbers = line.split(' ').skip(1);
            assert_eq!(numbers.clone().count(), 4, "{line}");
            assert!(numbers.clone().all(|word| word == "-" || word.parse::<u32>().is_ok()), "{line}");
            assert!(numbers.into_iter().any(|word| word != "-"), "{line}");
        }
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        let count = |machine| table(machine).count();
        assert!(count(Machine::X86_64) > 370 && count(Machine::I386) > 440);
        assert!(count(Machine::Aarch64) > 310 && count(Machine::Arm) > 400);
    }
}
