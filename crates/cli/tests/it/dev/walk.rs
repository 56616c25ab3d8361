//! Rows go in, a verified replica comes out.

use std::path::Path;
use std::process::Command;

use super::harness::Dev;
use crate::processes::{diff, run, synddb};
use crate::programs::{finish, python, sql, start};

const MUSIC: &str = include_str!("../../fixtures/music.sql");

/// Writes rows of every storage class, and changes the schema, in transactions of one to a hundred statements.
const PYTHON: &str = "
import sqlite3, sys
sqlite = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
sqlite.execute('CREATE TABLE IF NOT EXISTS seen (a, b UNIQUE, c REAL)')
for number in range(120):
    sqlite.execute('BEGIN IMMEDIATE')
    for row in range(number % 100 + 1):
        sqlite.execute('INSERT INTO seen (a, b, c) VALUES (?, ?, ?)', (('x' * row, None, row, 1.5, b'\\x00\\xff')[row % 5], number * 1000 + row, row))
    sqlite.execute('DELETE FROM seen WHERE rowid % 13 = 5')
    if number % 40 == 39:
        sqlite.execute('ALTER TABLE seen ADD COLUMN more_%d DEFAULT 7' % number)
    sqlite.execute('COMMIT' if number % 10 else 'ROLLBACK')
";

/// The command that rebuilds a replica from a store.
pub(super) fn replica(dev: &[(&str, &str)], target: &Path) -> (i32, String, String) {
    let mut command = synddb(["replica", "--once", "--json"]);
    for (name, value) in dev {
        command.args([name, value]);
    }
    command.arg(target);
    run(command)
}

#[test]
fn a_replica_is_rebuilt_from_the_store_alone() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, MUSIC);
    let dev = Dev::start(folder.path());
    sql(
        &app,
        "PRAGMA foreign_keys = ON;
         DELETE FROM invoice_line WHERE track_id IN
             (SELECT track_id FROM track JOIN album USING (album_id) WHERE artist_id % 40 = 7);
         DELETE FROM artist WHERE artist_id % 40 = 7;
         UPDATE track SET price = price * 2;",
    );
    finish(start(python(PYTHON, [app.to_str().unwrap()]), ""));
    sql(&app, "VACUUM; PRAGMA user_version = 77;");
    dev.assert_replica_equals();
    sql(&app, &format!(".backup '{}'", folder.path().join("backup.db").display()));
    let (stream, key, store) = (dev.running("stream"), dev.running("key"), dev.running("store"));
    dev.stop();

    // Only the store is taken along.
    let elsewhere = tempfile::tempdir().unwrap();
    let from = Path::new(store.trim_start_matches("file://"));
    let copied = Command::new("cp").arg("-r").arg(from).arg(elsewhere.path().join("store")).status().unwrap();
    assert!(copied.success());
    std::fs::remove_file(&app).unwrap();
    let url = format!("file://{}", elsewhere.path().join("store").display());
    let target = elsewhere.path().join("replica.db");
    let log = [("--store", url.as_str()), ("--stream", &stream), ("--sequencer-key", &key)];
    let (exit, told, errors) = replica(&log, &target);
    assert_eq!(exit, 0, "{told}{errors}");
    let (exit, told, errors) = diff(&folder.path().join("backup.db"), &target);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");

    // Another key than the one that signed is not believed.
    let other = "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let log = [("--store", url.as_str()), ("--stream", &stream), ("--sequencer-key", other)];
    let (exit, told, errors) = replica(&log, &elsewhere.path().join("other.db"));
    assert_eq!(exit, 1, "{told}{errors}");
}

#[test]
fn dev_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (2);");
    dev.assert_replica_equals();
    let stream = dev.running("stream");
    dev.stop();

    // Nothing was committed meanwhile, so it goes on exactly.
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (3);");
    dev.assert_replica_equals();
    assert_eq!(dev.running("stream"), stream);
    assert_eq!(dev.event("attached", |_| true)["incarnation"], 1, "{:#?}", dev.events());
    dev.stop();

    // Something was, which nobody saw: that is one commit now, and its kind says so.
    sql(&app, "INSERT INTO t VALUES (4); UPDATE t SET a = a + 1;");
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (5);");
    dev.assert_replica_equals();
    assert_eq!(dev.running("stream"), stream);
    let attached = dev.event("attached", |_| true);
    assert_eq!((&attached["incarnation"], &attached["continuity"]), (&1.into(), &"reconciled".into()));
    dev.stop();
}
