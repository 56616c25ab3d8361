//! A reader that is far behind a store that is far away: several batches at a time where the store tells names, one by one where it does
//! not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use synddb_protocol::id::Sequence;
use synddb_storage::faulty::{Faults, FaultyStore};
use synddb_storage::{
    BatchStore, Failure, GetError, Key, ListError, ObjectBatchStore, Page, PageLimit, Put, PutError, Start,
};
use synddb_validator::{Event, Mode};

use super::log::{Log, STREAM};
use super::running::{Running, equal};

/// Batches behind the first, and how long each answer takes, unless the environment says:
///
/// ```sh
/// SYNDDB_BATCHES=400 SYNDDB_LATENCY_MS=50 cargo test -p synddb-validator --test it ahead -- --nocapture --test-threads 1
/// ```
const BATCHES: usize = 120;
const LATENCY: Duration = Duration::from_millis(20);
/// Most that may be under way at a time.
const AT_A_TIME_MAX: usize = 16;

/// A store that counts what is under way, and may tell no names.
struct Watched {
    store: FaultyStore<Arc<ObjectBatchStore>>,
    lists: bool,
    under_way: AtomicUsize,
    at_a_time: AtomicUsize,
    listings: AtomicUsize,
}

#[async_trait::async_trait]
impl BatchStore for Watched {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        self.store.put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_a_time.fetch_max(under_way, Ordering::SeqCst);
        let got = self.store.get(key).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        got
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.listings.fetch_add(1, Ordering::SeqCst);
        if self.lists {
            return self.store.list(start, limit).await;
        }
        let failure = Failure::Misconfigured("nothing is listed here".into());
        Err(ListError::Failed { folder: start.key().folder(), failure })
    }
}

/// A log of many batches, and the store that holds it, which is far away from now on.
async fn far_behind(lists: bool) -> (Log, Arc<Watched>, Faults) {
    let mut log = Log::begin("CREATE TABLE t(a)").await;
    let batches = std::env::var("SYNDDB_BATCHES").map_or(BATCHES, |batches| batches.parse().unwrap());
    for number in 0..batches {
        log.run(&format!("INSERT INTO t VALUES({number})"));
        log.publish().await;
    }
    let mut random = SmallRng::seed_from_u64(7);
    let faults = Faults::new(move || random.next_u64());
    let store = FaultyStore::new(Arc::clone(&log.store), faults.clone());
    let [under_way, at_a_time, listings] = [(); 3].map(|()| AtomicUsize::new(0));
    let latency =
        std::env::var("SYNDDB_LATENCY_MS").map_or(LATENCY, |ms| Duration::from_millis(ms.parse().unwrap()));
    faults.set_latency(latency..=latency);
    (log, Arc::new(Watched { store, lists, under_way, at_a_time, listings }), faults)
}

/// Reads everything, and returns how many gets were under way at a time, and how often names were asked for.
async fn caught_up(log: &Log, store: &Arc<Watched>, faults: &Faults) -> (usize, usize) {
    let began = Instant::now();
    let end = Running::start_over(store.clone(), log.config(Mode::Once)).end().await.unwrap();
    assert_eq!(end.sequence, Some(log.last()));
    equal(log);
    let seen = (store.at_a_time.load(Ordering::SeqCst), store.listings.load(Ordering::SeqCst));
    println!(
        "{} gets in {:.2} s, {} at a time, {} listings",
        faults.requests().get,
        began.elapsed().as_secs_f64(),
        seen.0,
        seen.1
    );
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_behind_gets_several_batches_at_a_time() {
    let (log, store, faults) = far_behind(true).await;
    // What lies between the keys of the chain is named by a listing as well, and no part of the log.
    let beyond = Sequence::new(log.last().get() + 5).unwrap();
    log.put(&Key::Batch { stream: STREAM, first: beyond }, b"of somebody".to_vec()).await;
    let (at_a_time, listings) = caught_up(&log, &store, &faults).await;
    assert!((4..=AT_A_TIME_MAX + 1).contains(&at_a_time), "{at_a_time}");
    assert!((1..=3).contains(&listings), "{listings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_listed_get_alone_suffices() {
    let (log, store, faults) = far_behind(false).await;
    let (_, listings) = caught_up(&log, &store, &faults).await;
    // It is not asked again.
    assert_eq!(listings, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_up_asks_for_no_names() {
    let (mut log, store, faults) = far_behind(true).await;
    caught_up(&log, &store, &faults).await;
    let mut running = Running::start_over(store.clone(), log.config(Mode::Follow));
    running.until(|event| matches!(event, Event::CaughtUp { .. })).await;
    let before = store.listings.load(Ordering::SeqCst);
    for number in 0..30 {
        log.run(&format!("INSERT INTO t VALUES({number})"));
        let last = log.publish().await;
        // Its end is told when there was nothing behind it.
        running.until(|event| matches!(event, Event::CaughtUp { sequence, .. } if *sequence == last)).await;
    }
    running.stop().await.unwrap();
    assert_eq!(store.listings.load(Ordering::SeqCst), before);
    equal(&log);
}
