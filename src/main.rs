//! Which face: PID 1, a helper, or the operator's command.

use std::process::exit;

use podinit::{cli, helper, init};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // As PID 1 the arguments are what the kernel did not know of its command line: not ours. A pod's pause is the first
    // of its namespace, too, and must not take that for a machine: it is told by its empty environment, since the
    // kernel's first process has HOME.
    let pause = args == ["__pause"] && std::env::vars_os().next().is_none();
    if std::process::id() == 1 && !pause {
        init::board();
    }
    let code = match args.first().map(String::as_str) {
        Some("run") => init::run(&args[1..]),
        Some(name) if helper::NAMES.contains(&name) => helper::run(name, &args[1..]),
        Some(_) | None => cli::run(&args),
    };
    exit(code);
}
