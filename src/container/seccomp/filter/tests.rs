//! The program against the profile: run by an interpreter of a page, over every number and both sides of each value.

use oci_spec::runtime::{Arch, Capabilities, Capability, LinuxSyscall};

use super::super::default;
use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const PERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const NOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// What the kernel would answer: classic BPF, as far as we use it.
fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        NUMBER => number,
        ARCH => arch,
        _ => {
            let (index, high) = ((offset - ARGUMENTS) / 8, offset % 8 == 4);
            let value = arguments[index as usize];
            if high { (value >> 32) as u32 } else { value as u32 }
        }
    };
    let (mut at, mut held) = (0_usize, 0_u32);
    loop {
        let step = program[at];
        let holds = match u32::from(step.code) {
            LOAD => {
                held = word(step.k);
                false
            }
            AND => {
                held &= step.k;
                false
            }
            RETURN => return step.k,
            GO => {
                at += step.k as usize;
                false
            }
            EQUAL => held == step.k,
            GREATER => held > step.k,
            AT_LEAST => held >= step.k,
            code => panic!("code {code:#x} at {at}"),
        };
        at += 1 + usize::from(if holds { step.jt } else { step.jf });
    }
}

fn profile(text: &str) -> LinuxSeccomp {
    serde_json::from_str(text).expect("a profile")
}

fn holds(asked: &LinuxSeccompArg, arguments: [u64; 6]) -> bool {
    let (value, wanted) = (arguments[asked.index()], asked.value());
    match asked.op() {
        LinuxSeccompOperator::ScmpCmpEq => value == wanted,
        LinuxSeccompOperator::ScmpCmpNe => value != wanted,
        LinuxSeccompOperator::ScmpCmpLt => value < wanted,
        LinuxSeccompOperator::ScmpCmpLe => value <= wanted,
        LinuxSeccompOperator::ScmpCmpGt => value > wanted,
        LinuxSeccompOperator::ScmpCmpGe => value >= wanted,
        LinuxSeccompOperator::ScmpCmpMaskedEq => value & wanted == asked.value_two().unwrap_or(0),
    }
}

/// Read off the profile, rule by rule.
fn wanted(rules: &[LinuxSyscall], name: &str, arguments: [u64; 6]) -> u32 {
    let mine = || rules.iter().filter(|rule| rule.names().iter().any(|known| known == name));
    let asked = mine().filter_map(|rule| Some((rule, rule.args().as_ref()?)));
    let with = asked.filter(|(_, args)| args.iter().all(|one| holds(one, arguments))).map(|(rule, _)| rule);
    let without = mine().filter(|rule| rule.args().is_none());
    let rule = with.chain(without).next();
    rule.map_or(PERM, |rule| answer(rule.action(), rule.errno_ret(), "").expect("an answer"))
}

/// Each call of each architecture, with each value that a rule names and its neighbours.
#[test]
fn the_default_profile_is_what_it_says() {
    let machines: &[Machine] = match Machine::NATIVE {
        Machine::X86_64 | Machine::I386 => &[Machine::X86_64, Machine::I386],
        Machine::Aarch64 | Machine::Arm => &[Machine::Aarch64, Machine::Arm],
    };
    for capabilities in [Capabilities::new(), Capabilities::from([Capability::SysAdmin, Capability::SysTime])]
    {
        let profile = default::profile(&capabilities).expect("profile");
        let rules = profile.syscalls().as_deref().unwrap_or_default();
        let program = compile(&profile).expect("compile");
        assert!(program.len() < 1500, "{}", program.len());
        let values: BTreeSet<u64> = rules
            .iter()
            .flat_map(|rule| rule.args().iter().flatten())
            .flat_map(|one| {
                [one.value().wrapping_sub(1), one.value(), one.value() + 1, one.value() & 0x2_0000]
            })
            .filter(|value| *value <= 0xffff_ffff)
            .collect();
        for machine in machines {
            let last = number::table(*machine)
                .filter(|(name, _)| rules.iter().any(|rule| rule.names().iter().any(|known| known == name)))
                .map(|(_, number)| number)
                .max()
                .expect("a rule");
            for (name, number) in number::table(*machine) {
                for value in &values {
                    let arguments = [*value, 0, 0, 0, 0, 0];
                    let found = run(&program, machine.audit(), number, arguments);
                    let wanted = if number > last { NOSYS } else { wanted(rules, name, arguments) };
                    assert_eq!(found, wanted, "{machine:?} {name}({value:#x})");
                }
            }
            assert_eq!(run(&program, machine.audit(), last + 1, [0; 6]), NOSYS);
        }
        for arch in [0, 0x4000_00b8, 0xc000_003d] {
            let killed = libc::SECCOMP_RET_KILL_PROCESS;
            assert_eq!(run(&program, arch, 0, [0; 6]), killed, "an unknown architecture");
        }
    }
}

#[test]
fn x32_is_no_way_around() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let program = compile(&profile(text)).expect("compile");
    let x86 = Machine::X86_64.audit();
    assert_eq!(run(&program, x86, 101, [0; 6]), PERM);
    assert_eq!(run(&program, x86, 101 | X32, [0; 6]), NOSYS);
    assert_eq!(run(&program, x86, u32::MAX, [0; 6]), NOSYS);
    assert_eq!(run(&program, x86, 100, [0; 6]), ALLOW);
    // A default that allows: nothing changes beyond the last rule.
    assert_eq!(run(&program, x86, 600, [0; 6]), ALLOW);
}

/// The kernel takes an int: the upper half of the register is not the family.
#[test]
fn the_family_of_a_socket_is_32_bits() {
    let program = compile(&default::profile(&Capabilities::new()).expect("profile")).expect("compile");
    let number = u32::try_from(libc::SYS_socket).expect("a number");
    for (family, answer) in [(2, ALLOW), (38, PERM), (39, ALLOW), (40, PERM), (41, ALLOW)] {
        for noise in [0, 1 << 32, u64::MAX << 32] {
            let found = run(&program, Machine::NATIVE.audit(), number, [family | noise, 0, 0, 0, 0, 0]);
            assert_eq!(found, answer, "family {family}, noise {noise:#x}");
        }
    }
}

/// Each comparison, with both halves of 64 bits on either side.
#[test]
fn arguments_are_64_bits() {
    let halves = [0_u64, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
    let values: Vec<u64> = halves.iter().flat_map(|high| halves.map(|low| high << 32 | low)).collect();
    let number = number::table(Machine::NATIVE).find(|(name, _)| *name == "read").expect("read").1;
    for op in ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"] {
        for value in &values {
            let two = value & 0xf000_0000_f000_000f;
            let text = format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"],
                "action": "SCMP_ACT_ALLOW", "args": [
                    {{"index": 3, "value": {value}, "valueTwo": {two}, "op": "SCMP_CMP_{op}"}},
                    {{"index": 5, "value": 7, "op": "SCMP_CMP_EQ"}}]}}]}}"#
            );
            let profile = profile(&text);
            let rules = profile.syscalls().as_deref().unwrap_or_default();
            let program = compile(&profile).expect("compile");
            for given in &values {
                for last in [7, 8, 7 + (1 << 32)] {
                    let arguments = [0, 0, 0, *given, 0, last];
                    let found = run(&program, Machine::NATIVE.audit(), number, arguments);
                    assert_eq!(found, wanted(rules, "read", arguments), "{given:#x} {op} {value:#x}, {last}");
                }
            }
        }
    }
}

#[test]
fn one_argument_twice_is_either() {
    let text = r#"{"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 5, "syscalls": [{"names": ["read"],
        "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
        {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9}]}"#;
    let program = compile(&profile(text)).expect("compile");
    let number = number::table(Machine::NATIVE).find(|(name, _)| *name == "read").expect("read").1;
    for (value, answer) in [(1, libc::SECCOMP_RET_TRAP), (5, libc::SECCOMP_RET_TRAP), (2, PERM + 8)] {
        let found = run(&program, Machine::NATIVE.audit(), number, [value, 0, 0, 0, 0, 0]);
        assert_eq!(found, answer, "{value}");
    }
    let found = run(&program, Machine::NATIVE.audit(), number + 1, [0; 6]);
    assert_eq!(found, libc::SECCOMP_RET_KILL_THREAD);
}

#[test]
fn what_cannot_be_had_is_told() {
    let table = [
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            "defaultAction: SCMP_ACT_NOTIFY: nobody here answers it; use SCMP_ACT_ERRNO",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#,
            "defaultAction: errnoRet 70000 is beyond 65535",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "syscalls[0].args: index 6 is beyond 5",
        ),
    ];
    for (text, message) in table {
        assert_eq!(compile(&profile(text)).map(|_| ()), Err(message.to_owned()));
    }
    let all =
        profile(r#"{"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_MIPS", "SCMP_ARCH_ARM"]}"#);
    assert_eq!(all.architectures().as_deref(), Some(&[Arch::ScmpArchMips, Arch::ScmpArchArm][..]));
    let program = compile(&all).expect("compile");
    assert_eq!(run(&program, Machine::Arm.audit(), 7, [0; 6]), libc::SECCOMP_RET_LOG);
}
