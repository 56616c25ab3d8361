#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synddb_protocol_fuzz::run("refusal", bytes));
