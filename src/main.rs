//! Which face: PID 1, a helper, or the operator's command.

fn main() {
    println!("podinit {}", env!("CARGO_PKG_VERSION"));
}
