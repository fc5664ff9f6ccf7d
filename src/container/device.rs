//! Which devices a container may open: cgroup v2's own filter, a program of some forty instructions.
//!
//! Ours and not libcontainer's: that one needs a C compiler, libelf and a raised memlock limit, which the container
//! would inherit.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

/// Every container's rules (containerd's): nothing but these, and nodes may be made but not opened.
/// Type, major, minor, access; None: any.
pub const RULES: &[(LinuxDeviceType, Option<i64>, Option<i64>, &str)] = &[
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"), // null
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"), // zero
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"), // full
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"), // random
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"), // urandom
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"), // tty
    (LinuxDeviceType::C, Some(5), Some(1), "rwm"), // console
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"), // ptmx
    (LinuxDeviceType::C, Some(136), None, "rwm"),  // pts
];

/// As the runtime spec has them: all denied, then the table; for a privileged container all allowed.
pub fn rules(privileged: bool) -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let mut list = vec![LinuxDeviceCgroupBuilder::default().allow(privileged).access("rwm").build()?];
    if !privileged {
        for (kind, major, minor, access) in RULES {
            let mut rule =
                LinuxDeviceCgroupBuilder::default().allow(true).typ(*kind).access(*access).build()?;
            rule.set_major(*major).set_minor(*minor);
            list.push(rule);
        }
    }
    Ok(list)
}

/// One eBPF instruction: opcode, registers (source in the upper half), offset, immediate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Instruction(u8, u8, i16, i32);

/// Opcodes (linux/bpf.h): a 32-bit load from memory, and 32-bit arithmetic and jumps with an immediate or a register.
const LOAD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
/// 64-bit comparisons: what is compared was loaded as 32 bits, the rest is zero.
const NOT_EQUAL: u8 = 0x55;
const NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Registers: 0 is the answer, 1 the context at first and then a scratch one.
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `struct bpf_cgroup_dev_ctx`: the access in the upper and the type in the lower half of its first word.
fn program(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let load = |register: u8, offset: i16| Instruction(LOAD, 1 << 4 | register, offset, 0);
    let mut program = vec![
        load(KIND, 0),
        Instruction(MOVE_REGISTER, KIND << 4 | ACCESS, 0, 0),
        Instruction(AND, KIND, 0, 0xffff),
        Instruction(SHIFT_RIGHT, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    // The last rule that matches counts, so it is asked first.
    for rule in rules.iter().rev() {
        let questions = questions(rule);
        let length = questions.len();
        for (at, question) in questions.into_iter().enumerate() {
            // A question that fails jumps over the rest and over the answer.
            let rest = i16::try_from(length - at - 1 + 2).unwrap_or(0);
            let Instruction(code, registers, _, value) = question;
            let offset = if matches!(code, NOT_EQUAL | NOT_EQUAL_REGISTER) { rest } else { 0 };
            program.push(Instruction(code, registers, offset, value));
        }
        program.extend([Instruction(MOVE, 0, 0, i32::from(rule.allow())), Instruction(EXIT, 0, 0, 0)]);
        // It matches always: the kernel refuses a program with a part that is never reached.
        if length == 0 {
            return program;
        }
    }
    program.extend([Instruction(MOVE, 0, 0, 0), Instruction(EXIT, 0, 0, 0)]);
    program
}

fn questions(rule: &LinuxDeviceCgroup) -> Vec<Instruction> {
    let mut list = Vec::new();
    match rule.typ() {
        Some(LinuxDeviceType::B) => list.push(Instruction(NOT_EQUAL, KIND, 0, 1)),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => list.push(Instruction(NOT_EQUAL, KIND, 0, 2)),
        Some(LinuxDeviceType::A | LinuxDeviceType::P) | None => {}
    }
    let access = rule.access().as_deref().unwrap_or("rwm");
    let bits = [('m', 1), ('r', 2), ('w', 4)];
    let mask: i32 = bits.iter().filter(|(letter, _)| access.contains(*letter)).map(|(_, bit)| bit).sum();
    if mask != 7 {
        // What is asked for must be no more than what the rule is about.
        list.push(Instruction(MOVE_REGISTER, ACCESS << 4 | 1, 0, 0));
        list.push(Instruction(AND, 1, 0, mask));
        list.push(Instruction(NOT_EQUAL_REGISTER, ACCESS << 4 | 1, 0, 0));
    }
    for (register, number) in [(MAJOR, rule.major()), (MINOR, rule.minor())] {
        if let Some(number) = number.and_then(|number| i32::try_from(number).ok()).filter(|n| *n >= 0) {
            list.push(Instruction(NOT_EQUAL, register, 0, number));
        }
    }
    list
}

/// A filter that the kernel has checked, not yet in force.
pub struct DeviceFilter(OwnedFd);

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Containers below may have filters of their own: all must allow.
const ALLOW_MULTI: u32 = 2;

/// Whether this kernel can keep containers from devices at all: one without CONFIG_CGROUP_BPF cannot.
pub fn possible() -> bool {
    load(&[Instruction(MOVE, 0, 0, 0), Instruction(EXIT, 0, 0, 0)]).is_ok()
}

/// None where the rules allow everything.
pub fn filter(rules: &[LinuxDeviceCgroup]) -> io::Result<Option<DeviceFilter>> {
    match rules.iter().all(LinuxDeviceCgroup::allow) {
        true => Ok(None),
        false => load(&program(rules)).map(|fd| Some(DeviceFilter(fd))),
    }
}

impl DeviceFilter {
    /// In force for all that lives in this cgroup or below, as long as the cgroup exists.
    pub fn attach(&self, cgroup: &Path) -> io::Result<()> {
        /// The part of `union bpf_attr` for BPF_PROG_ATTACH.
        #[repr(C)]
        struct Attach {
            target: i32,
            program: i32,
            kind: u32,
            flags: u32,
        }
        let folder = File::open(cgroup)?;
        let attributes = Attach {
            target: folder.as_raw_fd(),
            program: self.0.as_raw_fd(),
            kind: ATTACH_CGROUP_DEVICE,
            flags: ALLOW_MULTI,
        };
        // SAFETY: the kernel reads `size_of` bytes of a plain structure.
        match unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, size_of::<Attach>()) }
        {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for BPF_PROG_LOAD, as far as Linux 4.15 has it.
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        version: u32,
        flags: u32,
    }
    let license = c"Apache-2.0";
    let attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the kernel reads `size_of` bytes of a plain structure, `count` instructions and a C string, all of which
    // outlive the call; it returns a new descriptor, close-on-exec as all of BPF's.
    unsafe {
        match libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of::<Load>()) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}

/// The machine's own devices below /dev, for a privileged container; not what each container has for itself.
pub fn host() -> Vec<LinuxDevice> {
    let mut found = Vec::new();
    let mut ahead = vec![PathBuf::from("/dev")];
    while let Some(folder) = ahead.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if OWN.iter().any(|own| Path::new(own) == path) {
                continue;
            }
            let Ok(about) = fs::symlink_metadata(&path) else { continue };
            let kind = about.file_type();
            if kind.is_dir() {
                ahead.push(path);
            } else if kind.is_char_device() || kind.is_block_device() {
                found.extend(node(&path, &about));
            }
        }
    }
    found.sort_by(|one, other| one.path().cmp(other.path()));
    found
}

/// Mounts and nodes that a container has of its own.
const OWN: &[&str] = &["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages", "/dev/console", "/dev/ptmx"];

fn node(path: &Path, about: &fs::Metadata) -> Option<LinuxDevice> {
    let kind = if about.file_type().is_block_device() { LinuxDeviceType::B } else { LinuxDeviceType::C };
    LinuxDeviceBuilder::default()
        .path(path)
        .typ(kind)
        .major(i64::from(libc::major(about.rdev())))
        .minor(i64::from(libc::minor(about.rdev())))
        .file_mode(about.mode() & 0o7777)
        .uid(about.uid())
        .gid(about.gid())
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: the few instructions that we use. `access`: mknod 1, read 2, write 4.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 6];
        let mut at = 0_usize;
        loop {
            let Instruction(code, pair, offset, value) = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let value = u64::from(value as u32);
            let mut jumped = false;
            match code {
                LOAD => registers[to] = u64::from(context[offset as usize / 4]),
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                NOT_EQUAL => jumped = registers[to] != value,
                NOT_EQUAL_REGISTER => jumped = registers[to] != registers[from],
                EXIT => return registers[0] != 0,
                code => panic!("code {code:#x}"),
            }
            at += 1 + if jumped { offset as usize } else { 0 };
        }
    }

    #[test]
    fn only_the_listed_devices_open() {
        let program = program(&rules(false).expect("rules"));
        assert!(program.len() < 100, "{}", program.len());
        let (block, character) = (1, 2);
        for access in 1..8 {
            let open = access != 1;
            for (major, minor, allowed) in [
                (1, 3, true),
                (1, 9, true),
                (5, 2, true),
                (136, 0, true),
                (136, 77, true),
                (1, 1, false),
                (1, 4, false),
                (10, 200, false),
                (5, 3, false),
                (137, 0, false),
            ] {
                assert_eq!(
                    run(&program, character, access, major, minor),
                    allowed || !open,
                    "{major}:{minor}"
                );
                assert_eq!(run(&program, block, access, major, minor), !open, "block {major}:{minor}");
            }
        }
    }

    #[test]
    fn the_last_rule_counts() {
        let mut rules = rules(true).expect("rules");
        assert!(filter(&rules).expect("no filter to load").is_none());
        let build = |allow, major| {
            LinuxDeviceCgroupBuilder::default().allow(allow).major(major).access("rw").build().expect("rule")
        };
        rules.extend([build(false, 8), build(true, 7)]);
        let program = program(&rules);
        assert!(run(&program, 1, 2, 7, 0) && !run(&program, 1, 2, 8, 0));
        // Not a part of what the rule is about, so an earlier one counts.
        assert!(run(&program, 1, 1, 8, 0));
    }

    #[test]
    fn a_privileged_container_gets_the_machines_nodes() {
        let list = host();
        let null = list.iter().find(|device| device.path() == Path::new("/dev/null")).expect("null");
        assert_eq!((null.typ(), null.major(), null.minor()), (LinuxDeviceType::C, 1, 3));
        assert!(list.iter().all(|device| !device.path().starts_with("/dev/pts")));
    }
}
