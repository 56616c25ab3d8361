//! What ten snapshots in a row cost, where little changes between one and the next.
//!
//! Small here. `SYNDDB_SNAPSHOT_MB=1024` makes the database a gigabyte; `--nocapture` shows the figures.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use synddb_sqlite::snapshot::SuccessiveWriter;

use super::chain::{Chain, Taken};
use super::*;

const SNAPSHOTS: usize = 10;
/// Rows of the database in an ordinary run, in bytes together.
const MEGABYTES: u64 = 24;
/// Bytes of a row. About seventeen fit a page.
const ROW: u64 = 220;

fn megabytes() -> u64 {
    std::env::var("SYNDDB_SNAPSHOT_MB").map_or(MEGABYTES, |megabytes| megabytes.parse().unwrap())
}

fn rows() -> u64 {
    megabytes() * (1 << 20) / (ROW + 14)
}

/// Takes ten snapshots with a change before each but the first, and restores the last. Returns bytes of the first one and of all.
fn ten(name: &str, change: impl Fn(usize, u64) -> String) -> (u64, u64) {
    let rows = rows();
    let mut chain = Chain::new(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, n, b);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO t SELECT i, 0, randomblob({ROW}) FROM n; COMMIT; PRAGMA journal_mode = WAL"
    ));
    let (mut all, mut first, mut last) = (0, 0, None);
    for snapshot in 0..SNAPSHOTS {
        if snapshot > 0 {
            make(&chain.source, &format!("PRAGMA synchronous = OFF; {}", change(snapshot, rows)));
        }
        let began = Instant::now();
        let taken = take_next(&mut chain);
        let took = began.elapsed();
        all += taken.bytes();
        if snapshot == 0 {
            first = taken.bytes();
        }
        tell(name, snapshot, &chain, &taken, took);
        last = Some(taken);
    }
    let mut last = last.unwrap();
    let connection = begin(&chain.source);
    let began = Instant::now();
    last.state = RunningState::scan(&connection).unwrap().hash();
    let scanned = began.elapsed();
    let began = Instant::now();
    let target = chain.restore(&last);
    let restored = began.elapsed();
    println!(
        "{name}: all ten {all} bytes, {:.2} times the first; scanned in {scanned:.1?}, restored in {restored:.1?}",
        ratio(all, first)
    );
    assert_eq!(first_difference(&chain.source, &target).unwrap(), None);
    (first, all)
}

fn tell(name: &str, snapshot: usize, chain: &Chain, taken: &Taken, took: Duration) {
    let made = chain.made();
    let fetched: u64 = made.image(taken.state).chunks().map(|chunk| chunk.stored_bytes).sum();
    let places: usize = made.patches.iter().map(|patch| patch.places.len()).sum();
    println!(
        "{name}: snapshot {snapshot}: {} pages and {} bytes in {} chunks, taken in {took:.1?}; made of {} runs, {} patches, {places} places, {fetched} bytes",
        taken.pages(),
        taken.bytes(),
        taken.new.len(),
        made.runs.len(),
        made.patches.len(),
    );
}

fn take_next(chain: &mut Chain) -> Taken {
    let connection = begin(&chain.source);
    let mut writer = SuccessiveWriter::new(&connection, chain.last.take()).unwrap();
    let mut new = Vec::new();
    for stored in writer.by_ref() {
        let StoredChunk { chunk, bytes } = stored.unwrap();
        chain.store.insert(chunk.hash, bytes);
        new.push(StoredChunk { chunk, bytes: Vec::new() });
    }
    let made = writer.finish().unwrap();
    // What no snapshot names any more is not kept here: a gigabyte is enough.
    let nothing = StateHash::from_bytes([0; 32]);
    let named: BTreeSet<_> = made.image(nothing).chunks().map(|chunk| chunk.hash).collect();
    chain.store.retain(|hash, _| named.contains(hash));
    chain.last = Some(made);
    Taken { new, state: nothing }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other as f64
}

/// One row in a hundred pages changes, wherever it lies: rows that follow each other share a page, so that one of each seventeen hundred is drawn.
#[test]
fn one_page_in_a_hundred_at_random() {
    let (first, all) = ten("1 % of the pages, anywhere", |snapshot, rows| {
        let share = rows / (17 * 100);
        format!(
            "UPDATE t SET n = {snapshot}, b = randomblob({ROW}) WHERE id IN (SELECT 1 + abs(random() % {rows}) FROM t LIMIT {share})"
        )
    });
    assert!(ratio(all, first) < 1.3);
}

#[test]
fn one_page_in_a_hundred_in_a_row() {
    let (first, all) = ten("1 % updated in a row", |snapshot, rows| {
        let (share, at) = (rows / 100, snapshot as u64 * rows / 13);
        format!("UPDATE t SET n = {snapshot}, b = randomblob({ROW}) WHERE id BETWEEN {at} AND {at} + {share}")
    });
    assert!(ratio(all, first) < 1.3);
    let (first, all) = ten("1 % appended", |snapshot, rows| {
        format!("INSERT INTO t(n, b) SELECT {snapshot}, randomblob({ROW}) FROM t LIMIT {}", rows / 100)
    });
    // Each time the last run is written anew, which is much of a small database.
    assert!(ratio(all, first) < if megabytes() >= 512 { 1.3 } else { 2.0 });
}

/// Seventeen rows share a page, so that this touches one page in six. It is no small change to a database of pages.
#[test]
fn one_row_in_a_hundred_at_random() {
    let (first, all) = ten("1 % of the rows, anywhere", |snapshot, rows| {
        format!(
            "UPDATE t SET n = {snapshot}, b = randomblob({ROW}) WHERE id IN (SELECT 1 + abs(random() % {rows}) FROM t LIMIT {})",
            rows / 100
        )
    });
    assert!(ratio(all, first) < 8.0);
}
