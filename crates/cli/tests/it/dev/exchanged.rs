//! A database that is not the one any more: removed and made anew, or put back from a backup, while it is followed.

use std::fs;

use super::harness::Dev;
use crate::programs::sql;

#[test]
fn a_database_made_anew_is_followed_as_a_new_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE old (a); INSERT INTO old VALUES (1);");
    let dev = Dev::start(folder.path());
    dev.assert_replica_equals();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(folder.path().join(format!("app.db{suffix}"))).unwrap();
    }
    sql(&app, "CREATE TABLE new (b); INSERT INTO new VALUES (2);");
    dev.assert_replica_equals();
    sql(&app, "INSERT INTO new VALUES (3);");
    dev.assert_replica_equals();
    assert_eq!(dev.event("attached", |event| event["incarnation"] == 2)["incarnation"], 2);
    dev.stop();
}

#[test]
fn a_database_put_back_from_a_backup_is_followed_as_a_new_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    let backup = folder.path().join("backup.db");
    sql(&app, "CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    sql(&app, &format!(".backup '{}'", backup.display()));
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (2);");
    dev.assert_replica_equals();
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(folder.path().join(format!("app.db{suffix}"))).unwrap();
    }
    fs::rename(&backup, &app).unwrap();
    sql(&app, "INSERT INTO t VALUES (7);");
    dev.assert_replica_equals();
    dev.stop();
}
