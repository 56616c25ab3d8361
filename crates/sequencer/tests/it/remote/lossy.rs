//! A store of which a fifth of all requests fail, in six ways, and which takes up to two seconds for each: everything is stored once, in order, and the store
//! is asked nothing while nobody writes.
//!
//! ```sh
//! SYNDDB_LOSSY_BATCHES=1000 SYNDDB_LOSSY_STREAMS=16 SYNDDB_LOSSY_LATENCY_MS_MIN=0 SYNDDB_LOSSY_LATENCY_MS_MAX=2000 SYNDDB_LOSSY_PACE_MS=100 \
//!     SYNDDB_LOSSY_PER_MILLE=190 SYNDDB_LOSSY_HANGS_PER_MILLE=10 SYNDDB_LOSSY_IDLE_SECONDS=60 SYNDDB_LOSSY_SEED=1 \
//!     cargo test --release -p synddb-sequencer --test it remote::lossy -- --nocapture
//! ```
//!
//! A request that hangs costs its stream the fifteen seconds after which it is given up, so that by default none does.
//!
//! Each platform is a test of its own. The faults and their order repeat with the seed, the races do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use synddb_servers::{Counts, Fault, Outcome, Platform};
use tokio::sync::Barrier;

use super::{Place, Sender, Settings, spread};
use crate::server::http;
use crate::takeover::{PATIENCE, number, pass_time};

/// How the faults share a thousand: of those that strike, so many are of each kind.
const SHARES: [(Fault, u64); 5] = [
    (Fault::Unavailable, 250),
    (Fault::ResetBefore, 200),
    (Fault::ResetAfter, 250),
    (Fault::CutAnswer, 100),
    (Fault::CutRequest, 200),
];

/// Rows of one commit, in bytes.
const ROWS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_stored_once_and_in_order_in_a_lossy_bucket_of_gcs() {
    all_of_it(Platform::Gcs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_stored_once_and_in_order_in_a_lossy_bucket_of_s3() {
    all_of_it(Platform::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_stored_once_and_in_order_in_a_lossy_container_of_azure() {
    all_of_it(Platform::Azure).await;
}

async fn all_of_it(platform: Platform) {
    let seed = number("SYNDDB_LOSSY_SEED", 1);
    let Some(place) = Place::start(platform, seed) else { return };
    let wanted = number("SYNDDB_LOSSY_BATCHES", 60);
    let streams = u8::try_from(number("SYNDDB_LOSSY_STREAMS", 4)).unwrap();
    let ms = |variable, otherwise| Duration::from_millis(number(variable, otherwise));
    let latency = ms("SYNDDB_LOSSY_LATENCY_MS_MIN", 0)..=ms("SYNDDB_LOSSY_LATENCY_MS_MAX", 100);
    let pace = ms("SYNDDB_LOSSY_PACE_MS", 20);
    let per_mille = number("SYNDDB_LOSSY_PER_MILLE", 200);
    // What is asked for at the start of a process is told at once, so it is well until then.
    let sequencer = place.sequencer(&Settings::default());
    place.proxy.set_latency(latency);
    for (fault, share) in SHARES {
        place.proxy.strike(fault, u16::try_from(per_mille * share / 1000).unwrap());
    }
    let hangs = number("SYNDDB_LOSSY_HANGS_PER_MILLE", 0);
    place.proxy.strike(Fault::Hang, u16::try_from(hangs).unwrap());
    let (opening, all_begun) = (Instant::now(), Arc::new(Barrier::new(usize::from(streams) + 1)));
    let is_over = Arc::new(AtomicBool::new(false));
    let senders = (1..=streams).map(|stream| {
        let (mut sender, is_over) = (Sender::new(stream, &sequencer.base), Arc::clone(&is_over));
        let all_begun = Arc::clone(&all_begun);
        tokio::spawn(async move {
            sender.begin().await;
            all_begun.wait().await;
            while !is_over.load(Ordering::Relaxed) {
                sender.send_until_taken(ROWS).await;
                pass_time(pace).await;
            }
            sender.stored(2 * PATIENCE).await;
            sender
        })
    });
    let senders: Vec<_> = senders.collect();
    all_begun.wait().await;
    let opened = place.proxy.counts();
    println!(
        "{platform:?}: {streams} streams opened in {:.1?}, with {} requests",
        opening.elapsed(),
        opened.total()
    );
    let begun = Instant::now();
    let mut seen = (0, Instant::now());
    while seen.0 < wanted {
        pass_time(Duration::from_millis(100)).await;
        let published = published(&sequencer.base).await;
        if published > seen.0 {
            seen = (published, Instant::now());
        }
        assert!(seen.1.elapsed() < 2 * PATIENCE, "nothing is stored any more: {:?}", place.proxy.counts());
    }
    is_over.store(true, Ordering::Relaxed);
    let mut ended = Vec::new();
    for sender in senders {
        ended.push(sender.await.unwrap());
    }
    let (counts, lasted) = (place.proxy.counts(), begun.elapsed());

    let idle = Duration::from_secs(number("SYNDDB_LOSSY_IDLE_SECONDS", 3));
    let since = Instant::now();
    while since.elapsed() < idle {
        assert_eq!(place.proxy.counts(), counts, "the store is asked while nobody writes");
        pass_time(Duration::from_millis(50)).await;
    }

    place.proxy.clear();
    let (mut batches, mut commits, mut took) = (0, 0, Vec::new());
    for sender in &ended {
        let log = place.read(sender.stream()).await;
        sender.assert_held_by(&log);
        batches += log.batches.len() as u64;
        commits += log.commits().len();
        took.extend_from_slice(&sender.took);
    }
    assert!(batches >= wanted && counts.struck() > 0, "{counts:?}");
    println!(
        "{platform:?}: {streams} streams, {batches} batches with {commits} commits in {lasted:.1?}, each stored once, in order; answered: {}",
        spread(&took)
    );
    println!("{platform:?}: {}", told(&opened, &counts, batches));
    println!("{platform:?}: 0 requests in {idle:?} without a writer");
    sequencer.kill();
}

/// The requests of a run, from where all streams were opened on.
fn told(opened: &Counts, counts: &Counts, batches: u64) -> String {
    let methods: Vec<String> = counts
        .methods
        .iter()
        .map(|(method, requests)| format!("{} {method}", (requests - opened.of(method)) * 1000 / batches))
        .collect();
    let struck: Vec<String> = Fault::ALL
        .iter()
        .map(|fault| (fault, counts.ended(Outcome::Struck(*fault))))
        .filter(|(_, times)| *times > 0)
        .map(|(fault, times)| format!("{times} {fault:?}"))
        .collect();
    let all: u64 = counts.methods.values().sum();
    format!(
        "requests per 1,000 batches: {}; {} of {all} requests failed: {}",
        methods.join(", "),
        counts.struck(),
        struck.join(", ")
    )
}

/// Batches that the store took, of all streams: each was cut once the one before was stored.
async fn published(base: &str) -> u64 {
    let text = http().get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    let cut: u64 = text
        .lines()
        .filter(|line| line.starts_with("synddb_sequencer_batches_total"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap().saturating_sub(1))
        .sum();
    cut
}
