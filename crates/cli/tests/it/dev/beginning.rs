//! Databases that are not there yet, or not ready.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::harness::Dev;
use crate::processes::{run, synddb};
use crate::programs::{python, sql};

#[test]
fn a_missing_database_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::begin(folder.path());
    let waiting = dev.event("waiting", |_| true);
    assert!(waiting["reason"].as_str().unwrap().contains("create it"), "{waiting}");
    sql(&dev.app, "CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    dev.event("running", |_| true);
    dev.assert_replica_equals();
    dev.stop();
}

/// Holds a lock on a database with a rollback journal until its standard input ends.
const HOLDER: &str = "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], isolation_level=None)
sqlite.execute('BEGIN EXCLUSIVE')
print('locked', flush=True)
sys.stdin.read()
sqlite.execute('COMMIT')
";

#[test]
fn a_busy_database_without_a_wal_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let mut holder =
        python(HOLDER, [app.to_str().unwrap()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");

    let dev = Dev::begin(folder.path());
    let told = dev.event("warning", |event| event["detail"].as_str().unwrap().contains("lock"));
    println!("{told}");
    let mut input = holder.stdin.take().unwrap();
    input.write_all(b"go on\n").unwrap();
    drop(input);
    assert!(holder.wait().unwrap().success());
    dev.event("running", |_| true);
    sql(&app, "INSERT INTO t VALUES (1);");
    dev.assert_replica_equals();
    dev.stop();
}

#[test]
fn a_second_dev_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t (a);");
    let dev = Dev::start(folder.path());
    let (exit, _, errors) =
        run(synddb(["dev", dev.app.to_str().unwrap(), "--port", "0", "--validator-port", "0"]));
    assert_eq!(exit, 2, "{errors}");
    assert!(errors.contains("stop that one first"), "{errors}");
    dev.stop();
}
