//! `synddb wait` believes nobody: with any process standing still, a commit is not in the replica.

use super::harness::Dev;
use crate::programs::sql;

#[test]
fn wait_fails_while_a_process_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app.db");
    sql(&app, "CREATE TABLE t (a);");
    let dev = Dev::start(folder.path());
    dev.assert_replica_equals();
    for process in ["agent", "sequencer", "validator"] {
        dev.signal(process, "STOP");
        sql(&app, "INSERT INTO t VALUES (1);");
        let (exit, told, errors) = dev.wait_applied("700ms");
        println!("{process} stopped: exit {exit}: {}", errors.trim());
        assert_eq!(exit, 4, "{process}: {told}{errors}");
        dev.signal(process, "CONT");
        dev.assert_replica_equals();
    }
    dev.stop();
}
