//! Which chunks are not in the store that the snapshots in a stored batch name.

use bytes::Bytes;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::StreamId;
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Batch, Body, Entry, MessageType};
use synddb_storage::{BatchStore, missing_chunks};

use super::{StoredError, decode};

/// The chunks that a batch names and the store lacks. Its snapshots are few, and most batches have none.
pub(crate) async fn missing_of(
    store: &dyn BatchStore,
    stream: StreamId,
    object: Bytes,
) -> Result<Vec<ChunkHash>, StoredError> {
    let batch = decode(object).await?;
    let named = match tokio::task::spawn_blocking(move || named_in(&batch)).await {
        Ok(named) => named?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    if named.is_empty() {
        return Ok(named);
    }
    Ok(missing_chunks(store, stream, named).await?)
}

fn named_in(batch: &Batch) -> Result<Vec<ChunkHash>, StoredError> {
    let mut named = Vec::new();
    for message in batch.messages() {
        let of = message.receipt.header().message_type;
        if of != MessageType::Snapshot {
            continue;
        }
        let body = Body::read(of, message.body.clone(), BODY_BYTES_MAX)?;
        if let Entry::Snapshot(snapshot) = body.entry() {
            named.extend(snapshot.chunks.iter().map(|chunk| chunk.hash));
        }
    }
    Ok(named)
}
