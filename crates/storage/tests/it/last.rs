//! The end of a log, in few requests.

use synddb_protocol::id::{Address, Epoch, Sequence};
use synddb_storage::faulty::{Faults, FaultyStore};
use synddb_storage::{BatchStore, Key, ObjectBatchStore, last_batch, last_epoch, last_snapshot};

use super::{STREAM, batch, body, open};

async fn counted(numbers: impl IntoIterator<Item = u64>) -> (FaultyStore<ObjectBatchStore>, Faults) {
    let store = ObjectBatchStore::memory();
    for number in numbers {
        store.put(&batch(number), body("batch")).await.unwrap();
    }
    let faults = Faults::new(|| 0);
    (FaultyStore::new(store, faults.clone()), faults)
}

#[tokio::test]
async fn the_last_batch_is_found_whatever_the_size_of_the_log() {
    for (count, looks_max) in
        [(1, 1), (2, 1), (999, 1), (1000, 1), (1001, 5), (2000, 5), (2001, 5), (5000, 6), (20_000, 10)]
    {
        let (store, faults) = counted(1..=count).await;
        assert_eq!(last_batch(&store, STREAM).await.unwrap(), Some(Sequence::new(count).unwrap()));
        assert!(faults.requests().total() <= looks_max, "{count} batches took {:?}", faults.requests());
    }
}

#[tokio::test]
async fn a_small_log_takes_one_request() {
    let (store, faults) = counted([1, 5000, 9_000_000]).await;
    assert_eq!(last_batch(&store, STREAM).await.unwrap(), Some(Sequence::new(9_000_000).unwrap()));
    assert_eq!(faults.requests().total(), 1);
}

#[tokio::test]
async fn batches_of_many_messages_and_of_the_highest_number_are_found() {
    let highest = Sequence::MAX;
    for step in [4096, 400_000_000] {
        let mut numbers = (0..2400).map(|index| 1 + index * step);
        let (store, faults) = counted(numbers.clone()).await;
        let last = numbers.next_back().unwrap();
        assert_eq!(last_batch(&store, STREAM).await.unwrap(), Some(Sequence::new(last).unwrap()));
        assert!(faults.requests().total() <= 80, "a step of {step} took {:?}", faults.requests());
    }
    let (store, _) = counted((1..=1500).chain([highest])).await;
    assert_eq!(last_batch(&store, STREAM).await.unwrap(), Some(Sequence::new(highest).unwrap()));
    let (store, _) = counted(highest - 1500..=highest).await;
    assert_eq!(last_batch(&store, STREAM).await.unwrap(), Some(Sequence::new(highest).unwrap()));
}

#[tokio::test]
async fn a_stale_listing_gives_an_earlier_end() {
    let faults = Faults::new(|| 0);
    let store = FaultyStore::new(ObjectBatchStore::memory(), faults.clone());
    for number in 1..=1500 {
        store.put(&batch(number), body("batch")).await.unwrap();
    }
    for (hidden, seen) in [(0, 1500), (1, 1499), (600, 900), (1499, 1)] {
        faults.hide_newest_from_lists(hidden);
        let last = last_batch(&store, STREAM).await.unwrap();
        assert_eq!(last, Some(Sequence::new(seen).unwrap()), "{hidden} hidden");
    }
    faults.hide_newest_from_lists(1500);
    assert_eq!(last_batch(&store, STREAM).await.unwrap(), None);
}

#[tokio::test]
async fn each_kind_has_its_own_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    assert_eq!(last_epoch(&store, STREAM).await.unwrap(), None);
    assert_eq!(last_batch(&store, STREAM).await.unwrap(), None);
    assert_eq!(last_snapshot(&store, STREAM).await.unwrap(), None);
    let epoch = Epoch::new(7).unwrap();
    let sequence = Sequence::new(12).unwrap();
    store.put(&Key::Epoch { stream: STREAM, epoch }, body("epoch")).await.unwrap();
    for who in [0x00, 0x80, 0xff] {
        let signer = Address::from_bytes([who; 20]);
        store.put(&Key::Snapshot { stream: STREAM, sequence, signer }, body("manifest")).await.unwrap();
    }
    assert_eq!(last_epoch(&store, STREAM).await.unwrap(), Some(epoch));
    assert_eq!(last_snapshot(&store, STREAM).await.unwrap(), Some(sequence));
    assert_eq!(last_batch(&store, STREAM).await.unwrap(), None);
}
