//! The end of a log, found without listing its middle.
//!
//! Objects are numbered, and a listing may begin at any number. So the search leaps from what it has seen,
//! each time twice as far, until there is nothing, and halves what is left: one page for a small log, some
//! ten for one of twenty thousand batches, and at most about eighty for the largest that there can be. A
//! sequencer that starts and a tool that opens a store need this; a reader that follows never lists.
//!
//! The answer is as fresh as the store's listings. Who must be certain continues from it with gets of the
//! next key until one is absent.

use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::limits::KEYED_COUNTER_MAX;

use crate::key::{Folder, Key, Kind};
use crate::store::{BatchStore, ListError, PAGE_KEYS_MAX, PageLimit, Start};

/// The highest epoch that was claimed in `stream`.
///
/// # Errors
/// [`ListError`] of the store.
pub async fn last_epoch<S: BatchStore + ?Sized>(
    store: &S,
    stream: StreamId,
) -> Result<Option<Epoch>, ListError> {
    let last = last_number(store, Folder { stream, kind: Kind::Epoch }).await?;
    Ok(last.and_then(|number| Epoch::new(number).ok()))
}

/// The first sequence of the last batch of `stream`.
///
/// # Errors
/// [`ListError`] of the store.
pub async fn last_batch<S: BatchStore + ?Sized>(
    store: &S,
    stream: StreamId,
) -> Result<Option<Sequence>, ListError> {
    let last = last_number(store, Folder { stream, kind: Kind::Batch }).await?;
    Ok(last.and_then(|number| Sequence::new(number).ok()))
}

/// The highest sequence at which somebody stored a snapshot of `stream`.
///
/// # Errors
/// [`ListError`] of the store.
pub async fn last_snapshot<S: BatchStore + ?Sized>(
    store: &S,
    stream: StreamId,
) -> Result<Option<Sequence>, ListError> {
    let last = last_number(store, Folder { stream, kind: Kind::Snapshot }).await?;
    Ok(last.and_then(|number| Sequence::new(number).ok()))
}

/// What one look at a place of a folder told.
enum Look {
    /// The folder ends with this number.
    Ends(u64),
    /// There is nothing at or after the place.
    Empty,
    /// There is this number, and more may follow.
    Continues(u64),
}

async fn last_number<S: BatchStore + ?Sized>(store: &S, folder: Folder) -> Result<Option<u64>, ListError> {
    let (mut floor, mut leap) = (None, 1);
    let mut ceiling = KEYED_COUNTER_MAX + 1;
    let mut place = 1;
    loop {
        match look(store, folder, place).await? {
            Look::Ends(last) => return Ok(Some(last)),
            Look::Empty => ceiling = place,
            Look::Continues(number) => {
                // The next leap is twice as long as everything that this look has passed.
                leap = 2 * (number - floor.unwrap_or(0));
                floor = Some(number);
            }
        }
        // `floor` exists, and nothing lies at or above `ceiling`: the distance shrinks each time.
        match floor {
            Some(found) if found + 1 < ceiling => {
                let left = ceiling - found - 1;
                // A page tells of all that a few numbers can hold.
                let half = if left <= u64::from(PAGE_KEYS_MAX) { 0 } else { left / 2 };
                place = found + 1 + half.min(leap);
            }
            done => return Ok(done),
        }
    }
}

async fn look<S: BatchStore + ?Sized>(store: &S, folder: Folder, place: u64) -> Result<Look, ListError> {
    let Some(key) = key_at(folder, place) else { return Ok(Look::Empty) };
    let mut start = Start::At(key);
    loop {
        let page = store.list(&start, PageLimit::MAX).await?;
        match (page.keys.last().and_then(number_of), page.next) {
            (Some(last), None) => return Ok(Look::Ends(last)),
            (Some(last), Some(_)) => return Ok(Look::Continues(last)),
            (None, None) => return Ok(Look::Empty),
            (None, Some(next)) => start = next,
        }
    }
}

/// The smallest key with this number, or `None` outside the range of numbers.
fn key_at(folder: Folder, number: u64) -> Option<Key> {
    let sequence = Sequence::new(number).ok()?;
    Some(match folder.first_key() {
        Key::Epoch { stream, .. } => Key::Epoch { stream, epoch: Epoch::new(number).ok()? },
        Key::Batch { stream, .. } => Key::Batch { stream, first: sequence },
        Key::Snapshot { stream, signer, .. } => Key::Snapshot { stream, sequence, signer },
        Key::Endorsement { stream, validator, .. } => Key::Endorsement { stream, sequence, validator },
        Key::Chunk { .. } => return None,
    })
}

fn number_of(key: &Key) -> Option<u64> {
    match key {
        Key::Epoch { epoch, .. } => Some(epoch.get()),
        Key::Batch { first, .. } => Some(first.get()),
        Key::Snapshot { sequence, .. } | Key::Endorsement { sequence, .. } => Some(sequence.get()),
        Key::Chunk { .. } => None,
    }
}
