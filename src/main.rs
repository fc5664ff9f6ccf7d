//! Which face: PID 1, a helper, or the operator's command.

use std::process::exit;

use podinit::{cli, helper, init};

fn main() {
    // As PID 1 the arguments are what the kernel did not know of its command line: not ours.
    if std::process::id() == 1 {
        init::board();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = match args.first().map(String::as_str) {
        Some("run") => init::run(&args[1..]),
        Some(name) if helper::NAMES.contains(&name) => helper::run(name, &args[1..]),
        Some(_) | None => cli::run(&args),
    };
    exit(code);
}
