//! The contract of a store: create-only objects under computable keys.
//!
//! The log is as strong as this trait's words, so they are written out at each method, and
//! [`crate::conformance`] holds every implementation to them. Three facts carry the rest of SyndDB:
//! an object is never overwritten, an answered put survives a power cut, and what was put can be read.
//!
//! The trait knows nothing about what the bytes mean. It does not verify, decode, retry or delete.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::id::OutOfRange;

use crate::key::{Folder, Key};

/// What went wrong underneath, kept for the person who reads the log. Nobody branches on it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Where batches rest.
///
/// Implementations are cheap to share and safe to call from many tasks and many processes at once.
/// No method retries for ever: a caller that wants to go on asks the error whether a retry may help.
#[async_trait]
pub trait BatchStore: Send + Sync + 'static {
    /// Creates the object, whole or not at all.
    ///
    /// - **Durable.** `Ok` means that the object survives a power cut, whether this call created it or
    ///   found it.
    /// - **Create-only.** An object that exists is never changed. Of several puts of different bytes to
    ///   one key, from any number of processes, exactly one succeeds.
    /// - **Idempotent.** A put of the bytes that are already there succeeds. [`Put::Unchanged`] may also
    ///   answer the very put that created the object, when its first answer was lost on the way.
    /// - **Read your writes.** After `Ok`, and after [`PutError::Conflict`], every [`get`](Self::get) and
    ///   every [`list`](Self::list) that begins later sees the object.
    ///
    /// An object may become visible to readers shortly before its put is answered, and so before it is
    /// durable. A put whose future is dropped may still take effect.
    ///
    /// # Errors
    /// After [`PutError::Failed`] it is unknown whether the put took effect; sending the same bytes again
    /// is always safe. Every other error means that these bytes are not stored.
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError>;

    /// Reads the whole object, or `None` when there is none.
    ///
    /// # Errors
    /// [`GetError::TooLarge`] without reading the object when it exceeds [`Key::size_max`].
    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError>;

    /// Lists keys of the folder of `start`, ascending, from that place on, at most `limit` of them.
    ///
    /// A page holds every object whose put was answered before the call, within the range that the page
    /// covers: from `start` up to [`Page::next`], or to the end of the folder when that is `None`. A page
    /// may hold fewer keys than `limit` although more follow; only `next` tells.
    ///
    /// # Errors
    /// [`ListError::Foreign`] for an object inside the range whose name is not a key of this folder: a
    /// listing that skipped it would hide that somebody else writes here.
    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError>;
}

/// What a successful put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object did not exist and does now.
    Created,
    /// The object existed with the same bytes.
    Unchanged,
}

/// Where a listing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this key, or at the next one when it does not exist.
    At(Key),
    /// At the first key after this one.
    After(Key),
}

impl Start {
    /// The beginning of a folder.
    #[must_use]
    pub const fn of(folder: Folder) -> Self {
        Self::At(folder.first_key())
    }

    /// The key named, which need not exist.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::At(key) | Self::After(key) => key,
        }
    }

    /// Whether a listing that begins here contains `key`, if it exists.
    #[must_use]
    pub fn admits(&self, key: &Key) -> bool {
        key.folder() == self.key().folder()
            && match self {
                Self::At(place) => key >= place,
                Self::After(place) => key > place,
            }
    }
}

/// Most keys in one page of a listing.
pub const PAGE_KEYS_MAX: u16 = 1000;

/// How many keys a page may hold: from 1 to [`PAGE_KEYS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

impl PageLimit {
    /// One key.
    pub const ONE: Self = Self(1);

    /// The largest page.
    pub const MAX: Self = Self(PAGE_KEYS_MAX);

    /// A page of up to `keys` keys.
    ///
    /// # Errors
    /// [`OutOfRange`] for 0 and above [`PAGE_KEYS_MAX`].
    pub fn new(keys: u16) -> Result<Self, OutOfRange> {
        match keys {
            1..=PAGE_KEYS_MAX => Ok(Self(keys)),
            _ => {
                Err(OutOfRange { what: "page limit", min: 1, max: PAGE_KEYS_MAX.into(), found: keys.into() })
            }
        }
    }

    /// The limit.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The keys, strictly ascending.
    pub keys: Vec<Key>,
    /// Where to go on, or `None` when the listing has ended.
    pub next: Option<Start>,
}

/// Why a store did not answer. Each variant asks something else of the caller.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answered, or not in time, or something broke on the way. A retry may help.
    #[error("store is unavailable")]
    Unavailable(#[source] Cause),
    /// Disk or quota is used up. A retry helps once somebody has made room.
    #[error("store has no room")]
    Full(#[source] Cause),
    /// This process may not do that. A retry does not help.
    #[error("store denies access")]
    Denied(#[source] Cause),
    /// The address or the store behind it cannot do what a store must. A retry does not help.
    #[error("store is misconfigured")]
    Misconfigured(#[source] Cause),
}

impl Failure {
    /// Whether the same call may succeed later without anybody changing the configuration.
    #[must_use]
    pub const fn retry_may_help(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Full(_) => true,
            Self::Denied(_) | Self::Misconfigured(_) => false,
        }
    }
}

/// The object that a put met under its key. Its Debug text is its size, so that no log prints a batch.
#[derive(Clone, PartialEq, Eq)]
pub struct Existing(Bytes);

impl Existing {
    /// The object as stored.
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The bytes, borrowed.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Existing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Existing({} bytes)", self.0.len())
    }
}

/// Why a put did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The bytes exceed the bound of their kind. Nothing was sent.
    #[error(
        "cannot write object: it is larger than its kind allows. key=`{key}` size=`{size}` size_max=`{size_max}`"
    )]
    TooLarge {
        /// The key.
        key: Key,
        /// Size of the bytes refused.
        size: u64,
        /// The bound.
        size_max: u64,
    },
    /// The key holds other bytes, durably. They come with the error, because what to do depends on them.
    #[error("cannot write object: the key holds other bytes. key=`{key}` existing_size=`{}`", existing.as_bytes().len())]
    Conflict {
        /// The key.
        key: Key,
        /// What it holds.
        existing: Existing,
    },
    /// The key holds an object that is larger than its kind allows, so nobody of this system wrote it.
    #[error(
        "cannot write object: the key holds one that is too large to read. key=`{key}` existing_size=`{size}` size_max=`{size_max}`"
    )]
    ConflictTooLarge {
        /// The key.
        key: Key,
        /// Size of the object that is there.
        size: u64,
        /// The bound.
        size_max: u64,
    },
    /// The store did not answer. Whether the put took effect is unknown.
    #[error("cannot write object. key=`{key}`")]
    Failed {
        /// The key.
        key: Key,
        /// What happened.
        #[source]
        failure: Failure,
    },
}

impl PutError {
    /// Whether putting the same bytes again may succeed.
    #[must_use]
    pub const fn retry_may_help(&self) -> bool {
        match self {
            Self::Failed { failure, .. } => failure.retry_may_help(),
            Self::TooLarge { .. } | Self::Conflict { .. } | Self::ConflictTooLarge { .. } => false,
        }
    }
}

/// Why a get did not answer.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The object exceeds the bound of its kind and was not read.
    #[error(
        "cannot read object: it is larger than its kind allows. key=`{key}` size=`{size}` size_max=`{size_max}`"
    )]
    TooLarge {
        /// The key.
        key: Key,
        /// Size of the object.
        size: u64,
        /// The bound.
        size_max: u64,
    },
    /// The store did not answer.
    #[error("cannot read object. key=`{key}`")]
    Failed {
        /// The key.
        key: Key,
        /// What happened.
        #[source]
        failure: Failure,
    },
}

impl GetError {
    /// Whether the same get may succeed later.
    #[must_use]
    pub const fn retry_may_help(&self) -> bool {
        match self {
            Self::Failed { failure, .. } => failure.retry_may_help(),
            Self::TooLarge { .. } => false,
        }
    }
}

/// Why a listing did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The range holds an object whose name is not a key of the folder.
    #[error(
        "cannot list folder: it holds an object that is not of this system. folder=`{folder}` object=`{object}`"
    )]
    Foreign {
        /// The folder listed.
        folder: Folder,
        /// The object's full name in the store.
        object: String,
    },
    /// The store did not answer.
    #[error("cannot list folder. folder=`{folder}`")]
    Failed {
        /// The folder listed.
        folder: Folder,
        /// What happened.
        #[source]
        failure: Failure,
    },
}

impl ListError {
    /// Whether the same listing may succeed later.
    #[must_use]
    pub const fn retry_may_help(&self) -> bool {
        match self {
            Self::Failed { failure, .. } => failure.retry_may_help(),
            Self::Foreign { .. } => false,
        }
    }
}

/// A shared store is a store.
#[async_trait]
impl<S: BatchStore + ?Sized> BatchStore for Arc<S> {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        (**self).put(key, bytes).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        (**self).get(key).await
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        (**self).list(start, limit).await
    }
}
