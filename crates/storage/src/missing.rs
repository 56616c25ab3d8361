//! Which chunks of a snapshot are not in a store.

use std::collections::BTreeSet;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::StreamId;

use crate::key::Key;
use crate::store::{BatchStore, ListError, PageLimit, Start};

/// The chunks among `wanted` that are not in the store, each once, ascending.
///
/// Listed page by page; a page that holds none of those that are left is jumped over.
///
/// # Errors
/// [`ListError`] when the store does not tell.
pub async fn missing_chunks(
    store: &dyn BatchStore,
    stream: StreamId,
    wanted: impl IntoIterator<Item = ChunkHash>,
) -> Result<Vec<ChunkHash>, ListError> {
    let mut left: BTreeSet<ChunkHash> = wanted.into_iter().collect();
    let mut missing = Vec::new();
    while let Some(hash) = left.first().copied() {
        let page = store.list(&Start::At(Key::Chunk { stream, hash }), PageLimit::MAX).await?;
        let found: BTreeSet<ChunkHash> = page.keys.iter().filter_map(hash_of).collect();
        // The page tells of every chunk before the place where the next one begins; without a next one it tells of all.
        let behind = match page.next {
            None => BTreeSet::new(),
            Some(Start::At(place)) => {
                hash_of(&place).map_or_else(BTreeSet::new, |place| left.split_off(&place))
            }
            Some(Start::After(place)) => hash_of(&place).map_or_else(BTreeSet::new, |place| {
                let mut behind = left.split_off(&place);
                if behind.remove(&place) {
                    left.insert(place);
                }
                behind
            }),
        };
        missing.extend(left.difference(&found));
        left = behind;
    }
    Ok(missing)
}

fn hash_of(key: &Key) -> Option<ChunkHash> {
    match key {
        Key::Chunk { hash, .. } => Some(*hash),
        Key::Epoch { .. } | Key::Batch { .. } | Key::Snapshot { .. } | Key::Endorsement { .. } => None,
    }
}
