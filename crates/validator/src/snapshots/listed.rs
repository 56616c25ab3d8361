//! Which snapshots lie in the store, newest first, and which batch ends at a place. Found by listing, in pages, without listing everything.

use std::collections::VecDeque;

use synddb_protocol::id::{Address, KeyId, Sequence, StreamId};
use synddb_protocol::limits::BATCH_MESSAGES_MAX;
use synddb_storage::{BatchStore, Key, ListError, PageLimit, Start, last_snapshot};

/// How many messages before the last snapshot are looked through first. Each further look goes through [`WIDER`] times as many.
const SPAN_FIRST: u64 = 1 << 14;
/// How much wider the next look is.
const WIDER: u64 = 32;
/// Pages of one look, at most. Who stores more names than that between two snapshots keeps others from seeing the newer ones.
const PAGES_MAX: usize = 64;

/// A snapshot by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    /// The last message in it.
    pub(crate) sequence: Sequence,
    /// Who took it.
    pub(crate) signer: KeyId,
}

impl Named {
    pub(crate) const fn key(self, stream: StreamId) -> Key {
        Key::Snapshot { stream, sequence: self.sequence, signer: self.signer }
    }
}

/// The newest snapshots of a stream, newest first, at most `most` of them.
///
/// # Errors
/// [`ListError`] of the store.
pub(crate) async fn newest(
    store: &dyn BatchStore,
    stream: StreamId,
    most: usize,
) -> Result<Vec<Named>, ListError> {
    let Some(last) = last_snapshot(store, stream).await? else { return Ok(Vec::new()) };
    let mut span = SPAN_FIRST;
    loop {
        let from = Sequence::new(last.get().saturating_sub(span)).unwrap_or(Sequence::FIRST);
        let found = since(store, stream, from, most).await?;
        if found.len() == most || from == Sequence::FIRST {
            return Ok(found.into_iter().rev().collect());
        }
        span = span.saturating_mul(WIDER);
    }
}

/// The last `most` of the snapshots from a place on, ascending.
async fn since(
    store: &dyn BatchStore,
    stream: StreamId,
    from: Sequence,
    most: usize,
) -> Result<VecDeque<Named>, ListError> {
    let nobody = Address::from_bytes([0; 20]);
    let mut start = Some(Start::At(Key::Snapshot { stream, sequence: from, signer: nobody }));
    let mut found = VecDeque::with_capacity(most);
    for _ in 0..PAGES_MAX {
        let Some(at) = start else { break };
        let page = store.list(&at, PageLimit::MAX).await?;
        for key in page.keys {
            let Key::Snapshot { sequence, signer, .. } = key else { continue };
            if found.len() == most {
                found.pop_front();
            }
            found.push_back(Named { sequence, signer });
        }
        start = page.next;
    }
    Ok(found)
}

/// The first message of the batch that ends at a message, if a batch does: the last one that begins at or before it. Where it ends is inside
/// of it.
///
/// # Errors
/// [`ListError`] of the store.
pub(crate) async fn batch_through(
    store: &dyn BatchStore,
    stream: StreamId,
    last: Sequence,
) -> Result<Option<Sequence>, ListError> {
    let messages_max = BATCH_MESSAGES_MAX as u64;
    let from = Sequence::new(last.get().saturating_sub(messages_max - 1)).unwrap_or(Sequence::FIRST);
    let mut start = Some(Start::At(Key::Batch { stream, first: from }));
    let mut found = None;
    while let Some(at) = start {
        let page = store.list(&at, PageLimit::MAX).await?;
        for key in &page.keys {
            let Key::Batch { first, .. } = key else { continue };
            if *first > last {
                return Ok(found);
            }
            found = Some(*first);
        }
        start = page.next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use bytes::Bytes;
    use synddb_storage::ObjectBatchStore;

    use super::*;

    const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

    fn at(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    async fn put(store: &ObjectBatchStore, key: Key) {
        store.put(&key, Bytes::from_static(b"x")).await.unwrap();
    }

    #[tokio::test]
    async fn the_newest_come_first_however_far_they_lie_apart() {
        let store = ObjectBatchStore::memory();
        assert!(newest(&store, STREAM, 3).await.unwrap().is_empty());
        let places = [1, 2, 40_000, 9_000_000, 9_000_001];
        for place in places {
            for signer in [1, 2] {
                let signer = Address::from_bytes([signer; 20]);
                put(&store, Named { sequence: at(place), signer }.key(STREAM)).await;
            }
        }
        let all = newest(&store, STREAM, 100).await.unwrap();
        let sequences: Vec<u64> = all.iter().map(|named| named.sequence.get()).collect();
        assert_eq!(sequences, [9_000_001, 9_000_001, 9_000_000, 9_000_000, 40_000, 40_000, 2, 2, 1, 1]);
        for most in 1..all.len() {
            assert_eq!(newest(&store, STREAM, most).await.unwrap(), all[..most], "{most}");
        }
    }

    #[tokio::test]
    async fn the_batch_that_ends_at_a_message_is_the_last_that_begins_before() {
        let store = ObjectBatchStore::memory();
        assert_eq!(batch_through(&store, STREAM, at(7)).await.unwrap(), None);
        for first in [1, 5, 3_000, 3_001] {
            put(&store, Key::Batch { stream: STREAM, first: at(first) }).await;
        }
        for (last, first) in
            [(1, 1), (4, 1), (5, 5), (2_999, 5), (3_000, 3_000), (3_001, 3_001), (7_000, 3_001)]
        {
            let found = batch_through(&store, STREAM, at(last)).await.unwrap();
            assert_eq!(found, Some(at(first)), "{last}");
        }
        // No batch is so long.
        assert_eq!(batch_through(&store, STREAM, at(9_000)).await.unwrap(), None);
    }
}
