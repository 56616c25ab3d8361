//! Readers that overlap: SQLite alone would never begin the replica's WAL anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use synddb_validator::{Event, Mode};

use super::log::Log;
use super::running::{Running, client, equal};

const READERS: usize = 4;
const COMMITS: usize = 150;
const COMMIT_BYTES: usize = 100_000;
const BOUND: u64 = 1 << 20;

/// How large the WAL becomes while readers are never gone, at most.
async fn largest_wal(wal_bytes_max: u64) -> u64 {
    let mut log = Log::begin("CREATE TABLE t(id INTEGER PRIMARY KEY, v)").await;
    let mut config = log.config(Mode::Follow);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.wal_bytes_max = wal_bytes_max;
    (config.query.ms_max, config.query.concurrent_max) = (200, READERS);
    let mut running = Running::start(config);
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let url = running.url("/query").await;
    let over = Arc::new(AtomicBool::new(false));
    let read = |over: Arc<AtomicBool>, url: String| async move {
        let endless =
            "WITH RECURSIVE n(v) AS (SELECT id FROM t UNION ALL SELECT v + 1 FROM n) SELECT count(*) FROM n";
        let client = client();
        let mut read = 0;
        while !over.load(Ordering::Relaxed) {
            let answer = client.post(&url).json(&json!({"sql": endless})).send().await.unwrap();
            assert!([200, 503].contains(&answer.status().as_u16()), "{answer:?}");
            read += 1;
        }
        read
    };
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(read(over.clone(), url.clone()))).collect();
    let wal = log.folder.path().join("replica.db-wal");
    let mut largest = 0;
    for _ in 0..COMMITS {
        log.run(&format!("INSERT INTO t(v) VALUES(randomblob({COMMIT_BYTES}))"));
        let last = log.publish().await;
        running.until_applied(last).await;
        largest = largest.max(std::fs::metadata(&wal).map_or(0, |wal| wal.len()));
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 1, "each reader read again and again");
    }
    running.stop().await.unwrap();
    equal(&log);
    largest
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_overlap_do_not_make_the_wal_grow_without_bound() {
    let (bounded, unbounded) = (largest_wal(BOUND).await, largest_wal(u64::MAX).await);
    println!(
        "largest WAL bounded={bounded} unbounded={unbounded} of {} bytes written",
        COMMITS * COMMIT_BYTES
    );
    let written = (COMMITS * COMMIT_BYTES) as u64;
    assert!(unbounded > written / 2, "the readers overlap: {unbounded}");
    // What is written while the last readers leave.
    assert!(bounded < BOUND + written / 3, "{bounded}");
}
