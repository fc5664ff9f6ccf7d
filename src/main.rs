//! Which face: PID 1, a helper, or the operator's command.

use std::process::exit;

use podinit::{cli, helper, init};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The kernel hands its unknown parameters to init as arguments; PID 1 has no others.
    if std::process::id() == 1 {
        init::board();
    }
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let code = match words.as_slice() {
        ["run", ..] => init::run(&args[1..]),
        [name, ..] if helper::NAMES.contains(name) => helper::run(name, &args[1..]),
        _ => cli::run(&args),
    };
    exit(code);
}
