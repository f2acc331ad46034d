#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| moothall_fuzz::settings_toml(bytes));
