//! The wrapper: each fault happens, only when ordered, and the same way from the same seed.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use synddb_storage::faulty::{Faults, FaultyStore, Loss, Requests, Verb};
use synddb_storage::{
    BatchStore, Failure, GetError, Key, ListError, ObjectBatchStore, PageLimit, Put, PutError, Start,
};

use super::{BATCHES, batch, body};

type Store = FaultyStore<ObjectBatchStore>;

fn seeded(seed: u64) -> (Store, ObjectBatchStore, Faults) {
    let mut random = StdRng::seed_from_u64(seed);
    let faults = Faults::new(move || random.next_u64());
    let inner = ObjectBatchStore::memory();
    (FaultyStore::new(inner.clone(), faults.clone()), inner, faults)
}

async fn numbers(store: &Store) -> Vec<Key> {
    store.list(&Start::of(BATCHES), PageLimit::MAX).await.unwrap().keys
}

fn is_lost_put(answer: &Result<Put, PutError>) -> bool {
    matches!(answer, Err(PutError::Failed { failure: Failure::Unavailable(_), .. }))
}

fn is_lost_get(answer: &Result<Option<Bytes>, GetError>) -> bool {
    matches!(answer, Err(GetError::Failed { failure: Failure::Unavailable(_), .. }))
}

#[tokio::test]
async fn lost_requests_take_no_effect() {
    let (store, inner, faults) = seeded(1);
    faults.lose_requests(Verb::Put, Loss::Next(2));
    for _ in 0..2 {
        let answer = store.put(&batch(1), body("a")).await;
        assert!(is_lost_put(&answer) && answer.unwrap_err().retry_may_help());
        assert_eq!(inner.get(&batch(1)).await.unwrap(), None);
    }
    assert_eq!(store.put(&batch(1), body("a")).await.unwrap(), Put::Created);
}

#[tokio::test]
async fn lost_responses_leave_the_effect() {
    let (store, inner, faults) = seeded(2);
    faults.lose_responses(Verb::Put, Loss::Next(1));
    assert!(is_lost_put(&store.put(&batch(1), body("a")).await));
    assert_eq!(inner.get(&batch(1)).await.unwrap(), Some(body("a")));
    assert_eq!(store.put(&batch(1), body("a")).await.unwrap(), Put::Unchanged);
    faults.lose_responses(Verb::Put, Loss::Next(1));
    assert!(is_lost_put(&store.put(&batch(1), body("b")).await), "a lost conflict is lost too");
}

#[tokio::test]
async fn reads_get_lost_too_and_each_verb_has_its_own_faults() {
    let (store, _, faults) = seeded(3);
    store.put(&batch(1), body("a")).await.unwrap();
    faults.lose_requests(Verb::Get, Loss::Next(1));
    faults.lose_responses(Verb::List, Loss::Next(1));
    store.put(&batch(2), body("b")).await.unwrap();
    assert!(is_lost_get(&store.get(&batch(1)).await));
    let listed = store.list(&Start::of(BATCHES), PageLimit::MAX).await;
    assert!(matches!(listed, Err(ListError::Failed { failure: Failure::Unavailable(_), .. })));
    assert_eq!(store.get(&batch(1)).await.unwrap(), Some(body("a")));
    assert_eq!(numbers(&store).await, [batch(1), batch(2)]);
}

#[tokio::test]
async fn a_lost_request_and_a_lost_response_look_alike() {
    let (store, _, faults) = seeded(4);
    let told =
        |error: PutError| format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
    faults.lose_requests(Verb::Put, Loss::Next(1));
    let request = told(store.put(&batch(1), body("a")).await.unwrap_err());
    faults.lose_responses(Verb::Put, Loss::Next(1));
    let response = told(store.put(&batch(1), body("a")).await.unwrap_err());
    assert_eq!(request, response);
}

async fn losses(seed: u64, chance: u16) -> Vec<bool> {
    let (store, _, faults) = seeded(seed);
    faults.lose_requests(Verb::Get, Loss::PerMille(chance));
    let mut lost = Vec::new();
    for _ in 0..1000 {
        lost.push(is_lost_get(&store.get(&batch(1)).await));
    }
    lost
}

#[tokio::test]
async fn chance_comes_from_the_seed_alone() {
    assert_eq!(losses(5, 300).await, losses(5, 300).await);
    assert_ne!(losses(5, 300).await, losses(6, 300).await);
    let lost = losses(5, 300).await.into_iter().filter(|lost| *lost).count();
    assert!((200..400).contains(&lost), "{lost} of 1000 at 300 per mille");
    assert!(losses(5, 0).await.iter().all(|lost| !lost));
    assert!(losses(5, 1000).await.iter().all(|lost| *lost));
}

#[tokio::test]
async fn listings_hide_the_newest() {
    let (store, inner, faults) = seeded(7);
    inner.put(&batch(9), body("older than the wrapper")).await.unwrap();
    for number in [5, 1, 3] {
        store.put(&batch(number), body("a")).await.unwrap();
    }
    store.put(&batch(5), body("a")).await.unwrap();
    faults.hide_newest_from_lists(1);
    assert_eq!(numbers(&store).await, [batch(1), batch(5), batch(9)]);
    faults.hide_newest_from_lists(2);
    assert_eq!(numbers(&store).await, [batch(5), batch(9)]);
    faults.hide_newest_from_lists(usize::MAX);
    assert_eq!(numbers(&store).await, [batch(9)]);
    assert_eq!(store.get(&batch(3)).await.unwrap(), Some(body("a")), "only listings are stale");
    faults.clear();
    assert_eq!(numbers(&store).await, [batch(1), batch(3), batch(5), batch(9)]);
}

#[tokio::test]
async fn a_hidden_page_still_leads_on() {
    let (store, inner, faults) = seeded(8);
    for number in [4, 5] {
        inner.put(&batch(number), body("a")).await.unwrap();
    }
    for number in [1, 2, 3] {
        store.put(&batch(number), body("a")).await.unwrap();
    }
    faults.hide_newest_from_lists(3);
    let (mut seen, mut next) = (Vec::new(), Some(Start::of(BATCHES)));
    while let Some(start) = next {
        let page = store.list(&start, PageLimit::ONE).await.unwrap();
        seen.extend(page.keys);
        next = page.next;
    }
    assert_eq!(seen, [batch(4), batch(5)]);
}

#[tokio::test]
async fn gets_do_not_find_young_objects() {
    let (store, _, faults) = seeded(9);
    faults.hide_newest_from_gets(3);
    store.put(&batch(1), body("a")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(store.get(&batch(1)).await.unwrap(), None);
    }
    assert_eq!(store.get(&batch(1)).await.unwrap(), Some(body("a")));
    store.put(&batch(2), body("b")).await.unwrap();
    assert_eq!(store.get(&batch(2)).await.unwrap(), None);
    assert_eq!(store.get(&batch(1)).await.unwrap(), Some(body("a")));
    assert!(matches!(store.put(&batch(2), body("c")).await, Err(PutError::Conflict { .. })));
    faults.clear();
    assert_eq!(store.get(&batch(2)).await.unwrap(), Some(body("b")));
}

#[tokio::test(start_paused = true)]
async fn latency_stays_within_its_range_and_varies() {
    let (store, _, faults) = seeded(10);
    let range = Duration::from_millis(20)..=Duration::from_millis(80);
    faults.set_latency(range.clone());
    let mut seen = Vec::new();
    for _ in 0..50 {
        let before = tokio::time::Instant::now();
        store.get(&batch(1)).await.unwrap();
        seen.push(before.elapsed());
    }
    // The paused clock of the runtime moves in whole milliseconds.
    let slack = Duration::from_millis(1);
    assert!(seen.iter().all(|took| *took >= *range.start() && *took <= *range.end() + slack), "{seen:?}");
    assert!(seen.iter().max() > seen.iter().min());
    faults.clear();
    let before = tokio::time::Instant::now();
    store.get(&batch(1)).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn requests_are_counted_per_verb_whatever_becomes_of_them() {
    let (store, _, faults) = seeded(11);
    assert_eq!(faults.requests().total(), 0);
    store.put(&batch(1), body("a")).await.unwrap();
    store.put(&batch(1), body("b")).await.unwrap_err();
    faults.lose_requests(Verb::Put, Loss::Next(1));
    store.put(&batch(2), body("b")).await.unwrap_err();
    store.get(&batch(1)).await.unwrap();
    numbers(&store).await;
    numbers(&store).await;
    assert_eq!(faults.requests(), Requests { put: 3, get: 1, list: 2, remove: 0 });
    assert_eq!(faults.requests().total(), 6);
}
