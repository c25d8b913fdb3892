#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| valise_tests::fuzz::run("manifest", input));
