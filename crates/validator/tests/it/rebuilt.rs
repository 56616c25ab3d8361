//! The replica is what the application's database is, however the log came about and wherever a validator was stopped.

use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;
use synddb_validator::{End, Event, Mode};

use super::log::{Log, STREAM, key};
use super::running::{Running, equal, rebuild};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE INDEX tv ON t(v);
    CREATE TABLE w(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID; INSERT INTO t(v) VALUES(1), (2)";

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_equals_its_source() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('three'); UPDATE t SET v = v || '!' WHERE id = 2; DELETE FROM t WHERE id = 1");
    log.publish().await;
    log.run("CREATE TABLE u(x TEXT UNIQUE, y REAL DEFAULT 1.5); INSERT INTO u(x) VALUES('a'), ('b')");
    log.run_and_publish_each(
        "ALTER TABLE u ADD COLUMN z; UPDATE u SET x = x || 1; PRAGMA user_version = 7; DROP INDEX tv",
    )
    .await;
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_ends_once_without_a_replica() {
    let log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Once);
    config.stream = Some(synddb_protocol::id::StreamId::from_bytes([1; 32]));
    let end = Running::start(config).end().await.unwrap();
    assert_eq!(end, End { sequence: None, state: None });
    assert!(!log.replica().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_while_it_follows_is_applied() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(log.config(Mode::Follow));
    let first = running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    assert!(matches!(first[0], Event::Restored { .. }), "{first:?}");
    for _ in 0..5 {
        log.run("INSERT INTO t(v) VALUES(hex(randomblob(20)))");
        let last = log.publish().await;
        let events = running.until_applied(last).await;
        assert_eq!(events.last(), Some(&Event::Applied { sequence: last, state: log.state() }));
        equal(&log);
    }
    let end = running.stop().await.unwrap();
    assert_eq!(end, End { sequence: Some(log.last()), state: Some(log.state()) });
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_applies_what_the_store_holds() {
    let mut log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.poll_ms_max = 3_600_000;
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    log.run_and_publish_each(
        "INSERT INTO t(v) VALUES(1); INSERT INTO t(v) VALUES(2); INSERT INTO t(v) VALUES(3)",
    )
    .await;
    assert_eq!(running.stop().await.unwrap().sequence, Some(log.last()));
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_from_the_file() {
    let mut log = Log::begin(SETUP).await;
    for round in 0..4 {
        log.run(&format!(
            "INSERT INTO t(v) VALUES({round}); CREATE TABLE r{round}(a); INSERT INTO r{round} VALUES(1)"
        ));
        log.publish().await;
        // Everything before the position is gone: who still needed it would wait for ever or fail.
        let end = rebuild(&log).await;
        assert_eq!(end.sequence, Some(log.last()));
        for first in 1..log.last().get() {
            let batch = log.folder.path().join("store").join(super::log::batch_key(first).to_string());
            if first > 1 {
                std::fs::remove_file(batch).ok();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_commit_in_parts_spans_batches() {
    let mut log = Log::begin(SETUP).await;
    let huge = "BEGIN; CREATE TABLE h(a, b);
        INSERT INTO h SELECT value, hex(randomblob(500)) FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1
        FROM n WHERE value < 3000) SELECT value FROM n); UPDATE t SET v = 'huge'; COMMIT";
    let before = log.state();
    let parts = log.capture(huge);
    assert!(parts.len() > 5, "{}", parts.len());
    // A whole commit and the first parts in one batch, then a batch for each part, and one more commit behind the last.
    let (first, rest) = parts.split_at(2);
    for part in first {
        log.submit(part.clone());
    }
    log.publish().await;
    let mut running = Running::start(log.config(Mode::Follow));
    let events = running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let Some(Event::CaughtUp { sequence: stands, .. }) = events.last().cloned() else { panic!("{events:?}") };
    for part in &rest[..rest.len() - 1] {
        log.submit(part.clone());
        log.publish().await;
    }
    // Stopped inside the group it stands where it stood, and reads the parts again.
    let end = running.stop().await.unwrap();
    assert_eq!((end.sequence, end.state), (Some(stands), Some(before)));
    log.submit(rest[rest.len() - 1].clone());
    log.run("INSERT INTO t(v) VALUES('behind')");
    log.publish().await;
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_after_a_commit_changes_nothing() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES(1)");
    log.snapshot_after().await;
    log.run("INSERT INTO t(v) VALUES(2)");
    log.publish().await;
    let mut running = Running::start(log.config(Mode::Follow));
    let events = running.until_applied(log.last()).await;
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Restored { .. })).count(), 1);
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_change_and_claims_of_others_are_passed() {
    let mut log = Log::begin(SETUP).await;
    log.run("INSERT INTO t(v) VALUES('one')");
    log.publish().await;
    log.waste(2).await;
    log.lead(3, 2).await;
    log.run("INSERT INTO t(v) VALUES('two')");
    log.publish().await;
    let mut config = log.config(Mode::Once);
    config.sequencer_keys = [1, 2].map(|number| *key(number).verifying_key()).into();
    Running::start(config.clone()).end().await.unwrap();
    equal(&log);
    // Joined behind the change.
    log.lead(4, 1).await;
    log.run("INSERT INTO t(v) VALUES('three')");
    log.publish().await;
    Running::start(config).end().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_and_position_never_part() {
    let mut log = Log::begin(SETUP).await;
    for _ in 0..60 {
        log.run_and_publish_each("UPDATE t SET v = hex(randomblob(8)); INSERT INTO t(v) VALUES(random())")
            .await;
    }
    let mut running = Running::start(log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::Applied { .. })).await;
    // A reader beside the owner: whatever state it meets, a full scan of it is what the position claims.
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let reader = Connection::open_read_only(&log.replica()).unwrap();
        reader.execute("BEGIN").unwrap();
        let (sequence, claimed) = position(reader.sqlite());
        assert_eq!(RunningState::scan(&reader).unwrap().hash(), claimed, "at {sequence}");
        seen.insert(sequence);
        if sequence == log.last() {
            break;
        }
    }
    running.stop().await.unwrap();
    assert!(!seen.is_empty());
}

/// The position in a replica, and the state that it claims.
pub(crate) fn position(
    sqlite: &rusqlite::Connection,
) -> (synddb_protocol::id::Sequence, synddb_protocol::hash::StateHash) {
    let bytes: Vec<u8> =
        sqlite.query_row("SELECT checkpoint FROM _synddb_position", [], |row| row.get(0)).unwrap();
    let checkpoint = synddb_protocol::log::SignedCheckpoint::from_bytes(&bytes).unwrap();
    assert_eq!(checkpoint.claim().stream, STREAM);
    (checkpoint.claim().size, checkpoint.claim().client.as_ref().unwrap().state)
}
