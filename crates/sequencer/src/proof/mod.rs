//! Proofs over what is stored, and the leaves that they are about.
//!
//! Nothing is kept for it but what the store has. The checkpoint of every batch carries the right edge of the tree at its end, so a perfect
//! subtree is made of two batches at most, however large it is:
//!
//! ```text
//!          |<-------------- subtree -------------->|
//! ... batch | batch | batch ... | batch that ends inside | batch over its end | ...
//!                                the peaks behind its left  its leaves up to the end
//! ```
//!
//! A proof is made of about log2(size) of them. They never change, so those that were asked for are kept, within a bound, and so are
//! the leaves of the last batches that were read. A path to the newest checkpoint is checked before it leaves: what somebody else put
//! between the batches of the log is no part of a proof.

mod known;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synddb_protocol::DecodeError;
use synddb_protocol::hash::TreeHash;
use synddb_protocol::http::{ConsistencyProof, InclusionProof};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::tree::{self, NoSuchProof, Node};
use synddb_protocol::log::{Checkpoint, Frontier};
use synddb_storage::BatchStore;

use crate::stored::{Run, StoredError, run_with};
use known::Known;

/// Most batches that are read for one answer with leaves; it ends where they end.
const LEAVES_BATCHES_MAX: usize = 64;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    /// The log is not as large.
    #[error(transparent)]
    NoSuchProof(#[from] NoSuchProof),
    /// The store does not tell.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// What the store has does not add up to the checkpoint.
    #[error("what is read from the store does not add up to the newest checkpoint; try again")]
    DoesNotAddUp,
}

/// What makes proofs.
pub(crate) struct Prover {
    store: Arc<dyn BatchStore>,
    known: Mutex<Known>,
}

impl Prover {
    pub(crate) fn new(store: Arc<dyn BatchStore>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// That a message stands in the log of this size. `newest` is the newest stored checkpoint.
    ///
    /// # Errors
    /// [`ProofError`].
    pub(crate) async fn inclusion(
        &self,
        newest: &Checkpoint,
        sequence: Sequence,
        size: Sequence,
    ) -> Result<InclusionProof, ProofError> {
        let (stream, index) = (newest.stream, sequence.get() - 1);
        self.known().learn_peaks(stream, &newest.frontier);
        let path = self.path(stream, |lookup| tree::inclusion_proof(index, size.get(), lookup)).await?;
        let proof = InclusionProof { sequence, size, path };
        if size == newest.size {
            let leaf = self.hash(stream, Node { level: 0, index }).await?;
            self.check(stream, proof.verify(leaf, newest.root()))?;
        }
        Ok(proof)
    }

    /// That the log of one size begins with that of a smaller one.
    ///
    /// # Errors
    /// [`ProofError`].
    pub(crate) async fn consistency(
        &self,
        newest: &Checkpoint,
        from: Sequence,
        size: Sequence,
    ) -> Result<ConsistencyProof, ProofError> {
        let stream = newest.stream;
        self.known().learn_peaks(stream, &newest.frontier);
        let path =
            self.path(stream, |lookup| tree::consistency_proof(from.get(), size.get(), lookup)).await?;
        let proof = ConsistencyProof { from, size, path };
        if size == newest.size {
            let mut before = VecDeque::new();
            for node in peaks(from.get()) {
                before.push_back(self.hash(stream, node).await?);
            }
            let before = Frontier::new(from.get(), before.into()).map_err(StoredError::from)?;
            self.check(stream, proof.verify(before.root(), newest.root()))?;
        }
        Ok(proof)
    }

    /// The leaves from `start` on up to `end`, which is stored: the first of them where they stand in too many batches.
    ///
    /// # Errors
    /// [`StoredError`].
    pub(crate) async fn leaves(
        &self,
        stream: StreamId,
        start: Sequence,
        end: Sequence,
    ) -> Result<Vec<TreeHash>, StoredError> {
        let mut leaves = Vec::new();
        let (mut next, mut names) = (Some(start), VecDeque::new());
        for _ in 0..LEAVES_BATCHES_MAX {
            let Some(from) = next.filter(|next| *next <= end) else { break };
            let run = self.run(stream, from, &mut names).await?;
            let places = (run.first.get()..).zip(&run.leaves);
            let wanted = from.get()..=end.get();
            leaves.extend(places.filter(|(place, _)| wanted.contains(place)).map(|(_, leaf)| *leaf));
            next = run.last.next();
            // Batches are dense, so the next one has the next name.
            names = next.into_iter().collect();
        }
        Ok(leaves)
    }

    fn check(&self, stream: StreamId, is_proven: bool) -> Result<(), ProofError> {
        if is_proven {
            return Ok(());
        }
        tracing::error!(%stream, "a proof does not lead to the checkpoint; what was read for it is forgotten");
        self.known().forget();
        Err(ProofError::DoesNotAddUp)
    }

    /// A path, made twice: once to see which subtrees it needs, and once of their hashes.
    async fn path(
        &self,
        stream: StreamId,
        make: impl Fn(&mut dyn FnMut(Node) -> Result<TreeHash, NoSuchProof>) -> Result<Vec<TreeHash>, NoSuchProof>,
    ) -> Result<Vec<TreeHash>, ProofError> {
        let mut needed = Vec::new();
        make(&mut |node| {
            needed.push(node);
            Ok(TreeHash::from_bytes([0; 32]))
        })?;
        let mut hashes = VecDeque::with_capacity(needed.len());
        for node in needed {
            hashes.push_back(self.hash(stream, node).await?);
        }
        let nothing_left = NoSuchProof { from: 0, size: 0 };
        Ok(make(&mut |_| hashes.pop_front().ok_or(nothing_left))?)
    }

    /// The hash of a perfect subtree of what is stored.
    async fn hash(&self, stream: StreamId, node: Node) -> Result<TreeHash, StoredError> {
        if let Some(hash) = self.known().node(stream, node) {
            return Ok(hash);
        }
        let (start, end) = (node.index << node.level, (node.index + 1) << node.level);
        let mut names = VecDeque::new();
        let over_end = self.run(stream, place(end)?, &mut names).await?;
        let begins = over_end.first.get() - 1;
        let mut subtree = Frontier::default();
        let mut from = start;
        if begins > start {
            let inside = self.run(stream, place(begins)?, &mut names).await?;
            // The peaks before `start`, one for each bit of it, are those of what lies before the subtree.
            let peaks = inside.frontier.peaks().iter().skip(start.count_ones() as usize);
            subtree = Frontier::new(begins - start, peaks.copied().collect())?;
            from = begins;
        }
        let leaves = (begins..end).zip(&over_end.leaves).filter(|(index, _)| *index >= from);
        leaves.for_each(|(_, leaf)| subtree.push(*leaf));
        let hash = subtree.root();
        self.known().learn(stream, node, hash);
        Ok(hash)
    }

    /// The run that holds a message; see [`run_with`].
    async fn run(
        &self,
        stream: StreamId,
        sequence: Sequence,
        names: &mut VecDeque<Sequence>,
    ) -> Result<Arc<Run>, StoredError> {
        if let Some(run) = self.known().run(stream, sequence) {
            return Ok(run);
        }
        let run = Arc::new(run_with(&*self.store, stream, sequence, names).await?);
        self.known().learn_run(stream, Arc::clone(&run));
        Ok(run)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What a panic left behind is still known.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message at the end of a tree of this size.
fn place(size: u64) -> Result<Sequence, DecodeError> {
    Ok(Sequence::new(size)?)
}

/// The perfect subtrees of a tree, largest first.
fn peaks(size: u64) -> impl Iterator<Item = Node> {
    let levels = (0..u64::BITS).rev().filter(move |level| size >> level & 1 == 1);
    levels.map(move |level| Node { level, index: (size >> level) - 1 })
}
