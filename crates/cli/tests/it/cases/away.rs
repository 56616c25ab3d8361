//! What the application does while no agent is there.

use super::{EXACTLY, kill_with_pin};
use crate::programs::sql;
use crate::roles::System;

/// Kills the agent, has the application do something, and follows again. Returns how that went on.
fn while_away(meanwhile: &str, has_wal: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start(folder.path());
    sql(&system.app, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'before');");
    let mut agent = system.follow();
    sql(&system.app, "INSERT INTO t VALUES (2, 'seen');");
    system.assert_equal();
    kill_with_pin(&mut agent);
    sql(&system.app, meanwhile);
    assert_eq!(folder.path().join("app.db-wal").exists(), has_wal);
    let mut agent = system.follow();
    sql(&system.app, "INSERT INTO t VALUES (100, 'after');");
    system.assert_replica_equals();
    let how = agent.how();
    println!("{how}");
    assert!(!how.contains(EXACTLY), "nobody saw what was committed meanwhile: {how}");
    agent.end();
    how
}

#[test]
fn a_database_that_is_written_checkpointed_and_closed_while_nobody_follows() {
    while_away(
        "INSERT INTO t VALUES (3, 'unseen'); PRAGMA wal_checkpoint(TRUNCATE);
         CREATE TABLE u (x); INSERT INTO u VALUES (1); DELETE FROM t WHERE a = 1; PRAGMA user_version = 3;",
        false,
    );
}

#[test]
fn a_database_that_leaves_wal_mode_and_comes_back_while_nobody_follows() {
    while_away(
        "PRAGMA journal_mode = DELETE; INSERT INTO t VALUES (3, 'unseen'); VACUUM; PRAGMA journal_mode = WAL;
         INSERT INTO t VALUES (4, 'unseen');",
        false,
    );
}

#[test]
fn a_database_that_stays_out_of_wal_mode_is_switched_back() {
    while_away("PRAGMA journal_mode = DELETE; INSERT INTO t VALUES (3, 'unseen');", false);
}

#[test]
fn a_database_that_is_written_checkpointed_and_closed_while_its_place_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let system = System::start(folder.path());
    sql(&system.app, "CREATE TABLE t (a INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'before');");
    let mut agent = system.follow();
    agent.event("pinned", |_| true);
    sql(&system.app, "INSERT INTO t VALUES (2, 'seen');");
    system.assert_equal();
    agent.kill();
    for number in 3..40 {
        // Each opens the database, checkpoints and closes it; the WAL begins anew as often as the pin lets it, which is once.
        let checkpoints =
            "PRAGMA busy_timeout = 5; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_checkpoint(PASSIVE);";
        sql(&system.app, &format!("INSERT INTO t VALUES ({number}, 'not seen yet'); {checkpoints}"));
    }
    assert!(folder.path().join("app.db-wal").exists());
    let mut agent = system.follow();
    sql(&system.app, "INSERT INTO t VALUES (100, 'after');");
    system.assert_replica_equals();
    assert!(agent.how().contains(EXACTLY), "{}", agent.how());
    agent.end();
}
