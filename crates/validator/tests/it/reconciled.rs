//! A reconcile is applied as any other commit is, and so is an audit, which changes nothing.

use synddb_protocol::submission::{Commit, CommitKind, Commits, Content, StateClaim};
use synddb_validator::Event;

use super::log::Log;
use super::running::{Running, equal, rebuild};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES(1), (2)";

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_is_applied_as_any_commit_is() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('seen')");
    log.reconcile(
        "BEGIN; DELETE FROM t WHERE id = 1; UPDATE t SET v = 'nobody saw it' WHERE id = 2; ALTER TABLE t ADD COLUMN w DEFAULT 3;
         CREATE TABLE u(x PRIMARY KEY) WITHOUT ROWID; INSERT INTO u VALUES('new'); PRAGMA user_version = 4; COMMIT",
    );
    log.publish().await;
    rebuild(&log).await;
    log.run("INSERT INTO t(v, w) VALUES('seen again', 5)");
    log.publish().await;
    rebuild(&log).await;
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_reconcile_comes_in_parts_over_batches() {
    let mut log = Log::begin(SETUP).await;
    log.reconcile("INSERT INTO t(v) VALUES(randomblob(700000)), (randomblob(300000))");
    log.publish().await;
    log.audit();
    log.publish().await;
    rebuild(&log).await;
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_changes_nothing_also_when_it_found_something() {
    let mut log = Log::begin(SETUP).await;
    let state = log.state();
    log.audit();
    log.publish().await;
    assert_eq!(rebuild(&log).await.state, Some(state));
    // The capture missed something, and the application's own agent says so: the replica is still what was captured.
    let client = log.tip.client().unwrap().clone();
    let scanned = synddb_protocol::hash::StateHash::from_bytes([9; 32]);
    let commit = Commit {
        number: client.next,
        prev: client.last,
        kind: CommitKind::Reconcile,
        changes: synddb_protocol::submission::Changes::default(),
        state: Some(StateClaim { state, scanned: Some(scanned) }),
    };
    log.submit(Content::Commits(Commits::new(vec![commit]).unwrap()));
    let last = log.publish().await;
    let mut running = Running::start(log.config(synddb_validator::Mode::Follow));
    let events = running.until_applied(last).await;
    assert!(
        matches!(events.last(), Some(Event::Applied { state: found, .. }) if *found == state),
        "{events:?}"
    );
    running.stop().await.unwrap();
}
