//! Applying at full strength, through the log: what one row after the other cannot do, every kind of message, and the state after each.

use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;
use synddb_validator::{Event, Mode};

use super::log::Log;
use super::running::{Running, equal, rebuild};

const SETUP: &str = "CREATE TABLE seats(person TEXT UNIQUE, seat INTEGER UNIQUE);
    INSERT INTO seats VALUES('a', 1), ('b', 2), ('c', 3);
    CREATE TABLE names(name TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO names VALUES('Ada', 1), ('bob', 2);
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v); INSERT INTO counted(v) VALUES(1), (2)";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_and_message_leads_to_the_claimed_state() {
    let mut log = Log::begin(SETUP).await;
    let changes = [
        // Two rows in each other's way, and three in a ring: no order of single updates does it.
        "BEGIN; UPDATE seats SET seat = -1 WHERE person = 'a'; UPDATE seats SET seat = 1 WHERE person = 'b';
         UPDATE seats SET seat = 2 WHERE person = 'a'; COMMIT",
        "BEGIN; UPDATE seats SET seat = seat + 100; UPDATE seats SET seat = (seat - 100) % 3 + 1; COMMIT",
        // Another key that compares equal, alone and beside a deleted one.
        "UPDATE names SET name = 'ADA' WHERE name = 'ada'",
        "BEGIN; DELETE FROM names WHERE name = 'BOB'; INSERT INTO names VALUES('Bob', 3); COMMIT",
        "INSERT OR REPLACE INTO names VALUES('aDa', x'00')",
        // The sequence of a table that is emptied stays.
        "DELETE FROM counted; INSERT INTO counted(v) VALUES('after')",
        "UPDATE sqlite_sequence SET seq = 900 WHERE name = 'counted'",
        "BEGIN; ALTER TABLE seats RENAME TO places; ALTER TABLE places RENAME COLUMN seat TO place;
         ALTER TABLE places ADD COLUMN twice AS (place * 2); COMMIT",
        "CREATE VIEW v AS SELECT * FROM places; CREATE TRIGGER ins AFTER INSERT ON names BEGIN DELETE FROM counted; END",
        "INSERT INTO names VALUES('trigger', NULL)",
        "CREATE VIRTUAL TABLE words USING fts5(text); INSERT INTO words VALUES('some words')",
        "PRAGMA user_version = 3; PRAGMA application_id = 4; DROP VIEW v; ALTER TABLE places DROP COLUMN twice",
    ];
    let mut running = Running::start(log.config(Mode::Follow));
    for sql in changes {
        // Each submission in a batch of its own, so that the state is compared after each.
        log.run_and_publish_each(sql).await;
        let events = running.until_applied(log.last()).await;
        let reached = Event::Applied { sequence: log.last(), state: log.state() };
        assert_eq!(events.last(), Some(&reached), "{sql}");
        tables_equal(&log, sql);
    }
    // A snapshot, a reconcile, an audit and a commit in parts, all in one batch.
    log.snapshot_after().await;
    log.reconcile("BEGIN; DELETE FROM places; INSERT INTO places(person, place) VALUES('d', 4); COMMIT");
    log.audit();
    log.run(
        "INSERT INTO names SELECT value, randomblob(90000) FROM json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9]')",
    );
    log.publish().await;
    running.until_applied(log.last()).await;
    running.stop().await.unwrap();
    tables_equal(&log, "one batch");
    // The same from the beginning, in large transactions.
    std::fs::remove_file(log.replica()).unwrap();
    rebuild(&log).await;
}

/// Each table by itself: a full scan of the replica against one of the application's file.
fn tables_equal(log: &Log, sql: &str) {
    equal(log);
    let digests = |file: &std::path::Path| {
        let connection = Connection::open_to_read(file).unwrap();
        RunningState::scan(&connection).unwrap().table_digests()
    };
    let (app, replica) = (digests(std::path::Path::new(log.app.path().unwrap())), digests(&log.replica()));
    assert!(app.len() >= 3, "{app:?}");
    assert_eq!(app, replica, "{sql}");
}
