//! Containers for real, as root: each test is a process of its own in a private mount namespace with a pure cgroup2
//! mount, a stand-in for PID 1 (one thread, child subreaper). The helper binary is this one: see `main`.
//!
//! Needs busybox-static and crun.
#![allow(unsafe_code)]

#[path = "container/compare.rs"]
mod compare;
#[path = "container/exec.rs"]
mod exec;
#[path = "container/killed.rs"]
mod killed;
#[path = "container/machine.rs"]
mod machine;
#[path = "container/sandbox.rs"]
mod sandbox;
#[path = "container/security.rs"]
mod security;
#[path = "container/spawned.rs"]
mod spawned;
#[path = "container/start.rs"]
mod start;

use std::process::{Command, ExitCode};

type Test = (&'static str, fn());

const TESTS: &[&[Test]] = &[
    start::TESTS,
    compare::TESTS,
    exec::TESTS,
    killed::TESTS,
    sandbox::TESTS,
    security::TESTS,
    spawned::TESTS,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let all = || TESTS.iter().copied().flatten();
    match args.split_first() {
        Some((face, rest)) if face == "start" => return code(podinit::helper::start::run(rest)),
        Some((face, rest)) if face == "exec" => return code(podinit::helper::exec::run(rest)),
        Some((face, rest)) if face == "__pause" => return code(podinit::helper::pause::run(rest)),
        Some((face, rest)) if face == "probe" => return code(spawned::probe(rest)),
        Some((face, rest)) if face == "--inner" => {
            let name = rest.first().map_or("", String::as_str);
            let (_, test) = all().find(|(known, _)| *known == name).expect("a test of this name");
            machine::prepare();
            test();
            machine::leave();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let wanted = |name: &str| {
        let mut filters = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    let myself = std::env::current_exe().expect("our own path");
    let (mut passed, mut failed) = (0, 0);
    for (name, _) in all().filter(|(name, _)| wanted(name)) {
        let done = Command::new(&myself).args(["--inner", name]).status().expect("run ourselves");
        println!("test {name} ... {}", if done.success() { "ok" } else { "FAILED" });
        passed += u32::from(done.success());
        failed += u32::from(!done.success());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(code as u8)
}
