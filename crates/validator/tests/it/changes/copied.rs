//! A consumer that applies what it is shown has the rows of the application, wherever it is cut off.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_validator::{Event as Happened, Mode};
use tokio::sync::oneshot::error::TryRecvError;

use super::consumer::{Consumer, rows};
use super::listening;
use super::reader::Events;
use crate::log::Log;
use crate::resumed::{diverge, resume};
use crate::running::Running;

/// What the application does, one transaction a line: each kind of table, key, value and schema change.
const WORK: &[&str] = &[
    "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, v, t TEXT COLLATE NOCASE, n REAL)",
    "CREATE TABLE w(k TEXT, j, v, PRIMARY KEY(k, j)) WITHOUT ROWID",
    "CREATE TABLE h(x, y, z AS (x || '-' || y) STORED, q AS (x) VIRTUAL)",
    "CREATE TABLE \"odd \"\"name\"\", of 2\"(\"a b\", \"select\", \"rowid\", \"ünï\")",
    "INSERT INTO a(v, t, n) VALUES(NULL, 'Ä', 1), (x'', '', -0.0), (x'00ff10', 'x', 9e999), (9223372036854775807, CAST(x'ff41' AS TEXT), 1e-300)",
    "INSERT INTO w VALUES('a', 1, 'one'), ('a', 2.5, NULL), ('b', x'01', x'02')",
    "INSERT INTO h(x, y) VALUES(1, 2), (NULL, 3), ('t', x'61')",
    "INSERT INTO \"odd \"\"name\"\", of 2\" VALUES(1, 2, 3, 4), (NULL, NULL, NULL, NULL)",
    "UPDATE a SET id = id + 100",
    "UPDATE w SET k = 'z' || k, v = 'moved'",
    "UPDATE w SET j = 3 - j WHERE k = 'za'",
    "UPDATE h SET x = x WHERE 0",
    "UPDATE h SET y = NULL, x = 'new' WHERE x = 1",
    "DELETE FROM a WHERE v IS NULL",
    "BEGIN; INSERT INTO a(v) VALUES(5); UPDATE a SET v = 6 WHERE v = 5; DELETE FROM a WHERE v = 6; INSERT INTO a(v) VALUES(7); COMMIT",
    "ALTER TABLE a ADD COLUMN more INTEGER DEFAULT 42",
    "UPDATE a SET more = NULL WHERE id % 2",
    "ALTER TABLE w RENAME TO ww",
    "ALTER TABLE ww RENAME COLUMN v TO value",
    "UPDATE ww SET value = 'named'",
    "ALTER TABLE h DROP COLUMN q",
    "CREATE INDEX ay ON a(v); CREATE VIEW seen AS SELECT * FROM a; CREATE TRIGGER tr AFTER INSERT ON h BEGIN INSERT INTO a(v) VALUES(new.x); END",
    "INSERT INTO h(x, y) VALUES('fires', 1)",
    "BEGIN; CREATE TABLE gone(a); INSERT INTO gone VALUES(1); DROP TABLE gone; COMMIT",
    "CREATE TABLE late(a PRIMARY KEY, b UNIQUE); INSERT INTO late VALUES(1, 'p'), (2, 'q')",
    "UPDATE late SET b = CASE a WHEN 1 THEN 'r' ELSE 'p' END",
    "BEGIN; ALTER TABLE late ADD COLUMN c DEFAULT 'd'; UPDATE late SET c = a; DELETE FROM late WHERE a = 2; INSERT INTO late VALUES(3, 's', NULL); COMMIT",
    "BEGIN; DROP TABLE late; CREATE TABLE late(other, shape); INSERT INTO late VALUES(1, 1); COMMIT",
    "PRAGMA user_version = 7",
    "VACUUM",
    "INSERT INTO a(v, t) SELECT randomblob(300), hex(randomblob(50)) FROM (WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 2000) SELECT v FROM n)",
    "BEGIN; CREATE TABLE large(id INTEGER PRIMARY KEY, v); INSERT INTO large SELECT NULL, randomblob(700) FROM a; UPDATE a SET v = id WHERE id % 3 = 0; COMMIT",
    "UPDATE large SET v = zeroblob(900000) WHERE id = 5",
    "DELETE FROM large WHERE id % 2",
    "DROP TABLE large",
    "DELETE FROM a",
    "INSERT INTO a(v) VALUES('the end')",
];

/// An event is closed at 128 KiB, behind a row, and the largest one here is a blob of 900,000 bytes, in hex, before and after.
const EVENT_BYTES_MAX: usize = 2_200_000;

/// Reads from `url` until the last commit of the log, and is cut off about every so many events.
async fn copy(url: &str, consumer: &mut Consumer, last: u64, seed: u64, cut: Option<u32>) {
    let mut chance = StdRng::seed_from_u64(seed);
    let through = |id: &Option<String>| -> u64 {
        id.as_ref().map_or(0, |id| id.split('-').next().unwrap().parse().unwrap())
    };
    while through(&consumer.whole) < last {
        let mut events = Events::open(url, consumer.last.as_deref()).await;
        loop {
            let event = events.next().await.unwrap();
            assert!(event.bytes < EVENT_BYTES_MAX, "an event is bounded: {}", event.bytes);
            consumer.take(event);
            if through(&consumer.whole) >= last {
                return;
            }
            if cut.is_some_and(|cut| chance.random_ratio(1, cut)) {
                // Only its connection, or now and then it is killed with what it had not kept.
                if chance.random_ratio(1, 20) {
                    consumer.restart();
                }
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_feed_says_makes_the_rows_of_the_application() {
    let mut log = Log::begin("PRAGMA page_size = 1024; VACUUM").await;
    log.cut_parts(20_000);
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=1").await;
    // One is there from the beginning, and sees everything come.
    let (reading, to) = (url.clone(), tokio::sync::oneshot::channel::<u64>());
    let (tell, told) = to;
    let live = tokio::spawn(async move {
        let mut consumer = Consumer::new();
        let mut events = Events::open(&reading, None).await;
        let mut told = told;
        let mut last = None;
        loop {
            if last.is_none() {
                last = match told.try_recv() {
                    Ok(last) => Some(last),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Closed) => panic!("the test failed"),
                };
            }
            if let Some(event) = events.within(Duration::from_millis(200)).await {
                consumer.take(event);
            }
            let whole =
                consumer.whole.as_ref().map_or(0, |id| id.split('-').next().unwrap().parse().unwrap());
            if last.is_some_and(|last| whole >= last) {
                return rows(&consumer.copy);
            }
        }
    });
    for (at, sql) in WORK.iter().enumerate() {
        log.run(sql);
        // Batches of one submission and of many, also in the middle of a commit in parts.
        if at % 3 != 1 {
            log.publish().await;
        }
    }
    log.run_and_publish_each(
        "INSERT INTO a(v) SELECT randomblob(5000) FROM (VALUES(1),(2),(3),(4),(5),(6),(7),(8),(9))",
    )
    .await;
    let last = log.last();
    running.until_applied(last).await;
    let expected = rows(&log.app);
    assert!(expected.len() > 20, "{expected:#?}");
    tell.send(last.get()).unwrap();
    assert_eq!(live.await.unwrap(), expected);
    // Others come later, and are cut off at random.
    for (seed, cut) in [(1, None), (2, Some(40)), (3, Some(7)), (4, Some(2))] {
        let mut consumer = Consumer::new();
        copy(&url, &mut consumer, last.get(), seed, cut).await;
        assert_eq!(rows(&consumer.copy), expected, "seed {seed}");
        assert_eq!(consumer.state, Some(log.state().to_string()));
    }
    running.stop().await.unwrap();
    // After a restart nothing is in memory, and the names are in the file.
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=1").await;
    let mut consumer = Consumer::new();
    copy(&url, &mut consumer, last.get(), 5, Some(20)).await;
    assert_eq!(rows(&consumer.copy), expected);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_incarnation_is_told_and_what_was_before_it_is_shown_still() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, old)").await;
    log.run("INSERT INTO t VALUES(1, 'a')");
    log.publish().await;
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=3").await;
    let mut live = Events::open(&url, None).await;
    // In a batch of its own; then behind a commit in the same batch, which no replica ever stood behind.
    log.begin_anew("second.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, new)").await;
    log.run("INSERT INTO t VALUES(7, 'b')");
    log.publish().await;
    log.run("INSERT INTO t VALUES(8, 'never')");
    log.begin_anew("third.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, third); INSERT INTO t VALUES(1, 'c')")
        .await;
    log.run("INSERT INTO t VALUES(9, 'd')");
    log.publish().await;
    let told = |event: &super::reader::Event| {
        let after = &event.data["rows"][0]["after"];
        format!("{} {} {after}", event.name, event.id.as_deref().unwrap())
    };
    let is_last = |event: &super::reader::Event| event.id.as_deref() == Some("8-1");
    let first: Vec<String> = live.until(is_last).await.iter().map(told).collect();
    assert_eq!(
        first,
        [
            r#"commit 3-1 {"id":1,"old":"a"}"#,
            "snapshot 4 null",
            r#"commit 5-1 {"id":7,"new":"b"}"#,
            "snapshot 7 null",
            r#"commit 8-1 {"id":9,"third":"d"}"#,
        ]
    );
    let mut again = Events::open(&url, None).await;
    let again: Vec<String> = again.until(is_last).await.iter().map(told).collect();
    assert_eq!(again, first, "the ring says the same again");
    running.stop().await.unwrap();
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let mut later = Events::open(&running.url("/changes?from=3").await, None).await;
    let later: Vec<String> = later.until(is_last).await.iter().map(told).collect();
    assert_eq!(later, first, "and so does the store");
    let mut events = Events::open(&running.url("/changes?from=7").await, None).await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event.data["why"], event.data["predecessor"]["counter"].as_u64()),
        (&"incarnation".into(), Some(2))
    );
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_commit_whose_last_part_never_came_nothing_is_shown() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    log.run("INSERT INTO t VALUES(1, 'a')");
    log.publish().await;
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=3").await;
    let mut live = Events::open(&url, None).await;
    log.cut_parts(5000);
    let large = "INSERT INTO t(v) SELECT randomblob(3000) FROM (VALUES(1),(2),(3),(4),(5),(6),(7),(8),(9))";
    log.run_and_publish_each(large).await;
    // With a commit before it in the batch of its first part.
    let mut parts = log.capture("INSERT INTO t VALUES(50, 'never')");
    parts
        .extend(log.capture("INSERT INTO t(v) SELECT randomblob(3000) FROM (VALUES(1),(2),(3),(4),(5),(6))"));
    assert!(parts.len() > 3);
    for (at, content) in parts.into_iter().take(3).enumerate() {
        log.submit(content);
        if at > 0 {
            log.publish().await;
        }
    }
    log.begin_anew("second.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, new)").await;
    log.run("INSERT INTO t VALUES(7, 'b')");
    let last = log.publish().await;
    running.until_applied(last).await;
    let told = |event: &super::reader::Event| {
        let rows = event.data["rows"].as_array().map(Vec::len);
        format!("{} {} {} {rows:?}", event.name, event.data["incarnation"]["counter"], event.data["commit"])
    };
    let is_last =
        |event: &super::reader::Event| event.id.as_ref().is_some_and(|id| *id == format!("{last}-1"));
    let whole = |events: Vec<super::reader::Event>| -> Vec<String> {
        let mut told: Vec<String> = events.iter().map(told).collect();
        // Where events end in a commit in parts is of no interest here.
        told.retain(|told| !told.starts_with("commit 1 2"));
        told
    };
    let first = whole(live.until(is_last).await);
    assert_eq!(first, ["commit 1 1 Some(1)", "snapshot 2 null None", "commit 2 1 Some(1)"]);
    running.stop().await.unwrap();
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let url = running.url("/changes?from=3").await;
    let mut later = Events::open(&url, None).await;
    let later = later.until(is_last).await;
    let rows = |event: &super::reader::Event| event.data["rows"].as_array().map_or(0, Vec::len);
    assert_eq!(later.iter().map(rows).sum::<usize>(), 1 + 9 + 1);
    assert_eq!(whole(later), first, "the store says the same");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_an_older_release_kept_shows_changes_from_where_it_stands() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    log.run("INSERT INTO t VALUES(1, 'a')");
    log.publish().await;
    Running::start(log.config(Mode::Once)).end().await.unwrap();
    crate::audited::shell(&log.replica(), "DROP TABLE _synddb_columns; DROP TABLE _synddb_marks");
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    let (status, problem) = running.get_json("/changes?from=3").await;
    assert_eq!(
        (status, problem["code"].as_str(), problem["first"].as_u64()),
        (410, Some("not_kept"), Some(4))
    );
    let mut events = Events::open(&running.url("/changes?from=4").await, None).await;
    log.run("INSERT INTO t VALUES(2, 'b')");
    log.publish().await;
    assert_eq!(events.next().await.unwrap().data["rows"][0]["after"], serde_json::json!({"id": 2, "v": "b"}));
    running.stop().await.unwrap();
    // What it knew from there on, it knows after a restart.
    let mut running = Running::start(listening(&log));
    running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
    assert_eq!(running.get_json("/changes?from=3").await.0, 410);
    let mut events = Events::open(&running.url("/changes?from=4").await, None).await;
    assert_eq!(events.next().await.unwrap().data["rows"][0]["after"], serde_json::json!({"id": 2, "v": "b"}));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_gap_a_reader_is_told_to_begin_anew() {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    log.run("INSERT INTO t VALUES(1, 'a')");
    log.publish().await;
    diverge(&mut log).await;
    log.run("INSERT INTO t VALUES(7, 'missing'); ALTER TABLE t RENAME COLUMN v TO w");
    log.publish().await;
    crate::halted::halt(log.config(Mode::Once)).await;
    let mut running = Running::start_as(resume(&log), listening(&log));
    running.until(|event| matches!(event, Happened::Listening { .. })).await;
    log.run("INSERT INTO t VALUES(8, 'missing as well')");
    log.snapshot_after().await;
    log.run("INSERT INTO t VALUES(9, 'b')");
    let last = log.publish().await;
    running.until_applied(last).await;
    let told = |event: &super::reader::Event| {
        let after = &event.data["rows"][0]["after"];
        format!("{} {} {after}", event.name, event.id.as_deref().unwrap())
    };
    let expected = [
        r#"commit 3-1 {"id":1,"v":"a"}"#.to_owned(),
        format!("snapshot {} null", last.get() - 1),
        format!(r#"commit {last}-6 {{"id":9,"w":"b"}}"#),
    ];
    // From the store, then from what was applied, then again after a restart.
    for from in [3, 4, 3] {
        let mut events = Events::open(&running.url(&format!("/changes?from={from}")).await, None).await;
        let events = events.until(|event| event.number("sequence") == last.get()).await;
        let found: Vec<String> = events.iter().map(told).collect();
        let expected = &expected[usize::from(from == 4)..];
        assert_eq!(found, expected, "from {from}");
        let snapshot = events.iter().find(|event| event.name == "snapshot").unwrap();
        assert_eq!((&snapshot.data["why"], snapshot.number("commit")), (&"gap".into(), 5));
        if from == 4 {
            running.stop().await.unwrap();
            running = Running::start(listening(&log));
            running.until(|event| matches!(event, Happened::CaughtUp { .. })).await;
        }
    }
    running.stop().await.unwrap();
}
