//! Whether the store still holds what the replica stands on.
//!
//! The key of the next batch is computed. In a store that was rolled back, or that is another one, nobody may ever write it, and a reader
//! that only waits calls itself current for good. So the end of the store is looked for: once when a replica goes on from its file, and
//! when a sequencer says that less is stored. Who goes through a whole log, to check it or to restore from it, looks also behind the end that it found. What a sequencer says decides only when; what is found in the store decides.

use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Batch, BatchError, SignedCheckpoint};
use synddb_storage::{BatchStore as _, GetError, Key, PageLimit, Start};
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use crate::error::{HaltCause, Refused, ValidatorError};
use crate::fetch::{NoAnswer, PatientStore};

/// Why the end was not found where it must be.
#[derive(Debug)]
pub(crate) enum Elsewhere {
    /// The process was asked to end before the store answered.
    GaveUp,
    /// The store does not hold what was applied, or cannot be read.
    Failed(Box<ValidatorError>),
}

/// Checks that the store's batches end right before `next`, or go on with it. Where they end, they end with `applied`, which is the checkpoint
/// of the last batch that was: a leader that signs two logs may give both the same places.
pub(crate) async fn check(
    store: &PatientStore,
    stream: StreamId,
    next: Sequence,
    applied: Option<&SignedCheckpoint>,
) -> Result<(), Elsewhere> {
    let lacks = |end| refused(next, Refused::StoreEnds { end, next });
    let mut at = match store.last_batch(stream).await {
        Ok(last) => last.unwrap_or(Sequence::FIRST),
        Err(NoAnswer::GaveUp) => return Err(Elsewhere::GaveUp),
        Err(NoAnswer::Failed(error)) => {
            // Only a help: without it a replica waits as it did before.
            warn!(error = %synddb_protocol::chain(&error), "cannot look whether the store ends where the replica stands");
            return Ok(());
        }
    };
    // A listing may be old, and the gets that go on from it are not.
    while at < next {
        let Some(object) = get(store, stream, at).await? else { return Err(lacks(at.previous())) };
        let decoded = spawn_blocking(move || Batch::from_stored(&object)).await;
        let last = match decoded {
            Ok(Ok(batch)) if batch.first() == at => {
                let last = batch.last();
                if last.next() == Some(next) && applied.is_some_and(|applied| applied != batch.checkpoint()) {
                    return Err(refused(next, Refused::Forked { first: at, last }));
                }
                last
            }
            Ok(Ok(batch)) => {
                return Err(refused(at, Refused::Misplaced { expected: at, found: batch.first() }));
            }
            Ok(Err(error)) => return Err(refused(at, BatchError::from(error).into())),
            Err(_) => return Err(Elsewhere::Failed(Box::new(ValidatorError::Fault { part: "decoder" }))),
        };
        at = match last.next() {
            Some(after) if last < next => after,
            // The batch goes on where the replica stands: it is another one than was applied.
            Some(_) | None => return Err(refused(next, Refused::Straddles { first: at, last, next })),
        };
    }
    // Batches are stored one after the other: behind one that is there, `next` is there as well by now.
    if at > next && get(store, stream, next).await?.is_none() {
        return Err(refused(next, Refused::Skipped { next, found: at }));
    }
    Ok(())
}

/// Checks that no batch is listed behind the end of the log, at which `next` is not there. Who says of a whole log what it is must not take a batch
/// that was removed for the end. Who signed what lies there does not matter: only the name is looked at.
///
/// Nothing is said where a store cannot list, as a static host cannot.
pub(crate) async fn check_hole(
    store: &PatientStore,
    stream: StreamId,
    next: Sequence,
) -> Result<(), Elsewhere> {
    let from = Start::At(Key::Batch { stream, first: next });
    let listed = store.list(|store| async move { store.list(&from, PageLimit::ONE).await });
    let page = match listed.await {
        Ok(page) => page,
        Err(NoAnswer::GaveUp) => return Err(Elsewhere::GaveUp),
        Err(NoAnswer::Failed(error)) => {
            // Only a help: without it a hole is taken for the end, as over a static host.
            debug!(error = %synddb_protocol::chain(&error), "cannot look whether something is stored behind the end");
            return Ok(());
        }
    };
    let Some(Key::Batch { first: found, .. }) = page.keys.first() else { return Ok(()) };
    // The log may have grown since its end was looked at.
    if *found > next && get(store, stream, next).await?.is_none() {
        return Err(refused(next, Refused::Skipped { next, found: *found }));
    }
    Ok(())
}

async fn get(
    store: &PatientStore,
    stream: StreamId,
    first: Sequence,
) -> Result<Option<bytes::Bytes>, Elsewhere> {
    store.get(&Key::Batch { stream, first }).await.map_err(|error| match error {
        NoAnswer::GaveUp => Elsewhere::GaveUp,
        NoAnswer::Failed(error @ GetError::TooLarge { .. }) => refused(first, Refused::TooLarge(error)),
        NoAnswer::Failed(error) => Elsewhere::Failed(Box::new(error.into())),
    })
}

fn refused(at: Sequence, why: Refused) -> Elsewhere {
    Elsewhere::Failed(Box::new(HaltCause::refused(at, why).into_error(at, at)))
}
