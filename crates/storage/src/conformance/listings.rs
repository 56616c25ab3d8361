//! The checks of listings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use synddb_protocol::id::StreamId;
use tokio::task::JoinSet;

use super::{
    SharedStore, Violation, batches, body, ensure, key, keys, list_all, must_list, page, put_bodies, put_new,
    same_keys, stream, violation,
};
use crate::key::{Folder, Key, Kind};
use crate::store::{BatchStore, PAGE_KEYS_MAX, PageLimit, Start};

/// More objects than two pages, and more than any store answers at once.
const MANY: u64 = 2500;

/// How many puts are under way at once while [`MANY`] objects are made.
const WRITERS: u64 = 10;

/// How many objects are put while another task lists.
const DURING: u64 = 150;

pub(super) async fn ascending(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        // 7 is prime to 41, so the numbers come once each and in no order.
        let numbers: Vec<u64> = (0..41).map(|step| 1 + step * 7 % 41).collect();
        let keys = keys(kind, stream(20), &numbers, &[0xff, 0x00])?;
        put_bodies(store, &keys).await?;
        must_list(store, Folder { stream: stream(20), kind }, &keys).await?;
    }
    Ok(())
}

pub(super) async fn from_place(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        let stored = keys(kind, stream(21), &[2, 4, 6, 1000], &[0x10, 0x20])?;
        put_bodies(store, &stored).await?;
        let numbers = [1, 2, 3, 4, 5, 6, 7, 999, 1000, 1001];
        for place in keys(kind, stream(21), &numbers, &[0x00, 0x10, 0x18, 0x20, 0x28])? {
            for start in [Start::At(place), Start::After(place)] {
                let expected: Vec<Key> = stored.iter().copied().filter(|key| start.admits(key)).collect();
                same_keys(&list_all(store, start, PageLimit::MAX).await?, &expected)?;
            }
        }
    }
    Ok(())
}

pub(super) async fn pages(store: &dyn BatchStore) -> Result<(), Violation> {
    let keys = batches(stream(22), 1..=30)?;
    put_bodies(store, &keys).await?;
    let start = Start::of(Folder { stream: stream(22), kind: Kind::Batch });
    for limit in [1, 2, 7, 29, 30, 31, PAGE_KEYS_MAX] {
        let limit = PageLimit::new(limit).map_err(violation)?;
        same_keys(&list_all(store, start, limit).await?, &keys)?;
    }
    Ok(())
}

pub(super) async fn many_objects(store: &SharedStore) -> Result<(), Violation> {
    let keys = batches(stream(23), 1..=MANY)?;
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let share = batches(stream(23), (1..=MANY).filter(|number| number % WRITERS == writer))?;
        let store = store.clone();
        writing.spawn(async move { put_bodies(&*store, &share).await });
    }
    while let Some(written) = writing.join_next().await {
        written.map_err(violation)??;
    }
    must_list(&**store, Folder { stream: stream(23), kind: Kind::Batch }, &keys).await
}

pub(super) async fn isolation(store: &dyn BatchStore) -> Result<(), Violation> {
    let mut neighbour = [24; 32];
    neighbour[31] += 1;
    let streams = [stream(24), StreamId::from_bytes(neighbour), stream(25)];
    let mut folders = Vec::new();
    for stream in streams {
        for kind in Kind::ALL {
            // As many objects in each folder as its place in the list, so that no two are equal.
            let count = folders.len() as u64 + 1;
            let keys = keys(kind, stream, &(1..=count).collect::<Vec<_>>(), &[1])?;
            put_bodies(store, &keys).await?;
            folders.push((Folder { stream, kind }, keys));
        }
    }
    for (folder, keys) in &folders {
        must_list(store, *folder, keys).await?;
    }
    Ok(())
}

pub(super) async fn boundaries(store: &dyn BatchStore) -> Result<(), Violation> {
    let last = 999_999_999_999;
    let numbers = [last, 1, last - 1, 9, 10, 99, 100, 99_999, 100_000, 899_999_999_999, 900_000_000_000];
    for kind in Kind::ALL {
        let keys = keys(kind, stream(26), &numbers, &[1])?;
        put_bodies(store, &keys).await?;
        must_list(store, Folder { stream: stream(26), kind }, &keys).await?;
        let end = key(kind, stream(26), last, 1)?;
        same_keys(&list_all(store, Start::At(end), PageLimit::ONE).await?, &[end])?;
        same_keys(&list_all(store, Start::After(end), PageLimit::ONE).await?, &[])?;
    }
    Ok(())
}

pub(super) async fn after_put(store: &dyn BatchStore) -> Result<(), Violation> {
    for kind in Kind::ALL {
        let folder = Folder { stream: stream(27), kind };
        let mut keys = Vec::new();
        for number in (1..=12).rev() {
            let key = key(kind, stream(27), number, 1)?;
            put_new(store, &key, &body(&key)).await?;
            keys.push(key);
            must_list(store, folder, &keys).await?;
        }
    }
    Ok(())
}

pub(super) async fn during_puts(store: &SharedStore) -> Result<(), Violation> {
    let keys = batches(stream(28), 1..=DURING)?;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut writing = JoinSet::new();
    let (writer, written, share) = (store.clone(), answered.clone(), keys.clone());
    writing.spawn(async move {
        for key in &share {
            put_new(&*writer, key, &body(key)).await?;
            written.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
        Ok::<(), Violation>(())
    });
    let start = Start::of(Folder { stream: stream(28), kind: Kind::Batch });
    loop {
        let before = answered.load(Ordering::SeqCst);
        // All of them fit one page, so one call must show all that were answered before it.
        let found = page(&**store, &start, PageLimit::MAX).await?.keys;
        let (seen, complete) = (found.len(), found.as_slice() == &keys[..found.len().min(keys.len())]);
        ensure(complete && seen >= before, || {
            format!("a listing during puts lacks an answered object. seen=`{seen}` answered=`{before}`")
        })?;
        if before == keys.len() {
            break;
        }
        if let Some(ended) = writing.try_join_next() {
            ended.map_err(violation)??;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}
