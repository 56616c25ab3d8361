//! The contract of [`BatchStore`] as a suite that can fail. That of [`Lease`](crate::Lease) is in [`leases`], that of
//! [`Sweeper`](crate::Sweeper) in [`sweeping`].
//!
//! Every implementation runs it: files and memory in this crate, remote stores and data availability
//! layers where they live. [`run`] makes each [`Check`] against an empty store of its own and says which
//! ones do not hold, and why. The suite is itself tested against stores that break one word each.
//!
//! ```
//! use std::sync::Arc;
//! use synddb_storage::{ObjectBatchStore, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let report = conformance::run(|| async { Arc::new(ObjectBatchStore::memory()) as conformance::SharedStore }).await;
//! report.into_result()
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It needs a Tokio runtime and no clock. It does not test durability, which no program can see from
//! inside; and not what happens across processes, which needs more than one.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{Address, Epoch, Sequence, StreamId};

use crate::key::{Folder, Key, Kind};
use crate::store::{BatchStore, Page, PageLimit, Put, PutError, Start};

pub mod leases;
mod listings;
mod objects;
pub mod sweeping;

/// A store under test.
pub type SharedStore = Arc<dyn BatchStore>;

/// One promise of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// What was never put is absent: a get finds nothing, a listing is empty and has ended.
    AbsentObject,
    /// What was put is there at once, byte for byte, for every kind.
    PutThenGet,
    /// The same bytes again succeed and change nothing.
    SameBytesAgain,
    /// Other bytes are a conflict that carries the existing ones, and change nothing.
    OtherBytesConflict,
    /// Of many puts of different bytes at once exactly one succeeds; the others learn its bytes.
    ConcurrentPuts,
    /// Many puts of the same bytes at once all succeed, and at most one created the object.
    ConcurrentSamePuts,
    /// An object without bytes is an object.
    EmptyObject,
    /// An object of exactly the size bound of its kind is stored whole.
    LargestObject,
    /// One byte more is refused, and leaves nothing behind.
    OversizedObject,
    /// Identifiers of all zeros and all ones are like any other.
    ExtremeIdentifiers,
    /// Listings are ascending whatever the order of the puts, for every kind.
    ListAscending,
    /// A listing begins at, or after, the place asked for, whether or not it exists.
    ListFromPlace,
    /// Pages keep their limit, join without gap or overlap, and end.
    ListPages,
    /// A folder of 2500 objects is listed whole.
    ListManyObjects,
    /// A listing shows one stream and one kind.
    ListIsolation,
    /// The first and the last possible number are listed in order.
    ListBoundaries,
    /// An object is listed as soon as its put was answered.
    ListAfterPut,
    /// A listing during puts is ascending and holds all that was answered before it began.
    ListDuringPuts,
}

impl Check {
    /// Every check, in the order in which [`run`] makes them.
    pub const ALL: [Self; 18] = [
        Self::AbsentObject,
        Self::PutThenGet,
        Self::SameBytesAgain,
        Self::OtherBytesConflict,
        Self::ConcurrentPuts,
        Self::ConcurrentSamePuts,
        Self::EmptyObject,
        Self::LargestObject,
        Self::OversizedObject,
        Self::ExtremeIdentifiers,
        Self::ListAscending,
        Self::ListFromPlace,
        Self::ListPages,
        Self::ListManyObjects,
        Self::ListIsolation,
        Self::ListBoundaries,
        Self::ListAfterPut,
        Self::ListDuringPuts,
    ];

    async fn make(self, store: SharedStore) -> Result<(), Violation> {
        match self {
            Self::AbsentObject => objects::absent(&*store).await,
            Self::PutThenGet => objects::put_then_get(&*store).await,
            Self::SameBytesAgain => objects::same_bytes_again(&*store).await,
            Self::OtherBytesConflict => objects::other_bytes_conflict(&*store).await,
            Self::ConcurrentPuts => objects::concurrent_puts(&store).await,
            Self::ConcurrentSamePuts => objects::concurrent_same_puts(&store).await,
            Self::EmptyObject => objects::empty_object(&*store).await,
            Self::LargestObject => objects::largest_object(&*store).await,
            Self::OversizedObject => objects::oversized_object(&*store).await,
            Self::ExtremeIdentifiers => objects::extreme_identifiers(&*store).await,
            Self::ListAscending => listings::ascending(&*store).await,
            Self::ListFromPlace => listings::from_place(&*store).await,
            Self::ListPages => listings::pages(&*store).await,
            Self::ListManyObjects => listings::many_objects(&store).await,
            Self::ListIsolation => listings::isolation(&*store).await,
            Self::ListBoundaries => listings::boundaries(&*store).await,
            Self::ListAfterPut => listings::after_put(&*store).await,
            Self::ListDuringPuts => listings::during_puts(&store).await,
        }
    }
}

/// How a store broke its word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(String);

/// One check and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<C = Check> {
    /// The promise.
    pub check: C,
    /// Whether it holds.
    pub outcome: Result<(), Violation>,
}

/// How a store did. As text it has one line for each check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<C = Check> {
    /// Every check, in order.
    pub checked: Vec<Checked<C>>,
}

impl<C: Copy> Report<C> {
    /// The promises that do not hold.
    #[must_use]
    pub fn broken(&self) -> Vec<C> {
        self.checked.iter().filter(|checked| checked.outcome.is_err()).map(|checked| checked.check).collect()
    }

    /// `Ok` when every promise holds.
    ///
    /// # Errors
    /// The report itself.
    pub fn into_result(self) -> Result<(), Self> {
        if self.broken().is_empty() { Ok(()) } else { Err(self) }
    }
}

impl<C: fmt::Debug> std::error::Error for Report<C> {}

impl<C: fmt::Debug> fmt::Display for Report<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Checked { check, outcome } in &self.checked {
            match outcome {
                Ok(()) => writeln!(f, "holds   {check:?}")?,
                Err(violation) => writeln!(f, "BROKEN  {check:?}: {violation}")?,
            }
        }
        Ok(())
    }
}

/// Makes every check. `open` gives a new, empty store at each call.
pub async fn run<Open, Opening>(open: Open) -> Report
where
    Open: Fn() -> Opening,
    Opening: Future<Output = SharedStore>,
{
    run_only(&Check::ALL, open).await
}

/// Makes these checks and no others, for who asks about one promise and cannot wait for all.
pub async fn run_only<Open, Opening>(checks: &[Check], open: Open) -> Report
where
    Open: Fn() -> Opening,
    Opening: Future<Output = SharedStore>,
{
    let mut checked = Vec::with_capacity(checks.len());
    for check in checks {
        let outcome = check.make(open().await).await;
        checked.push(Checked { check: *check, outcome });
    }
    Report { checked }
}

/// A stream whose identifier is one byte over and over.
const fn stream(byte: u8) -> StreamId {
    StreamId::from_bytes([byte; 32])
}

/// A key of any kind: `number` is its number, or the end of its hash; `who` signs.
fn key(kind: Kind, stream: StreamId, number: u64, who: u8) -> Result<Key, Violation> {
    let signer = Address::from_bytes([who; 20]);
    let sequence = Sequence::new(number).map_err(violation)?;
    Ok(match kind {
        Kind::Epoch => Key::Epoch { stream, epoch: Epoch::new(number).map_err(violation)? },
        Kind::Batch => Key::Batch { stream, first: sequence },
        Kind::Snapshot => Key::Snapshot { stream, sequence, signer },
        Kind::Chunk => {
            let mut hash = [who; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            Key::Chunk { stream, hash: ChunkHash::from_bytes(hash) }
        }
        Kind::Endorsement => Key::Endorsement { stream, sequence, validator: signer },
    })
}

/// Keys of one kind: every number with every signer, ascending when both are.
fn keys(kind: Kind, stream: StreamId, numbers: &[u64], signers: &[u8]) -> Result<Vec<Key>, Violation> {
    let mut keys = Vec::new();
    for number in numbers {
        for who in signers {
            let key = key(kind, stream, *number, *who)?;
            // Epochs and batches have no signer in their names.
            if keys.last() != Some(&key) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

/// Batch keys with these numbers.
fn batches(stream: StreamId, numbers: impl IntoIterator<Item = u64>) -> Result<Vec<Key>, Violation> {
    numbers.into_iter().map(|number| key(Kind::Batch, stream, number, 0)).collect()
}

fn violation(cause: impl std::error::Error) -> Violation {
    let mut text = cause.to_string();
    let mut source = cause.source();
    while let Some(next) = source {
        text = format!("{text}: {next}");
        source = next.source();
    }
    Violation(text)
}

/// Refuses with `words` unless `holds`.
fn ensure(holds: bool, words: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(words())) }
}

/// Bytes that name their key, so that a mixed-up object shows.
fn body(key: &Key) -> Bytes {
    Bytes::from(format!("object of {key}"))
}

async fn put_new(store: &dyn BatchStore, key: &Key, bytes: &Bytes) -> Result<(), Violation> {
    match store.put(key, bytes.clone()).await {
        Ok(Put::Created) => Ok(()),
        Ok(Put::Unchanged) => Err(Violation(format!("a new object was called unchanged. key=`{key}`"))),
        Err(error) => Err(violation(error)),
    }
}

async fn put_bodies(store: &dyn BatchStore, keys: &[Key]) -> Result<(), Violation> {
    for key in keys {
        put_new(store, key, &body(key)).await?;
    }
    Ok(())
}

async fn must_hold(store: &dyn BatchStore, key: &Key, bytes: &Bytes) -> Result<(), Violation> {
    let found = store.get(key).await.map_err(violation)?;
    let told = || match &found {
        Some(found) => format!("a get found {} other bytes. key=`{key}`", found.len()),
        None => format!("a get did not find what was put. key=`{key}`"),
    };
    ensure(found.as_ref() == Some(bytes), told)
}

async fn must_be_absent(store: &dyn BatchStore, key: &Key) -> Result<(), Violation> {
    let found = store.get(key).await.map_err(violation)?;
    ensure(found.is_none(), || format!("a get found what was not put. key=`{key}`"))
}

async fn must_conflict(
    store: &dyn BatchStore,
    key: &Key,
    bytes: &Bytes,
    held: &Bytes,
) -> Result<(), Violation> {
    match store.put(key, bytes.clone()).await {
        Err(PutError::Conflict { existing, .. }) => ensure(existing.as_bytes() == held, || {
            format!("a conflict carried other bytes than the object's. key=`{key}`")
        }),
        Ok(put) => Err(Violation(format!("a put of other bytes succeeded. key=`{key}` put=`{put:?}`"))),
        Err(error) => Err(violation(error)),
    }
}

/// One page, with what every page must keep.
async fn page(store: &dyn BatchStore, start: &Start, limit: PageLimit) -> Result<Page, Violation> {
    let page = store.list(start, limit).await.map_err(violation)?;
    let (found, allowed) = (page.keys.len(), limit.get());
    ensure(found <= allowed, || format!("a page of {allowed} held {found} keys"))?;
    ensure(page.keys.is_sorted_by(|a, b| a < b), || "a page is not strictly ascending".to_owned())?;
    for key in &page.keys {
        ensure(start.admits(key), || {
            format!("a page held a key outside its range. key=`{key}` start=`{start:?}`")
        })?;
    }
    Ok(page)
}

/// Everything from `start` on, page by page.
async fn list_all(store: &dyn BatchStore, start: Start, limit: PageLimit) -> Result<Vec<Key>, Violation> {
    let mut all: Vec<Key> = Vec::new();
    let mut next = Some(start);
    while let Some(start) = next {
        let page = page(store, &start, limit).await?;
        ensure(all.last() < page.keys.first() || page.keys.is_empty(), || "two pages overlap".to_owned())?;
        all.extend(page.keys);
        let moved = page.next.is_none_or(|next| next != start && next.key() >= start.key());
        ensure(moved, || format!("a page leads back to where it began. start=`{start:?}`"))?;
        next = page.next;
    }
    Ok(all)
}

/// The whole folder must hold exactly `keys`.
async fn must_list(store: &dyn BatchStore, folder: Folder, keys: &[Key]) -> Result<(), Violation> {
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    let found = list_all(store, Start::of(folder), PageLimit::MAX).await?;
    same_keys(&found, &expected)
}

/// Both are ascending.
fn same_keys(found: &[Key], expected: &[Key]) -> Result<(), Violation> {
    if let Some(missing) = expected.iter().find(|key| found.binary_search(key).is_err()) {
        let (found, expected) = (found.len(), expected.len());
        return Err(Violation(format!(
            "a listing lacks an object. key=`{missing}` found=`{found}` expected=`{expected}`"
        )));
    }
    ensure(found == expected, || {
        format!("a listing holds more than was put. found=`{}` expected=`{}`", found.len(), expected.len())
    })
}
