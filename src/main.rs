//! Which face: PID 1, a helper, or the operator's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("logger") => podinit::helper::logger::run(),
        _ => {
            println!("podinit {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}
