//! `GET /changes` of a running system: each commit once and in order, whoever is killed, and how soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use synddb_sqlite::rusqlite::Connection;
use tokio::task::JoinSet;

use super::harness::{Dev, positions};
use super::{PATIENCE, curl};
use crate::programs::sql;

fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A reader that comes back with the last id for as long as it takes. Returns how late each row came, in microseconds, once it saw row `last`.
async fn follow(url: String, last: u64, ready: Arc<AtomicUsize>) -> Vec<u64> {
    let client = reqwest::Client::new();
    let (mut id, mut next, mut lags) = (String::new(), 1, Vec::new());
    let mut is_ready = false;
    while next <= last {
        let mut request = client.get(&url);
        if !id.is_empty() {
            request = request.header("last-event-id", &id);
        }
        let Ok(mut answer) = request.send().await.and_then(reqwest::Response::error_for_status) else {
            tokio::task::yield_now().await;
            continue;
        };
        if !std::mem::replace(&mut is_ready, true) {
            ready.fetch_add(1, Ordering::Relaxed);
        }
        let mut text = Vec::new();
        while let Ok(Some(more)) = answer.chunk().await {
            text.extend_from_slice(&more);
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = text.drain(..end + 2).collect();
                for line in std::str::from_utf8(&block).unwrap().lines() {
                    if let Some(told) = line.strip_prefix("id: ") {
                        told.clone_into(&mut id);
                    }
                    let Some(data) = line.strip_prefix("data: ") else { continue };
                    let event: Value = serde_json::from_str(data).unwrap();
                    for row in event["rows"].as_array().into_iter().flatten() {
                        assert_eq!(row["after"]["id"].as_u64(), Some(next), "each row once, in order");
                        lags.push(now_us() - row["after"]["at"].as_u64().unwrap());
                        next += 1;
                    }
                }
            }
            if next > last {
                break;
            }
        }
    }
    lags
}

/// Has so many readers follow `commits` commits. What is done between them is up to `between`.
fn measure(dev: &Dev, readers: usize, commits: u64, mut between: impl FnMut(&Dev, u64)) -> Vec<u64> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let app = Connection::open(&dev.app).unwrap();
    app.execute_batch("DELETE FROM t").unwrap();
    dev.assert_replica_equals();
    let ready = Arc::new(AtomicUsize::new(0));
    // By its number: who comes back without having seen any is told the same.
    let next = positions(&dev.status())["applied"].as_u64().unwrap() + 1;
    let url = format!("{}/changes?tables=t&from={next}", dev.running("validator"));
    let mut following = JoinSet::new();
    for _ in 0..readers {
        following.spawn_on(follow(url.clone(), commits, Arc::clone(&ready)), runtime.handle());
    }
    let until = std::time::Instant::now() + PATIENCE;
    while ready.load(Ordering::Relaxed) < readers {
        assert!(std::time::Instant::now() < until, "all readers are let in");
        std::thread::yield_now();
    }
    for id in 1..=commits {
        app.execute("INSERT INTO t(id, at) VALUES(?1, ?2)", (id.cast_signed(), now_us().cast_signed()))
            .unwrap();
        between(dev, id);
        // A pace, and nothing that is waited for.
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let lags = runtime.block_on(async { tokio::time::timeout(PATIENCE, following.join_all()).await });
    let mut lags = lags.expect("every reader sees every row").concat();
    assert_eq!(lags.len(), readers * usize::try_from(commits).unwrap());
    lags.sort_unstable();
    lags
}

fn told(name: &str, lags: &[u64]) {
    let at = |percent: usize| lags[(lags.len() - 1) * percent / 100] as f64 / 1000.0;
    eprintln!("{name}: from the commit to the event, p50 {:.1} ms, p99 {:.1} ms", at(50), at(99));
}

#[test]
fn every_commit_comes_to_each_reader_once_and_soon() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t(id INTEGER PRIMARY KEY, at INTEGER);");
    let dev = Dev::start(folder.path());
    for readers in [1, 50] {
        let lags = measure(&dev, readers, 200, |_, _| {});
        told(&format!("{readers} readers"), &lags);
    }
    dev.stop();
}

#[test]
fn whoever_is_killed_a_reader_sees_every_commit_once() {
    let folder = tempfile::tempdir().unwrap();
    sql(&folder.path().join("app.db"), "CREATE TABLE t(id INTEGER PRIMARY KEY, at INTEGER);");
    let dev = Dev::start(folder.path());
    let url = dev.running("validator");
    let lags = measure(&dev, 3, 60, |dev, id| match id {
        15 | 45 => dev.kill("validator"),
        30 => dev.kill("sequencer"),
        _ => {}
    });
    told("3 readers, and processes that are killed", &lags);
    let (code, problem) = curl(&[&format!("{url}/changes?from=1000000")]);
    assert_eq!((code, problem["code"].as_str()), (404, Some("not_found")), "{problem}");
    dev.stop();
}
