//! A seccomp profile to a classic BPF program, and that program to the kernel.
//!
//! Ours and not a library's: libseccomp is C, with a table of its own for each build, and the crate that is not
//! (seccompiler) has one architecture and two actions a filter, so that a 32-bit program on a 64-bit board would be
//! killed and clone3 could not answer ENOSYS beside EPERM.
//!
//! The program asks for the architecture first: what the profile does not list is killed. x32, which comes as x86_64
//! with a bit in its numbers, answers ENOSYS as from a kernel that was built without it. Where the default is an
//! error, numbers beyond the profile's last answer ENOSYS: a program that tries a newer call finds its way back.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use libc::{sock_filter, sock_fprog};
use nix::errno::Errno;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use super::number::{self, Machine};

/// Ready for the kernel.
#[derive(Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
    flags: u64,
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The most instructions that the kernel takes (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// Bit 30 tells x32 from x86_64; a number with it is no call of either where x32 is not built in.
const X32: u32 = 0x4000_0000;

/// Arguments that the kernel takes as a 32-bit number: a rule must not look at the upper half, which is noise, or
/// `socket` would get AF_ALG as 38 + 2^32.
const NARROW: &[(&str, usize)] = &[("socket", 0), ("personality", 0)];

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const GO: u32 = libc::BPF_JMP | libc::BPF_JA;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const GREATER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;

impl Filter {
    /// An error says what of the profile cannot be had.
    pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, String> {
        let program = compile(profile)?;
        if program.len() > LONGEST {
            return Err(format!("{} instructions are more than the kernel's {LONGEST}", program.len()));
        }
        let mut flags = 0;
        for flag in profile.flags().iter().flatten() {
            flags |= match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                // For notifications only, of which there are none.
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            };
        }
        // As runc: without it, every filtered process pays for a mitigation that the machine may not want.
        if profile.flags().is_none() {
            flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        }
        Ok(Filter { program, flags })
    }

    /// Binds this thread for ever. Needs no_new_privs or CAP_SYS_ADMIN. Makes no other system call, so that whoever
    /// runs a program next needs nothing allowed but that.
    pub fn install(&self) -> Result<(), Errno> {
        let len = u16::try_from(self.program.len()).map_err(|_| Errno::EINVAL)?;
        let program = sock_fprog { len, filter: self.program.as_ptr().cast_mut() };
        let set = |flags: u64| {
            // SAFETY: the kernel copies `len` instructions from a vector that outlives the call.
            Errno::result(unsafe {
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
            })
        };
        match set(self.flags) {
            // A flag that this kernel does not know.
            Err(Errno::EINVAL) if self.flags != 0 => set(0).map(drop),
            done => done.map(drop),
        }
    }
}

/// One rule for one call: what is asked of its arguments, and the kernel's word for what happens then.
#[derive(Clone, PartialEq)]
struct Rule {
    asked: Vec<LinuxSeccompArg>,
    answer: u32,
}

fn compile(profile: &LinuxSeccomp) -> Result<Vec<sock_filter>, String> {
    let default = answer(profile.default_action(), profile.default_errno_ret(), "defaultAction")?;
    let listed = profile.architectures().iter().flatten().filter_map(|arch| Machine::of(*arch));
    let machines: BTreeSet<Machine> = listed.chain([Machine::NATIVE]).collect();
    let mut program = vec![plain(LOAD, ARCH)];
    // The native one first: it is asked for with each call.
    let mut order: Vec<Machine> = machines.into_iter().collect();
    order.sort_by_key(|machine| *machine != Machine::NATIVE);
    for machine in order {
        let section = section(machine, &rules(machine, profile)?, default, profile)?;
        program.push(jump(EQUAL, machine.audit(), 1, 0));
        program.push(skip(section.len())?);
        program.extend(section);
    }
    program.push(plain(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    Ok(program)
}

/// The profile's rules by number. Names that the architecture does not have are no rules, as everywhere.
fn rules(
    machine: Machine,
    profile: &LinuxSeccomp,
) -> Result<BTreeMap<u32, (&'static str, Vec<Rule>)>, String> {
    let numbers: BTreeMap<&str, (&'static str, u32)> =
        number::table(machine).map(|(name, number)| (name, (name, number))).collect();
    let mut found: BTreeMap<u32, (&str, Vec<Rule>)> = BTreeMap::new();
    for (index, syscall) in profile.syscalls().iter().flatten().enumerate() {
        let place = format!("syscalls[{index}].action");
        let answer = answer(syscall.action(), syscall.errno_ret(), &place)?;
        let asked = syscall.args().as_deref().unwrap_or_default();
        if let Some(wrong) = asked.iter().find(|argument| argument.index() > 5) {
            return Err(format!("syscalls[{index}].args: index {} is beyond 5", wrong.index()));
        }
        for (name, number) in syscall.names().iter().filter_map(|name| numbers.get(name.as_str())) {
            let rules = &mut found.entry(*number).or_insert((name, Vec::new())).1;
            // Twice the same argument is either of them, as runc has it; else all of them.
            let indices: BTreeSet<usize> = asked.iter().map(LinuxSeccompArg::index).collect();
            if indices.len() == asked.len() {
                rules.push(Rule { asked: asked.to_vec(), answer });
            } else {
                rules.extend(asked.iter().map(|one| Rule { asked: vec![*one], answer }));
            }
        }
    }
    Ok(found)
}

/// The program for one architecture: each number or range of numbers with one answer in its turn, ascending.
fn section(
    machine: Machine,
    rules: &BTreeMap<u32, (&'static str, Vec<Rule>)>,
    default: u32,
    profile: &LinuxSeccomp,
) -> Result<Vec<sock_filter>, String> {
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let mut program = vec![plain(LOAD, NUMBER)];
    if machine == Machine::X86_64 {
        program.push(jump(AT_LEAST, X32, 0, 1));
        program.push(plain(RETURN, enosys));
    }
    let beyond = match profile.default_action() {
        LinuxSeccompAction::ScmpActErrno => enosys,
        _ => default,
    };
    let mut parts: Vec<(u32, Vec<sock_filter>)> = Vec::new();
    let mut next = 0;
    for (number, (name, rules)) in rules {
        if *number > next {
            add(&mut parts, *number - 1, vec![plain(RETURN, default)]);
        }
        add(&mut parts, *number, body(name, rules, default)?);
        next = number + 1;
    }
    for (last, body) in parts {
        match u8::try_from(body.len()) {
            Ok(length) => program.push(jump(GREATER, last, length, 0)),
            Err(_) => program.extend([jump(GREATER, last, 0, 1), skip(body.len())?]),
        }
        program.extend(body);
    }
    program.push(plain(RETURN, beyond));
    Ok(program)
}

/// Up to this number; a neighbour with the same answer is widened.
fn add(parts: &mut Vec<(u32, Vec<sock_filter>)>, last: u32, body: Vec<sock_filter>) {
    match parts.last_mut() {
        Some((end, same)) if *same == body => *end = last,
        Some(_) | None => parts.push((last, body)),
    }
}

/// The rules of one call: those with arguments in their order, then the one without, else the default.
fn body(name: &str, rules: &[Rule], default: u32) -> Result<Vec<sock_filter>, String> {
    let mut program = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.asked.is_empty()) {
        let mut asked = Vec::new();
        // Backwards: each question jumps over what comes after it.
        for argument in rule.asked.iter().rev() {
            let narrow = NARROW.contains(&(name, argument.index()));
            let rest = asked.len() + 1;
            let mut question = question(argument, narrow, rest)?;
            question.append(&mut asked);
            asked = question;
        }
        program.extend(asked);
        program.push(plain(RETURN, rule.answer));
    }
    let last = rules.iter().find(|rule| rule.asked.is_empty()).map_or(default, |rule| rule.answer);
    program.push(plain(RETURN, last));
    Ok(program)
}

/// Falls through where the argument is as asked, else skips `rest` instructions beyond itself.
fn question(asked: &LinuxSeccompArg, narrow: bool, rest: usize) -> Result<Vec<sock_filter>, String> {
    let low = ARGUMENTS + 8 * u32::try_from(asked.index()).unwrap_or(0);
    let (mask, value) = match asked.op() {
        LinuxSeccompOperator::ScmpCmpMaskedEq => (asked.value(), asked.value_two().unwrap_or(0)),
        _ => (u64::MAX, asked.value()),
    };
    let [high_value, low_value] = [(value >> 32) as u32, value as u32];
    // (comparison of the low half, what it means when it holds).
    let (test, wanted) = match asked.op() {
        LinuxSeccompOperator::ScmpCmpEq | LinuxSeccompOperator::ScmpCmpMaskedEq => (EQUAL, true),
        LinuxSeccompOperator::ScmpCmpNe => (EQUAL, false),
        LinuxSeccompOperator::ScmpCmpGt => (GREATER, true),
        LinuxSeccompOperator::ScmpCmpLe => (GREATER, false),
        LinuxSeccompOperator::ScmpCmpGe => (AT_LEAST, true),
        LinuxSeccompOperator::ScmpCmpLt => (AT_LEAST, false),
    };
    let load = |offset: u32, mask: u64| {
        let mask = mask as u32;
        let mut list = vec![plain(LOAD, offset)];
        if mask != u32::MAX {
            list.push(plain(AND, mask));
        }
        list
    };
    let [no, yes] = [rest, 0].map(|length| u8::try_from(length).map_err(|_| "too many arguments".to_owned()));
    let (no, yes) = (no?, yes?);
    let (on, off) = if wanted { (yes, no) } else { (no, yes) };
    let mut tail = load(low, mask);
    tail.push(jump(test, low_value, on, off));
    if narrow {
        return Ok(tail);
    }
    let below = |by: u8| {
        u8::try_from(tail.len())
            .ok()
            .and_then(|len| len.checked_add(by))
            .ok_or("too many arguments".to_owned())
    };
    let mut list = load(low + 4, mask >> 32);
    // Where the upper halves differ, they decide alone: greater, or (an equality too) not.
    if test != EQUAL {
        list.push(jump(GREATER, high_value, below(on)?.checked_add(1).ok_or("too many arguments")?, 0));
    }
    list.push(jump(EQUAL, high_value, 0, below(off)?));
    list.extend(tail);
    Ok(list)
}

/// What the kernel is to do, in its own words.
fn answer(action: LinuxSeccompAction, data: Option<u32>, place: &str) -> Result<u32, String> {
    let data = |other: u32| match data.unwrap_or(other) {
        data if data > 0xffff => Err(format!("{place}: errnoRet {data} is beyond 65535")),
        data => Ok(data),
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | data(libc::EPERM.unsigned_abs())?,
        LinuxSeccompAction::ScmpActTrace => libc::SECCOMP_RET_TRACE | data(libc::EPERM.unsigned_abs())?,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(format!("{place}: SCMP_ACT_NOTIFY: nobody here answers it; use SCMP_ACT_ERRNO"));
        }
    })
}

fn plain(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn skip(length: usize) -> Result<sock_filter, String> {
    u32::try_from(length).map(|length| plain(GO, length)).map_err(|_| "the profile is too long".into())
}

#[cfg(test)]
#[path = "filter/tests.rs"]
mod tests;
