#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| synddb_sqlite_fuzz::run("apply", bytes));
