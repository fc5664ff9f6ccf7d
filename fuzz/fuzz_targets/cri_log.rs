#![no_main]

#[path = "../../tests/fuzz/properties.rs"]
mod properties;
#[path = "../../tests/fuzz/spent.rs"]
mod spent;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::cri_log(input));
