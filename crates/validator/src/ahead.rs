//! Batches that are asked for before it is known that they are the next, so that a reader far behind does not wait for one answer after
//! the other.
//!
//! The key of a batch follows from the batch before, which makes it one batch for each trip to the store. A listing names many keys at
//! once. So where answers take long and one batch after the other is there, the store is asked for a page of names, and some of the objects
//! they name are got side by side.
//!
//! What a listing says is a hint and nothing else. An object that was got ahead is used only when the chain of keys comes to it, and
//! verified like any other; one to which it never comes is thrown away; what is absent is asked for again. Where nothing can be listed,
//! objects are got one by one. Whoever keeps up, and so finds now and then that there is nothing yet, never lists.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::BATCH_STORED_MAX;
use synddb_storage::{Key, PageLimit, Start};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::debug;

use crate::fetch::{NoAnswer, PatientStore};

/// So many batches in a row are got one by one before a reader counts as far behind.
const IN_A_ROW_MIN: u32 = 16;

/// An answer that takes this long is worth asking ahead for. Files of a local disk answer sooner.
const SLOW: Duration = Duration::from_millis(4);

/// Objects that are asked for ahead at a time, at most.
const ASKED_MAX: usize = 16;

/// Bytes that are asked for ahead, at most, as far as the largest batch of late tells: what comes may be larger, but never than
/// [`ASKED_MAX`] of the largest batches.
const ASKED_BYTES_MAX: usize = 32 << 20;

/// Names that one listing is asked for.
const NAMES_MAX: u16 = 512;

const _: () = assert!(ASKED_BYTES_MAX < BATCH_STORED_MAX && NAMES_MAX as usize > ASKED_MAX);

/// Gets the batches of a stream in order, some ahead.
pub(crate) struct AheadOfChain {
    store: PatientStore,
    stream: StreamId,
    /// Batches that were found one after the other, and how long their answers took together.
    in_a_row: u32,
    waited: Duration,
    /// Whether the last listing said that there is more behind what it named.
    is_far: bool,
    /// The largest batch of late, in bytes.
    largest: usize,
    /// What a listing named, and nobody asked for yet.
    named: VecDeque<Sequence>,
    asked: VecDeque<Asked>,
    /// Whether the store tells names.
    lists: bool,
}

/// A batch that is under way, or here.
struct Asked {
    first: Sequence,
    answer: JoinHandle<Result<Option<Bytes>, NoAnswer>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl AheadOfChain {
    pub(crate) const fn new(store: PatientStore, stream: StreamId) -> Self {
        Self {
            store,
            stream,
            in_a_row: 0,
            waited: Duration::ZERO,
            is_far: false,
            largest: 0,
            named: VecDeque::new(),
            asked: VecDeque::new(),
            lists: true,
        }
    }

    /// The batch that begins with `first`, which is the next of the chain.
    pub(crate) async fn get(&mut self, first: Sequence) -> Result<Option<Bytes>, NoAnswer> {
        self.name(first).await;
        self.ask(first);
        let answer = match self.asked.pop_front_if(|asked| asked.first == first) {
            Some(mut asked) => (&mut asked.answer).await.unwrap_or(Ok(None)),
            None => Ok(None),
        };
        let found = match answer {
            // A listing may name what a get does not find, and what was got before it was there says nothing of now.
            Ok(None) => self.get_now(first).await?,
            answer => answer?,
        };
        match &found {
            Some(stored) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.largest = self.largest.max(stored.len());
            }
            None => self.begin_anew(),
        }
        Ok(found)
    }

    async fn get_now(&mut self, first: Sequence) -> Result<Option<Bytes>, NoAnswer> {
        let asked = Instant::now();
        let found = self.store.get(&Key::Batch { stream: self.stream, first }).await;
        self.waited += asked.elapsed();
        found
    }

    /// Asks which batches there are, where that is worth it.
    async fn name(&mut self, first: Sequence) {
        let is_slow = self.in_a_row >= IN_A_ROW_MIN && self.waited >= SLOW * self.in_a_row;
        let has_names = !self.named.is_empty() || !self.asked.is_empty();
        if !self.lists || has_names || !(self.is_far || is_slow) {
            return;
        }
        let start = Start::At(Key::Batch { stream: self.stream, first });
        let Ok(limit) = PageLimit::new(NAMES_MAX) else { return };
        match self.store.list_once(&start, limit).await {
            Ok(page) => {
                let first_of = |key: &Key| match key {
                    Key::Batch { first, .. } => Some(*first),
                    Key::Epoch { .. }
                    | Key::Snapshot { .. }
                    | Key::Chunk { .. }
                    | Key::Endorsement { .. } => None,
                };
                self.named = page.keys.iter().filter_map(first_of).collect();
                self.is_far = page.next.is_some();
            }
            Err(error) => {
                debug!(error = %synddb_protocol::chain(&error), "batches are got one by one");
                self.lists = error.retry_may_help();
                self.is_far = false;
            }
        }
        // Whoever comes to the end of the names goes on one by one, and is far behind only when that lasts again.
        (self.in_a_row, self.waited) = (0, Duration::ZERO);
    }

    /// Asks for what was named, from `first` on.
    fn ask(&mut self, first: Sequence) {
        while self.asked.pop_front_if(|asked| asked.first < first).is_some() {}
        while self.named.pop_front_if(|named| *named < first).is_some() {}
        let most = (ASKED_BYTES_MAX / self.largest.max(1)).clamp(1, ASKED_MAX);
        while self.asked.len() < most {
            let Some(first) = self.named.pop_front() else { return };
            let (store, key) = (self.store.clone(), Key::Batch { stream: self.stream, first });
            let answer = tokio::spawn(async move { store.get(&key).await });
            self.asked.push_back(Asked { first, answer });
        }
    }

    fn begin_anew(&mut self) {
        self.named.clear();
        self.asked.clear();
        (self.in_a_row, self.waited, self.is_far, self.largest) = (0, Duration::ZERO, false, 0);
    }
}
