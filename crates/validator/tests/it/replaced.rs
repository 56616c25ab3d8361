//! A new incarnation takes the replica's place, whoever reads it meanwhile.

use serde_json::json;
use synddb_protocol::id::Sequence;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::state::RunningState;
use synddb_validator::{Divergence, Event, HaltCause, Mode, ReplicaError, ValidatorError};
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::places::refused;
use super::rebuilt::position;
use super::running::{PATIENCE, Running, client, equal, rebuild};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES('old'), ('older')";
const ANEW: &str =
    "CREATE TABLE n(a, b); CREATE INDEX na ON n(a); INSERT INTO n VALUES(1, 'new'), (2, 'newer');
    CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t(v) VALUES('other')";

#[tokio::test(flavor = "multi_thread")]
async fn a_new_incarnation_replaces_the_replica_under_its_readers() {
    let mut log = Log::begin(SETUP).await;
    let mut running = Running::start(log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let reader = rusqlite::Connection::open(log.replica()).unwrap();
    let count = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count("SELECT v FROM t WHERE id = 1"), "old");
    log.begin_anew("copy.db", ANEW).await;
    log.run("INSERT INTO n VALUES(3, 'newest')");
    let last = log.publish().await;
    let events = running.until_applied(last).await;
    assert!(matches!(events[0], Event::Restored { sequence, .. } if sequence == last), "{events:?}");
    // A reader keeps its state until it ends its transaction, and then sees the other one.
    assert_eq!(count("SELECT v FROM t WHERE id = 1"), "old");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count("SELECT v FROM t WHERE id = 1"), "other");
    assert_eq!(count("SELECT max(b) FROM n"), "newest");
    drop(reader);
    log.run("DELETE FROM n WHERE a = 2");
    let last = log.publish().await;
    running.until_applied(last).await;
    running.stop().await.unwrap();
    equal(&log);
    let names: Vec<_> =
        std::fs::read_dir(log.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("restoring")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_incarnation_takes_over_in_the_middle_of_a_batch_and_of_a_commit() {
    let mut log = Log::begin("CREATE TABLE t(a)").await;
    let parts = log.capture(
        "INSERT INTO t SELECT randomblob(900) FROM (WITH RECURSIVE n(v) AS
         (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000) SELECT v FROM n)",
    );
    log.submit(parts[0].clone());
    log.publish().await;
    log.submit(parts[1].clone());
    log.begin_anew("copy.db", ANEW).await;
    log.run("INSERT INTO n VALUES(3, 'newest')");
    log.publish().await;
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_catches_up_goes_through_every_incarnation() {
    let mut log = Log::begin(SETUP).await;
    for round in 0..3 {
        log.run_and_publish_each("INSERT INTO t(v) VALUES(random()); UPDATE t SET v = v || '.'").await;
        log.begin_anew(&format!("copy{round}.db"), ANEW).await;
        log.publish().await;
    }
    log.run("INSERT INTO n VALUES(3, 'newest')");
    log.publish().await;
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_incarnation_may_store_text_otherwise() {
    let mut log = Log::begin(SETUP).await;
    rebuild(&log).await;
    log.begin_anew("copy.db", &format!("PRAGMA encoding = 'UTF-16le'; {ANEW}")).await;
    log.publish().await;
    rebuild(&log).await;
    log.run("INSERT INTO n VALUES('né', 'x')");
    log.publish().await;
    rebuild(&log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_page_size_waits_for_queries_and_keeps_new_ones_out() {
    let mut log = Log::begin(SETUP).await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    (config.query.ms_max, config.query.concurrent_max) = (400, 6);
    let mut running = Running::start(config);
    let url = running.url("/query").await;
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    // Strangers whose queries take each another time, so that one of them always has the file open.
    let done = CancellationToken::new();
    let strangers: Vec<_> = (0..6)
        .map(|number| {
            let (url, done) = (url.clone(), done.clone());
            tokio::spawn(async move {
                let most = 300_000 + number * 170_000;
                let sql = format!(
                    "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < {most}) SELECT max(v) FROM n"
                );
                let mut asked = 0u64;
                while !done.is_cancelled() {
                    let answer = client().post(&url).json(&json!({ "sql": &sql })).send().await.unwrap();
                    assert!([200, 429, 503].contains(&answer.status().as_u16()), "{answer:?}");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    log.begin_anew("copy.db", &format!("PRAGMA page_size = 16384; {ANEW}")).await;
    log.run("INSERT INTO n VALUES(3, 'newest')");
    let last = log.publish().await;
    running.until_applied(last).await;
    done.cancel();
    for stranger in strangers {
        assert!(stranger.await.unwrap() > 0);
    }
    let (status, answer) = running.query(json!({"sql": "SELECT max(b) FROM n"})).await;
    assert_eq!((status, &answer["rows"]), (200, &json!([["newest"]])));
    running.stop().await.unwrap();
    equal(&log);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_page_size_needs_the_file_for_itself() {
    let mut log = Log::begin(SETUP).await;
    rebuild(&log).await;
    log.begin_anew("copy.db", &format!("PRAGMA page_size = 16384; {ANEW}")).await;
    log.publish().await;
    let reader = rusqlite::Connection::open(log.replica()).unwrap();
    let old: String = reader.query_row("SELECT v FROM t WHERE id = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(old, "old");
    let found = refused(Running::start(log.config(Mode::Once))).await;
    assert!(matches!(found, ReplicaError::PageSize { from: 4096, to: 16384, .. }), "{found:?}");
    // Nothing of it is in the replica, whose contents and position still go together.
    assert_eq!(position(&reader).0, Sequence::new(2).unwrap());
    drop(reader);
    let scanned = RunningState::scan(&Connection::open(&log.replica()).unwrap()).unwrap().hash();
    assert_eq!(position(&rusqlite::Connection::open(log.replica()).unwrap()).1, scanned);
    rebuild(&log).await;
    log.run("INSERT INTO n VALUES(3, 'newest')");
    log.publish().await;
    rebuild(&log).await;
    let mode: String = rusqlite::Connection::open(log.replica())
        .unwrap()
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_somebody_edits_on_its_way_is_found() {
    let mut log = Log::begin(SETUP).await;
    rebuild(&log).await;
    log.begin_anew("copy.db", ANEW).await;
    let last = log.publish().await;
    // Who writes into the replica keeps the snapshot beside it for a while.
    let writer = rusqlite::Connection::open(log.replica()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let running = Running::start(log.config(Mode::Once));
    let staged = log.folder.path().join("replica.db.restoring/replica.db");
    let is_whole = async {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let committed = |sqlite: rusqlite::Connection| {
            sqlite.query_row("SELECT sequence FROM _synddb_position", [], |row| row.get::<_, i64>(0))
        };
        while rusqlite::Connection::open_with_flags(&staged, flags).and_then(committed)
            != Ok(last.get().cast_signed())
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_whole).await.expect("a snapshot is restored in time");
    let editor = rusqlite::Connection::open(&staged).unwrap();
    // The copy reads the snapshot while it waits for the writer, and lets it go between two tries.
    editor.busy_timeout(PATIENCE).unwrap();
    editor.execute_batch("UPDATE n SET b = 'mine'").unwrap();
    drop(editor);
    writer.execute_batch("ROLLBACK").unwrap();
    let ended = running.end().await;
    let Err(ValidatorError::Halted { source, .. }) = &ended else { panic!("{ended:?}") };
    assert!(matches!(**source, HaltCause::Diverged { source: Divergence::State { .. }, .. }), "{source:?}");
}
