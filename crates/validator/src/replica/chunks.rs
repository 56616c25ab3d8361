//! Chunks of a snapshot, fetched a few at a time and handed over in order, so that never more than a few are in memory.

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::StreamId;
use synddb_protocol::submission::Chunk;
use synddb_storage::{GetError, Key};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::fetch::{NoAnswer, PatientStore};

/// How many chunks are fetched at a time.
const PARALLEL: usize = 4;
/// How many chunks wait for the restore.
const WAITING_MAX: usize = 2;

/// Why a chunk did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkError {
    /// The process ends.
    #[error("the process was asked to end")]
    Interrupted,
    /// The store does not have it.
    #[error("the chunk is not in the store. hash=`{hash}`")]
    Missing {
        /// The chunk.
        hash: ChunkHash,
    },
    /// The store does not give it.
    #[error(transparent)]
    Store(GetError),
}

/// The chunks of one snapshot on their way. They stop coming when this goes.
pub(crate) struct Chunks {
    from: Receiver<Result<Bytes, ChunkError>>,
    stop: CancellationToken,
}

impl Chunks {
    /// Begins to fetch `chunks`, in order.
    pub(crate) fn fetch(
        runtime: &Handle,
        store: PatientStore,
        stream: StreamId,
        chunks: Vec<Chunk>,
        stop: CancellationToken,
    ) -> Self {
        let (to, from) = mpsc::channel(WAITING_MAX);
        let stopped = stop.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = feed(store, stream, chunks, to) => {}
            }
        });
        Self { from, stop }
    }

    /// What ends the fetching, and what is done with the chunks.
    pub(crate) const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Waits for the next one. Not for a thread of the runtime.
    pub(crate) fn next(&mut self) -> Result<Vec<u8>, ChunkError> {
        self.from.blocking_recv().unwrap_or(Err(ChunkError::Interrupted)).map(Vec::from)
    }
}

async fn feed(
    store: PatientStore,
    stream: StreamId,
    chunks: Vec<Chunk>,
    to: Sender<Result<Bytes, ChunkError>>,
) {
    let store = &store;
    let mut coming = stream::iter(chunks)
        .map(|chunk| async move {
            match store.get(&Key::Chunk { stream, hash: chunk.hash }).await {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => Err(ChunkError::Missing { hash: chunk.hash }),
                Err(NoAnswer::GaveUp) => Err(ChunkError::Interrupted),
                Err(NoAnswer::Failed(error)) => Err(ChunkError::Store(error)),
            }
        })
        .buffered(PARALLEL);
    while let Some(chunk) = coming.next().await {
        let last = chunk.is_err();
        if to.send(chunk).await.is_err() || last {
            return;
        }
    }
}
