//! `synddb audit`, asked of a running agent.

use super::harness::Dev;
use crate::processes::{run, synddb};
use crate::programs::sql;

#[test]
fn a_database_is_scanned_when_somebody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a); INSERT INTO t VALUES (1);");
    let (exit, _, errors) = run(synddb(["audit", app.to_str().unwrap()]));
    assert_ne!(exit, 0, "nobody follows it");
    assert!(!errors.is_empty());
    let dev = Dev::start(folder.path());
    sql(&app, "INSERT INTO t VALUES (2); CREATE TABLE u AS SELECT * FROM t;");
    let (exit, told, errors) = run(synddb(["audit", app.to_str().unwrap()]));
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    assert!(told.contains("the database is what was captured"), "{told}");
    // What it found is in the log, and the replica goes on from there.
    sql(&app, "DELETE FROM t;");
    dev.assert_replica_equals();
    dev.stop();
}
