//! Which face: PID 1, a helper, or the operator's command.

use std::process::exit;

use podinit::{cli, helper, init};

fn main() {
    // As PID 1 the arguments are what the kernel did not know of its command line: not ours.
    if std::process::id() == 1 {
        init::board();
    }
    // What is not UTF-8 names nothing that there is, and is refused where it stands.
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let args: Vec<String> = args.collect();
    let code = match args.first().map(String::as_str) {
        Some("run") => init::run(&args[1..]),
        Some(name) if helper::NAMES.contains(&name) => helper::run(name, &args[1..]),
        Some(_) | None => cli::run(&args),
    };
    exit(code);
}
