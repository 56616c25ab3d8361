//! One byte of a stored log is another: no reader takes it, whichever byte of whichever object it is.
//!
//! A batch that is flipped is decoded and verified where it stands, which is what the reader does before anything is applied; what is flipped in
//! records, in chunks, and in some places of batches, goes through the whole reader. `SYNDDB_FLIPS=255` tries every other value of each byte;
//! otherwise one is drawn.

mod complete;
mod objects;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use synddb_protocol::DecodeError;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::log::{Entry, SignedEpochRecord};
use synddb_storage::{Key, Kind};
use synddb_validator::{End, ValidatorError};

pub(crate) use complete::complete;
pub(crate) use objects::{Objects, kind, named, pinned, verified, verify};

use crate::log::Log;

/// How many threads try.
const THREADS: usize = 2;
/// How many flips of batches go through the whole reader.
const SAMPLE: usize = 60;
/// How many flips of records and chunks do, for each value that is tried.
const SMALL_SAMPLE: usize = 150;

/// A frame may say the same in another way: copy the same bytes from another place, for one. Nothing of a batch is another by that, no byte of its
/// content, and no more than one flip of so many comes to it.
const REWRAPPED_ONE_IN: usize = 100_000;

/// How many other values each byte is given.
fn values() -> usize {
    std::env::var("SYNDDB_FLIPS").map_or(1, |count| count.parse().unwrap())
}

/// The other values of a byte: all of them, or some that are drawn.
fn others(byte: u8, count: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut all: Vec<u8> = (1..=255).map(|mask| byte ^ mask).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count && !all.is_empty() {
        chosen.push(all.swap_remove(random.random_range(0..all.len())));
    }
    chosen
}

fn flipped(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = value;
    bytes
}

/// Runs `work` for each number below `count`, on a few threads.
fn shared(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    work(at);
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_batch_is_verified_with_another_byte() {
    let objects = Objects::of(&complete().await).await;
    let (leaders, stood) = verified(&objects);
    let places: Vec<(usize, usize)> = stood
        .iter()
        .enumerate()
        .flat_map(|(batch, stood)| (0..objects.bytes(&named(stood.first)).len()).map(move |at| (batch, at)))
        .collect();
    let (count, tried) = (values(), AtomicUsize::new(0));
    let (taken, rewrapped) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    shared(places.len(), |number| {
        let (batch, at) = places[number];
        let stood = &stood[batch];
        let stored = objects.bytes(&named(stood.first));
        for value in others(stored[at], count, &mut SmallRng::seed_from_u64(number as u64)) {
            tried.fetch_add(1, Ordering::Relaxed);
            let other = flipped(stored, at, value);
            let Ok(found) = verify(&other, stood.first, &leaders, &stood.before) else { continue };
            let same = found == stood.batch && opened(&other) == opened(stored);
            let list = if same { &rewrapped } else { &taken };
            list.lock().unwrap().push((stood.first.get(), at, stored[at], value));
        }
    });
    let (taken, rewrapped) = (taken.into_inner().unwrap(), rewrapped.into_inner().unwrap());
    let tried = tried.into_inner();
    println!(
        "batches: {} bytes, {tried} flips, {} taken, {} of the very same content",
        places.len(),
        taken.len(),
        rewrapped.len()
    );
    assert_eq!(taken, [], "(batch, byte, before, after)");
    assert!(rewrapped.len() <= tried / REWRAPPED_ONE_IN, "{rewrapped:?} (batch, byte, before, after)");
}

/// The content of a frame, by zstd alone.
fn opened(stored: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(stored).unwrap()
}

#[test]
fn every_value_is_tried() {
    let random = &mut SmallRng::seed_from_u64(1);
    let all: std::collections::BTreeSet<u8> = others(7, 255, random).into_iter().collect();
    assert_eq!((all.len(), all.contains(&7)), (255, false));
    assert_eq!(others(7, 1, random).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_and_no_chunk_is_taken_with_another_byte() {
    let objects = Objects::of(&complete().await).await;
    let snapshots: Vec<_> = verified(&objects)
        .1
        .iter()
        .flat_map(|stood| stood.batch.messages().to_vec())
        .filter_map(|message| match message.entry() {
            Entry::Snapshot(snapshot) => Some(snapshot.clone()),
            _ => None,
        })
        .collect();
    let (mut tried, random) = (0, &mut SmallRng::seed_from_u64(2));
    for (key, bytes) in &objects.0 {
        for at in 0..bytes.len() {
            for value in others(bytes[at], values(), random) {
                tried += 1;
                let other = flipped(bytes, at, value);
                match key {
                    Key::Chunk { hash, .. } => {
                        assert_ne!(ChunkHash::of(&other), *hash);
                        let of = |snapshot: &&synddb_protocol::submission::Snapshot| {
                            snapshot.chunks.iter().any(|chunk| chunk.hash == *hash)
                        };
                        let snapshot = snapshots.iter().find(of).unwrap();
                        let chunk = snapshot.chunks.iter().find(|chunk| chunk.hash == *hash).unwrap();
                        let opened = chunk.open(&other, snapshot.page_size);
                        assert!(matches!(opened, Err(DecodeError::Invalid { .. })), "{opened:?}");
                    }
                    Key::Epoch { .. } => {
                        let Ok(record) = SignedEpochRecord::from_bytes(bytes) else { continue };
                        // What another record says, another key says, or nobody.
                        if let Ok(other) = SignedEpochRecord::from_bytes(&other) {
                            let keys = synddb_protocol::signing::TrustedKeys::pinned(pinned());
                            assert!(other.verify(&keys).is_err(), "{key} {at}: {record:?}");
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    println!("records and chunks: {tried} flips of all objects looked at");
}

/// A flip that goes through the whole reader.
struct Flip {
    key: Key,
    at: usize,
    value: u8,
}

async fn read_flipped(objects: &Objects, flips: Vec<Flip>) -> Vec<(Flip, Result<End, ValidatorError>)> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let read = futures::stream::iter(flips.into_iter().enumerate()).map(|(number, flip)| async move {
        let other = objects.with(flip.key, flipped(objects.bytes(&flip.key), flip.at, flip.value));
        let end = other.read(&folder.join(number.to_string())).await;
        for suffix in ["", "-wal", "-shm", ".lock"] {
            std::fs::remove_file(folder.join(format!("{number}{suffix}"))).ok();
        }
        (flip, end)
    });
    read.buffer_unordered(THREADS).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_reader_refuses_what_is_flipped() {
    let log = complete().await;
    let objects = Objects::of(&log).await;
    honest(&log, &objects).await;
    let random = &mut SmallRng::seed_from_u64(3);
    let mut flips = Vec::new();
    for (kind, most) in [(Kind::Epoch, SMALL_SAMPLE), (Kind::Chunk, SMALL_SAMPLE), (Kind::Batch, SAMPLE)] {
        let mut places = Vec::new();
        for key in objects.keys(kind) {
            if !says(&objects, &key) {
                continue;
            }
            places.extend((0..objects.bytes(&key).len()).map(|at| (key, at)));
        }
        let most = if values() == 255 { places.len() } else { most };
        let step = places.len().div_ceil(most).max(1);
        let from = random.random_range(0..step);
        for (key, at) in places.into_iter().skip(from).step_by(step) {
            let value = others(objects.bytes(&key)[at], 1, random)[0];
            flips.push(Flip { key, at, value });
        }
    }
    let (count, mut kinds) = (flips.len(), std::collections::BTreeMap::<String, usize>::new());
    for (Flip { key, at, value }, end) in read_flipped(&objects, flips).await {
        let error = end.expect_err(&format!("{key}: byte {at} as {value} is taken"));
        let kind = kind(&error).unwrap_or_else(|| panic!("{key}: byte {at} as {value}: {error:?}"));
        *kinds.entry(kind).or_default() += 1;
    }
    println!("the whole reader: {count} flips");
    for (kind, count) in kinds {
        println!("{count:>8}  {kind}");
    }
}

/// Without a flip the same reader comes to the end.
async fn honest(log: &Log, objects: &Objects) {
    let folder = tempfile::tempdir().unwrap();
    let end = objects.read(&folder.path().join("replica")).await.unwrap();
    assert_eq!(end, End { sequence: Some(log.last()), state: Some(log.state()) });
}

/// Whether an object says anything to who reads from the beginning. What leads nothing may hold anything, and the chunks of a snapshot in between
/// are of no use to whoever has the state.
pub(crate) fn says(objects: &Objects, key: &Key) -> bool {
    let hash = match key {
        Key::Chunk { hash, .. } => hash,
        Key::Epoch { epoch, .. } => return epoch.get() != 2,
        _ => return true,
    };
    verified(objects).1.iter().flat_map(|stood| stood.batch.messages()).any(|message| match message.entry() {
        Entry::Snapshot(snapshot) => {
            matches!(snapshot.place, synddb_protocol::submission::SnapshotPlace::Begins { .. })
                && snapshot.chunks.iter().any(|chunk| chunk.hash == *hash)
        }
        _ => false,
    })
}
