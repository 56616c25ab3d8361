//! Scripts that found a fault once, done again.
//!
//! `cargo xtask fuzz capture --script FILE` does only that one, through the variable `SYNDDB_SCRIPT`. A fault that only a certain SQLite
//! makes is not looked for where the writers have another; each script says which it was, and a difference is said on standard error.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use synddb_sqlite::rusqlite;

use super::child::sqlite_version;
use super::minimise::failure;
use super::script::Script;
use super::setup::Kind;

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
        let script: Script = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        warn_of_other_versions(&path, &text);
        scripts += 1;
        if let Some(what) = failure(&script) {
            panic!("{}: {what}", path.display());
        }
    }
    assert!(scripts > 0);
}

/// Begins the comment of a script that says which version of SQLite writers of a kind had: `# sqlite system 3.40.1`.
const VERSION: &str = "# sqlite ";

/// What a script says of the versions of its writers.
fn versions_in(text: &str) -> Vec<(Kind, &str)> {
    let notes = text.lines().filter_map(|line| line.strip_prefix(VERSION)?.split_once(' '));
    notes.filter_map(|(kind, version)| Some((kind.parse().ok()?, version))).collect()
}

/// The comment that says which versions the writers of a script have here.
pub(super) fn version_notes(script: &Script) -> String {
    let kinds = script.kinds();
    kinds.into_iter().map(|kind| format!("{VERSION}{kind} {}\n", sqlite_version(kind))).collect()
}

/// Says past the test runner where a script was found with another SQLite than is here. Our own is the one that is to be right.
fn warn_of_other_versions(path: &Path, text: &str) {
    let others = versions_in(text).into_iter().filter(|(kind, _)| matches!(kind, Kind::System | Kind::Apsw));
    for (kind, found_with) in others {
        let here = sqlite_version(kind);
        if here != found_with {
            let (mut error, path) = (std::io::stderr().lock(), path.display());
            writeln!(
                error,
                "WARNING: {path} was found with SQLite {found_with} as `{kind}`; here it is {here}, which may not do it"
            )
            .unwrap();
        }
    }
}

#[test]
fn a_script_says_which_versions_its_writers_had() {
    let text = "database 512 NONE utf-8 0\nwriter local\nwriter child\n";
    let notes = version_notes(&text.parse().unwrap());
    let ours = rusqlite::version();
    assert_eq!(notes, format!("# sqlite local {ours}\n# sqlite child {ours}\n"));
    assert_eq!(versions_in(&format!("# Seed 1\n{notes}{text}")), [(Kind::Local, ours), (Kind::Child, ours)]);
}
