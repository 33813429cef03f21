#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prepare_root_fuzz::root_argument::run(bytes));
