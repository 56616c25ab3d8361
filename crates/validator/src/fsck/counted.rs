//! A store that counts what is read from it.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use synddb_storage::{
    BatchStore, GetError, Key, Kind, ListError, ObjectBatchStore, Page, PageLimit, Put, PutError, Start,
};

use super::Read;

/// Counts the objects and bytes of each kind that were read. It never writes.
pub(crate) struct Counted {
    objects: ObjectBatchStore,
    batch_bytes: AtomicU64,
    chunks: AtomicU64,
    chunk_bytes: AtomicU64,
}

impl Counted {
    pub(super) fn new(objects: ObjectBatchStore) -> Self {
        let [batch_bytes, chunks, chunk_bytes] = std::array::from_fn(|_| AtomicU64::new(0));
        Self { objects, batch_bytes, chunks, chunk_bytes }
    }

    pub(crate) fn read(&self) -> Read {
        let told = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Read {
            batch_bytes: told(&self.batch_bytes),
            chunks: told(&self.chunks),
            chunk_bytes: told(&self.chunk_bytes),
        }
    }
}

#[async_trait]
impl BatchStore for Counted {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        self.objects.put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        let got = self.objects.get(key).await?;
        if let Some(bytes) = &got {
            let length = bytes.len() as u64;
            match key.kind() {
                Kind::Batch => self.batch_bytes.fetch_add(length, Ordering::Relaxed),
                Kind::Chunk => {
                    self.chunks.fetch_add(1, Ordering::Relaxed);
                    self.chunk_bytes.fetch_add(length, Ordering::Relaxed)
                }
                Kind::Epoch | Kind::Snapshot | Kind::Endorsement => 0,
            };
        }
        Ok(got)
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        self.objects.list(start, limit).await
    }
}
