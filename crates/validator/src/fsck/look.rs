//! What stands behind `verify`: counts what it passes on, and checks every chunk that a snapshot refers to.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Checkpoint, Entry, SignedCheckpoint, VerifiedBatch, VerifiedMessage};
use synddb_protocol::submission::{Chunk, CommitKind, Content, PageSize, Snapshot};
use synddb_storage::{GetError, Key};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::counted::Counted;
use super::epochs::Epochs;
use super::known::Known;
use super::report::{Beside, Counts, Progress, Read, Rebuilt, Report};
use crate::error::{HaltCause, Refused, ValidatorError};
use crate::fetch::{NoAnswer, PatientStore};
use crate::pipeline::{Item, cut_off};

/// Chunks that are fetched and checked at a time.
const PARALLEL: usize = 4;
/// Chunks that are remembered, at most: about 100 MiB.
pub(super) const CHUNKS_MAX: usize = 1 << 21;
/// Batches that are remembered, at most: about 100 MiB.
const BATCHES_MAX: usize = 1 << 22;

/// What was seen of a log.
pub(super) struct Looked {
    counts: Counts,
    objects: u64,
    last: Option<Checkpoint>,
    /// Whether the checkpoint that was looked for is in the log.
    pub(super) meets_beginning: bool,
    /// The first messages of its batches.
    pub(super) batches: Known<Sequence>,
    /// The chunks that its snapshots refer to.
    pub(super) chunks: Known<ChunkHash>,
}

impl Looked {
    /// The last message.
    pub(super) fn size(&self) -> Option<Sequence> {
        self.last.as_ref().map(|last| last.size)
    }

    /// `None` when there is no message.
    pub(super) fn into_report(
        self,
        stream: StreamId,
        epochs: Epochs,
        read: Read,
        rebuilt: Option<Rebuilt>,
        beside: Option<Beside>,
    ) -> Option<Report> {
        let last = self.last?;
        Some(Report {
            stream,
            size: last.size,
            root: last.root(),
            state: last.client.as_ref().map(|client| client.state),
            timestamp: last.timestamp,
            ends_between_parts: last.client.as_ref().is_some_and(|client| client.group.is_some()),
            batches: self.objects,
            counts: self.counts,
            epochs: epochs.into_runs(),
            read,
            rebuilt,
            beside,
            replica: None,
        })
    }
}

/// The stage.
pub(super) struct Look {
    store: PatientStore,
    stream: StreamId,
    counted: Arc<Counted>,
    rebuilt: watch::Receiver<Option<Sequence>>,
    looked_for: Option<SignedCheckpoint>,
    looked: Looked,
}

impl Look {
    pub(super) fn new(
        store: PatientStore,
        stream: StreamId,
        counted: Arc<Counted>,
        rebuilt: watch::Receiver<Option<Sequence>>,
    ) -> Self {
        let looked = Looked {
            counts: Counts::default(),
            objects: 0,
            last: None,
            meets_beginning: false,
            batches: Known::up_to(BATCHES_MAX),
            chunks: Known::up_to(CHUNKS_MAX),
        };
        Self { store, stream, counted, rebuilt, looked_for: None, looked }
    }

    /// Has it looked whether a batch ends with this checkpoint.
    pub(super) fn look_for(&mut self, checkpoint: Option<SignedCheckpoint>) {
        self.looked_for = checkpoint;
    }

    pub(super) fn size(&self) -> Option<Sequence> {
        self.looked.size()
    }

    pub(super) fn into_looked(self) -> Looked {
        self.looked
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { sequence: self.size(), rebuilt: *self.rebuilt.borrow(), read: self.counted.read() }
    }

    /// Looks at what comes, and hands it on where somebody applies it. Trouble is handed on as well, behind what came before it: then it is
    /// the owner's to tell.
    pub(super) async fn run(
        &mut self,
        mut from: Receiver<Item<Box<VerifiedBatch>>>,
        to: Option<Sender<Item<Box<VerifiedBatch>>>>,
        on_progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(), ValidatorError> {
        let mut is_at_end = false;
        while let Some(item) = from.recv().await {
            is_at_end = matches!(item, Item::End);
            let item = match item {
                Item::Batch(ahead) => match self.look(&ahead.batch, on_progress).await {
                    Ok(()) => Item::Batch(ahead),
                    Err(error) => Item::Failed(error),
                },
                item @ (Item::End | Item::Look | Item::Audit(_) | Item::Failed(_)) => item,
            };
            on_progress(self.progress());
            let last = matches!(item, Item::Failed(_));
            match (&to, item) {
                (None, Item::Failed(error)) => return Err(*error),
                (None, Item::Batch(_) | Item::End | Item::Look | Item::Audit(_)) => {}
                (Some(to), item) => {
                    // An owner that does not listen any more says why itself.
                    if to.send(item).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if last {
                return Ok(());
            }
        }
        // An owner sees it as well, and says so itself.
        if to.is_none() && !is_at_end && !self.store.may_end() { Err(cut_off()) } else { Ok(()) }
    }

    async fn look(
        &mut self,
        batch: &VerifiedBatch,
        on_progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(), Box<ValidatorError>> {
        for message in batch.messages() {
            self.count(message);
            if let Entry::Snapshot(snapshot) = message.entry() {
                self.check(message.header().sequence, snapshot, on_progress).await?;
            }
        }
        let claim = batch.checkpoint().claim();
        if let Some(looked_for) = self.looked_for.as_ref().filter(|found| found.claim().size == claim.size) {
            self.looked.meets_beginning = looked_for.to_bytes() == batch.checkpoint().to_bytes();
        }
        let first = batch.messages().first().map_or(claim.size, |first| first.header().sequence);
        self.looked.batches.add(first);
        self.looked.objects += 1;
        self.looked.last = Some(claim.clone());
        Ok(())
    }

    fn count(&mut self, message: &VerifiedMessage) {
        let counts = &mut self.looked.counts;
        match message.entry() {
            Entry::Submission(submission) => {
                counts.submissions += 1;
                let kinds: Vec<CommitKind> = match &submission.content {
                    Content::Commits(commits) => {
                        commits.as_slice().iter().map(|commit| commit.kind).collect()
                    }
                    Content::Part(part) => part.last.iter().map(|_| part.kind).collect(),
                };
                counts.commits += kinds.len() as u64;
                counts.reconciles +=
                    kinds.iter().filter(|kind| matches!(kind, CommitKind::Reconcile)).count() as u64;
            }
            Entry::Snapshot(_) => counts.snapshots += 1,
            Entry::Inbound(_) => counts.inbound += 1,
            Entry::Status(_) => counts.status += 1,
            Entry::Epoch(_) => counts.epochs += 1,
        }
    }

    /// Checks that every chunk of a snapshot is there, and is what it says. A few are in memory at a time.
    async fn check(
        &mut self,
        sequence: Sequence,
        snapshot: &Snapshot,
        on_progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<(), Box<ValidatorError>> {
        let page_size = snapshot.page_size;
        for chunk in &snapshot.chunks {
            self.looked.chunks.add(chunk.hash);
        }
        let (store, stream) = (self.store.clone(), self.stream);
        let checks = snapshot.chunks.iter().map(|chunk| check_chunk(&store, stream, *chunk, page_size));
        let mut checked = stream::iter(checks).buffered(PARALLEL);
        while let Some(chunk) = checked.next().await {
            chunk.map_err(|fault| Box::new(fault.into_error(sequence)))?;
            on_progress(self.progress());
        }
        Ok(())
    }
}

/// What is wrong with a chunk.
enum Fault {
    Refused(Refused),
    Failed(ValidatorError),
}

impl Fault {
    fn into_error(self, sequence: Sequence) -> ValidatorError {
        match self {
            Self::Refused(refused) => HaltCause::refused(sequence, refused).into_error(sequence, sequence),
            Self::Failed(error) => error,
        }
    }
}

async fn check_chunk(
    store: &PatientStore,
    stream: StreamId,
    chunk: Chunk,
    page_size: PageSize,
) -> Result<(), Fault> {
    let hash = chunk.hash;
    let stored: Bytes = match store.get(&Key::Chunk { stream, hash }).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return Err(Fault::Refused(Refused::ChunkMissing { hash })),
        Err(NoAnswer::Failed(error @ GetError::TooLarge { .. })) => {
            return Err(Fault::Refused(Refused::TooLarge(error)));
        }
        Err(NoAnswer::Failed(error)) => return Err(Fault::Failed(error.into())),
        // Whoever was asked to end looks at nothing that comes after it.
        Err(NoAnswer::GaveUp) => return Err(Fault::Failed(ValidatorError::Fault { part: "store" })),
    };
    // Hashing and decompression are work for a thread that may be busy.
    match spawn_blocking(move || chunk.open(&stored, page_size).map(drop)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => Err(Fault::Refused(Refused::ChunkDamaged { hash, source })),
        Err(_) => Err(Fault::Failed(ValidatorError::Fault { part: "chunks" })),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_service::shutdown::Shutdown;
    use synddb_storage::ObjectBatchStore;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// What looking ends with that is sent `items`, and then nothing.
    async fn looked(items: Vec<Item<Box<VerifiedBatch>>>, shutdown: Shutdown) -> Result<(), ValidatorError> {
        let counted = Arc::new(Counted::new(ObjectBatchStore::memory()));
        let store = PatientStore::new(counted.clone(), shutdown, CancellationToken::new());
        let (_applied, rebuilt) = watch::channel(None);
        let mut look = Look::new(store, StreamId::from_bytes([7; 32]), counted, rebuilt);
        let (to, from) = mpsc::channel(8);
        for item in items {
            to.send(item).await.unwrap();
        }
        drop(to);
        look.run(from, None, &mut |_| {}).await
    }

    #[tokio::test]
    async fn a_log_ends_where_its_end_was_told() {
        let shutdown = Shutdown::new();
        assert!(looked(vec![Item::End], shutdown.clone()).await.is_ok());
        let ended = looked(Vec::new(), shutdown.clone()).await;
        assert!(matches!(ended, Err(ValidatorError::Fault { part: "stages" })), "{ended:?}");
        // Whoever asks for an earlier end has it.
        shutdown.ask();
        assert!(looked(Vec::new(), shutdown).await.is_ok());
    }
}
