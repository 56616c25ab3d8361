//! The store after a run: every batch is verified as a reader verifies it, and holds every acknowledged commit, once, in the place that its receipt
//! named.

use std::collections::BTreeMap;

use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::{Batch, Entry, Leaders, SignedEpochRecord, Tip};
use synddb_protocol::signing::{TrustedKeys, VerifyingKey};
use synddb_protocol::submission::Content;
use synddb_storage::{BatchStore as _, Key, ObjectBatchStore, StoreUrl};
use tokio::runtime::Runtime;

use super::wrong;
use crate::bench::{Bench, BenchError};
use crate::process;

/// A store that is read by nobody else.
pub(super) struct Stored<'b> {
    bench: &'b Bench,
    runtime: Runtime,
    store: ObjectBatchStore,
    key: VerifyingKey,
}

/// What was found of one stream.
pub(super) struct Log {
    /// The sequence of each commit, by its number from 1.
    pub(super) commits: Vec<Sequence>,
    /// Batches.
    pub(super) batches: u64,
}

impl<'b> Stored<'b> {
    pub(super) fn open(bench: &'b Bench, store: &str, key: &str) -> Result<Self, BenchError> {
        let url: StoreUrl = store.parse().map_err(unreadable)?;
        let key = key.parse().map_err(unreadable)?;
        let runtime = process::runtime()?;
        let store = runtime.block_on(ObjectBatchStore::open_existing(&url)).map_err(unreadable)?;
        Ok(Self { bench, runtime, store, key })
    }

    /// Makes sure that the store holds these commits of a stream, each in its place, and nothing else. Gives the number of batches.
    pub(super) fn check(&self, stream: StreamId, acknowledged: &[Sequence]) -> Result<u64, BenchError> {
        let Log { commits, batches } = self.read(stream)?;
        if commits != acknowledged {
            let (stored, acknowledged) = (commits.len(), acknowledged.len());
            return Err(BenchError::NotAsAcknowledged { stream, acknowledged, stored });
        }
        Ok(batches)
    }

    /// Reads and verifies the whole log of a stream.
    pub(super) fn read(&self, stream: StreamId) -> Result<Log, BenchError> {
        let mut leaders = Leaders::new(stream, TrustedKeys::pinned([self.key]));
        let mut tip = Tip::start(stream);
        let mut places: BTreeMap<u64, Sequence> = BTreeMap::new();
        let mut batches = 0;
        while let Ok(first) = tip.next()
            && let Some(bytes) = self.get(Key::Batch { stream, first })?
        {
            self.bench.go_on()?;
            let batch = Batch::from_stored(&bytes).map_err(unreadable)?;
            self.admit(&mut leaders, batch.checkpoint().claim().epoch)?;
            // Here is checked that sequences are dense and that commits follow each other.
            let verified = batch.verify(&leaders, &tip).map_err(unreadable)?;
            tip = verified.tip().clone();
            batches += 1;
            for message in verified.messages() {
                let Entry::Submission(submission) = message.entry() else { continue };
                let Content::Commits(commits) = &submission.content else { continue };
                for commit in commits.as_slice() {
                    let before = places.insert(commit.number.get(), message.header().sequence);
                    if before.is_some() {
                        return Err(wrong(format!("commit {} twice in the store", commit.number)));
                    }
                }
            }
        }
        let is_dense = places.keys().zip(1..).all(|(found, expected)| *found == expected);
        if !is_dense {
            return Err(wrong("a commit is missing in the store"));
        }
        Ok(Log { commits: places.into_values().collect(), batches })
    }

    fn admit(&self, leaders: &mut Leaders, through: Epoch) -> Result<(), BenchError> {
        let stream = leaders.stream();
        while let Some(epoch) = leaders.next()
            && epoch <= through
        {
            let object = self.get(Key::Epoch { stream, epoch })?;
            let object = object.ok_or_else(|| wrong("a batch of an epoch that nobody claimed"))?;
            let record = SignedEpochRecord::from_bytes(&object).map_err(unreadable)?;
            leaders.admit(&record).map_err(unreadable)?;
        }
        Ok(())
    }

    fn get(&self, key: Key) -> Result<Option<bytes::Bytes>, BenchError> {
        self.runtime.block_on(self.store.get(&key)).map_err(unreadable)
    }
}

/// What was stored a moment ago cannot be read, or is refused.
fn unreadable(error: impl std::error::Error) -> BenchError {
    wrong(format!("the stored log: {}", synddb_protocol::chain(&error)))
}
