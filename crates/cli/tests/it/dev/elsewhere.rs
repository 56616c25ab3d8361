//! `dev` with a log that rests in a store that was named, and what it refuses of stores.

use std::fs;
use std::path::Path;

use super::Dev;
use super::walk::replica;
use crate::processes::{diff, run, synddb};
use crate::programs::sql;

/// A folder with a database, and the URL of a store of files beside it.
fn begin() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    let store = format!("file://{}", folder.path().join("elsewhere").display());
    (folder, store)
}

/// Runs `dev` with a store that it must refuse with these words before it makes anything.
fn refused(folder: &Path, store: &str, words: &str) {
    let before = names(folder);
    let app = folder.join("app.db");
    let (exit, told, errors) = run(synddb(["dev", app.to_str().unwrap(), "--store", store, "--port", "0"]));
    assert_eq!((exit, told.as_str()), (2, ""), "{store}: {errors}");
    assert!(errors.contains(words), "{store}: {errors}");
    assert_eq!(names(folder), before, "{store}: something was made");
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn stores_that_cannot_hold_a_log_are_refused_before_anything_is_made() {
    let (folder, _) = begin();
    for (store, words) in [
        ("http://127.0.0.1:1/store", "name the store itself, as in gs://bucket/prefix"),
        ("https://example.org/store", "name the store itself, as in gs://bucket/prefix"),
        ("memory:", "leave --store out"),
        ("elsewhere", "a store is named by a URL"),
    ] {
        refused(folder.path(), store, words);
    }
    // Also where there is no database yet, for which it would wait.
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), "http://127.0.0.1:1/store", "name the store itself");
}

#[test]
fn a_store_that_cannot_be_opened_is_forgotten() {
    let (folder, store) = begin();
    let app = folder.path().join("app.db");
    let mistyped = store.replace("elsewhere", "missing/elsewhere");
    let (exit, _, errors) = run(synddb([
        "dev",
        app.to_str().unwrap(),
        "--store",
        &mistyped,
        "--port",
        "0",
        "--validator-port",
        "0",
    ]));
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("cannot create store"), "{errors}");
    // The right one may be named now. A `/` at its end makes no other store of it.
    for text in [store.clone(), format!("{store}/")] {
        let dev = Dev::start_with(folder.path(), |command| {
            command.args(["--store", &text]);
        });
        dev.assert_replica_equals();
        assert_eq!(dev.running("store"), store);
        dev.stop();
    }
}

#[test]
fn a_log_stays_in_the_store_that_was_named() {
    let (folder, store) = begin();
    let app = folder.path().join("app.db");
    let dev = Dev::start_with(folder.path(), |command| {
        command.args(["--store", &store]);
    });
    sql(&app, "INSERT INTO t VALUES (2);");
    dev.assert_replica_equals();
    let (stream, key) = (dev.running("stream"), dev.running("key"));
    assert_eq!(dev.running("store"), store);
    assert!(!dev.folder.join("store").exists(), "the folder has a store of its own as well");
    dev.stop();

    // Whoever forgets to say so goes on there, and so does who says the same again. Anything else is refused.
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (3);");
    dev.assert_replica_equals();
    assert_eq!((dev.running("store"), dev.running("stream")), (store.clone(), stream.clone()));
    dev.stop();
    refused(folder.path(), &format!("{store}-2"), "the log of this database rests in another store");
    let dev = Dev::start_with(folder.path(), |command| {
        command.args(["--store", &store]);
    });
    sql(&app, "INSERT INTO t VALUES (4);");
    dev.assert_replica_equals();
    assert_eq!(dev.event("attached", |_| true)["incarnation"], 1, "{:#?}", dev.events());
    dev.stop();

    // Another database has its own log beside that one.
    let (second, _) = begin();
    let beside = Dev::start_with(second.path(), |command| {
        command.args(["--store", &store]);
    });
    sql(&second.path().join("app.db"), "DELETE FROM t;");
    beside.assert_replica_equals();
    beside.stop();
    let log = [("--store", store.as_str()), ("--stream", &stream), ("--sequencer-key", &key)];
    let rebuilt = second.path().join("rebuilt.db");
    let (exit, told, errors) = replica(&log, &rebuilt);
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff(&app, &rebuilt);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");

    // Left for good, it may begin anew, wherever it is told to.
    let (exit, told, errors) = run(synddb(["detach", app.to_str().unwrap()]));
    assert_eq!(exit, 0, "{told}{errors}");
    let log = format!("{store}/{}", stream.trim_start_matches("0x"));
    assert!(told.contains(&log), "other logs may lie beside this one, which alone may be removed: {told}");
    let dev = Dev::start(folder.path());
    dev.assert_replica_equals();
    assert_ne!(dev.running("stream"), stream);
    assert!(dev.running("store").ends_with("/app.db-synddb/store"), "{}", dev.running("store"));
    dev.stop();
}

#[test]
fn what_a_file_says_of_other_services_does_not_count() {
    let (folder, store) = begin();
    // Each of these alone would keep a role from starting as `dev` means it.
    let environment =
        "SYNDDB_SEQUENCER_ROLE=standby\nSYNDDB_VALIDATOR_LAG_MAX=none\nSYNDDB_AGENT_STORE=nowhere\n";
    fs::write(folder.path().join(".env"), environment).unwrap();
    let dev = Dev::start_with(folder.path(), |command| {
        command.args(["--store", &store]).current_dir(folder.path());
    });
    sql(&dev.app, "INSERT INTO t VALUES (2);");
    dev.assert_replica_equals();
    dev.stop();
}
