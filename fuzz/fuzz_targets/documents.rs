#![no_main]

#[path = "../../tests/fuzz/images.rs"]
#[allow(dead_code, reason = "what the other targets fuzz")]
mod images;
#[path = "../../tests/fuzz/spent.rs"]
mod spent;

libfuzzer_sys::fuzz_target!(|input: &[u8]| images::documents(input));
