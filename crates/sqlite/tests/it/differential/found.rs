//! Scripts that found a fault once, done again.
//!
//! `SYNDDB_SCRIPT=file` does only that one.

use std::path::PathBuf;

use super::minimise::failure;

/// Where they are kept.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/differential/found");

#[test]
fn what_was_found_once_is_not_found_again() {
    let mut scripts = 0;
    let paths: Vec<PathBuf> = match std::env::var_os("SYNDDB_SCRIPT") {
        Some(script) => vec![script.into()],
        None => std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect(),
    };
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let script = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        scripts += 1;
        if let Some(what) = failure(&script) {
            panic!("{}: {what}", path.display());
        }
    }
    assert!(scripts > 0);
}
