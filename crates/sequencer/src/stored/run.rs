//! A run of leaves: what one stored batch adds to the log tree.

use std::collections::VecDeque;

use synddb_protocol::hash::TreeHash;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Batch, Frontier};
use synddb_storage::BatchStore;

use super::{StoredError, before, named};

/// The leaves of one stored batch, and the right edge of the tree behind them.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    /// Those from `first` to `last`.
    pub(crate) leaves: Vec<TreeHash>,
    /// As its checkpoint claims it.
    pub(crate) frontier: Frontier,
}

impl Run {
    fn of(batch: &Batch) -> Self {
        let leaves = batch.messages().iter().map(|message| message.receipt.leaf()).collect();
        let frontier = batch.checkpoint().claim().frontier.clone();
        Self { first: batch.first(), last: batch.last(), leaves, frontier }
    }

    pub(crate) fn holds(&self, sequence: Sequence) -> bool {
        (self.first..=self.last).contains(&sequence)
    }
}

/// The run that holds a message. `names` are names of batches, the last one first, that may be it; whatever of them lies before the
/// run is left in there. When it is none of them, the store is asked for such names.
pub(crate) async fn run_with(
    store: &dyn BatchStore,
    stream: StreamId,
    sequence: Sequence,
    names: &mut VecDeque<Sequence>,
) -> Result<Run, StoredError> {
    if let Some(run) = run_among(store, stream, sequence, names).await? {
        return Ok(run);
    }
    *names = before(store, stream, sequence.next().unwrap_or(sequence)).await?.into();
    let run = run_among(store, stream, sequence, names).await?;
    run.ok_or(StoredError::NotYet { sequence })
}

async fn run_among(
    store: &dyn BatchStore,
    stream: StreamId,
    sequence: Sequence,
    names: &mut VecDeque<Sequence>,
) -> Result<Option<Run>, StoredError> {
    while let Some(first) = names.pop_front() {
        if first > sequence {
            continue;
        }
        match named(store, stream, first).await {
            Ok(Some((_, batch))) if batch.last() >= sequence => {
                let run = tokio::task::spawn_blocking(move || Run::of(&batch)).await;
                return match run {
                    Ok(run) => Ok(Some(run)),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                };
            }
            // Somebody else's object between those of the log.
            Ok(_) | Err(StoredError::Unreadable(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
