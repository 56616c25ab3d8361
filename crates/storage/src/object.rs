//! A store over `object_store`: buckets, static hosts, files and memory.
//!
//! One code path serves every backend; what a store of files needs more is in [`crate::local`], what is reached over HTTP in
//! [`crate::remote`]. Errors are sorted in [`crate::failure`].
//!
//! This module knows nothing about batches or their order, keeps no cache, and never deletes: that is [`crate::sweep`]'s.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, GetResult, GetResultPayload, ObjectStore, PutMode, PutPayload};

use crate::failure::{failure_of, io_failure};
use crate::key::{Folder, Key};
use crate::local::{FolderError, IfMissing, LocalFolder};
use crate::remote::{self, Clock, Refusal, SettingsError, Variables};
use crate::store::{
    BatchStore, Cause, Existing, Failure, GetError, ListError, Page, PageLimit, Put, PutError, Start,
};
use crate::url::{Place, Platform, StoreUrl};

/// What a remote store is asked for when it is opened. No key has this name, so nothing can lie there.
const ABSENT: &str = "absent";

/// A [`BatchStore`] at a [`StoreUrl`].
///
/// Clones are the same store. Every method needs a Tokio runtime around it, and does its file work on
/// that runtime's blocking threads.
#[derive(Clone)]
pub struct ObjectBatchStore {
    objects: Arc<dyn ObjectStore>,
    backend: Backend,
    /// Of a bucket.
    clock: Clock,
}

/// Without the client, whose own text shows credentials.
impl fmt::Debug for ObjectBatchStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBatchStore").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// What differs between backends.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// Files: listed and made durable by hand.
    Folder(LocalFolder),
    /// Memory: listed ascending, as by every bucket.
    Memory,
    /// A bucket, over HTTP.
    Bucket(Platform),
    /// A static host, which is only read.
    Static,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder does not exist.
    #[error("cannot open store: the folder does not exist. folder=`{}`", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder does not exist, and neither does the one above it, so it is not made.
    #[error("cannot create store: the folder above it does not exist; is something not mounted? folder=`{}`", folder.display())]
    ParentMissing {
        /// The folder.
        folder: PathBuf,
    },
    /// The path, or a part of it, is a file.
    #[error("cannot open store: the path leads to something that is not a folder. folder=`{}`", folder.display())]
    NotAFolder {
        /// The path.
        folder: PathBuf,
    },
    /// The environment does not say how to reach the store.
    #[error("cannot open store. url=`{url}`")]
    Settings {
        /// The address.
        url: StoreUrl,
        /// What is missing or wrong.
        #[source]
        error: SettingsError,
    },
    /// The address is one of a store that can only be read.
    #[error(
        "cannot open store: a static host can only be read; write to a bucket or a folder, and let the host serve it. url=`{url}`"
    )]
    ReadOnly {
        /// The address.
        url: StoreUrl,
    },
    /// The store did not answer, or refused.
    #[error("cannot open store. url=`{url}`")]
    Failed {
        /// The address.
        url: StoreUrl,
        /// What happened.
        #[source]
        failure: Failure,
    },
}

impl ObjectBatchStore {
    /// Opens the store to write, with the environment of this process; creates it when it does not exist.
    ///
    /// A folder is made only when the folder above it exists. An existing folder is not written to. A bucket is never made.
    ///
    /// A bucket is asked once for an object that does not exist. What it refuses then is an error. That it does not answer is none:
    /// it may answer when it is needed.
    ///
    /// # Errors
    /// [`OpenError`] when the address leads nowhere.
    pub async fn open(url: &StoreUrl) -> Result<Self, OpenError> {
        Self::open_with(url, &Variables::of_process()).await
    }

    /// [`open`](Self::open) with the environment given.
    ///
    /// # Errors
    /// [`OpenError`] when the address leads nowhere.
    pub async fn open_with(url: &StoreUrl, variables: &Variables) -> Result<Self, OpenError> {
        if !url.is_writable() {
            return Err(OpenError::ReadOnly { url: url.clone() });
        }
        Self::open_place(url, variables, IfMissing::Create).await
    }

    /// Opens a store that exists: what a reader wants, for whom an empty store would be a wrong address.
    ///
    /// # Errors
    /// [`OpenError`], also when the folder does not exist.
    pub async fn open_existing(url: &StoreUrl) -> Result<Self, OpenError> {
        Self::open_existing_with(url, &Variables::of_process()).await
    }

    /// [`open_existing`](Self::open_existing) with the environment given.
    ///
    /// # Errors
    /// [`OpenError`], also when the folder does not exist.
    pub async fn open_existing_with(url: &StoreUrl, variables: &Variables) -> Result<Self, OpenError> {
        Self::open_place(url, variables, IfMissing::Refuse).await
    }

    /// A new, empty store in the memory of this process.
    #[must_use]
    pub fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), backend: Backend::Memory, clock: Clock::default() }
    }

    async fn open_place(
        url: &StoreUrl,
        variables: &Variables,
        if_missing: IfMissing,
    ) -> Result<Self, OpenError> {
        match url.place() {
            Place::Memory => Ok(Self::memory()),
            Place::Folder(folder) => Self::open_folder(url, folder.clone(), if_missing).await,
            Place::Bucket(bucket) => {
                let clock = Clock::default();
                let client = remote::bucket(bucket, variables, &clock);
                Self::reach(url, client, Backend::Bucket(bucket.platform), clock).await
            }
            Place::Static => {
                Self::reach(url, remote::static_host(url), Backend::Static, Clock::default()).await
            }
        }
    }

    async fn open_folder(url: &StoreUrl, folder: PathBuf, if_missing: IfMissing) -> Result<Self, OpenError> {
        let failed = |failure| OpenError::Failed { url: url.clone(), failure };
        let local = match LocalFolder::open(folder.clone(), if_missing).await {
            Ok(local) => local,
            Err(FolderError::Missing) => return Err(OpenError::Missing { folder }),
            Err(FolderError::ParentMissing) => return Err(OpenError::ParentMissing { folder }),
            Err(FolderError::NotAFolder) => return Err(OpenError::NotAFolder { folder }),
            Err(FolderError::Io(error)) => return Err(failed(io_failure(error))),
        };
        let files =
            LocalFileSystem::new_with_prefix(local.root()).map_err(|error| failed(failure_of(error)))?;
        let objects = Arc::new(files.with_fsync(true));
        Ok(Self { objects, backend: Backend::Folder(local), clock: Clock::default() })
    }

    /// Asks a remote store for what it cannot have, so that a wrong address shows here and not at the first batch.
    async fn reach(
        url: &StoreUrl,
        client: Result<Arc<dyn ObjectStore>, SettingsError>,
        backend: Backend,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let objects = client.map_err(|error| OpenError::Settings { url: url.clone(), error })?;
        let failure = match objects.get_opts(&Path::from(ABSENT), GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => Some(at_opening(failure_of(error))),
            Ok(_) => Some(Failure::Misconfigured(Box::new(AnswersAll))),
        };
        match failure {
            Some(failure) if !failure.retry_may_help() => {
                Err(OpenError::Failed { url: url.clone(), failure })
            }
            _ => Ok(Self { objects, backend, clock }),
        }
    }

    /// What differs between backends.
    pub(crate) const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The time by the clock that dates the objects, or an earlier one. `None` where no answer stated it.
    pub(crate) fn time(&self) -> Option<SystemTime> {
        match &self.backend {
            Backend::Folder(_) | Backend::Memory => Some(SystemTime::now()),
            Backend::Bucket(_) | Backend::Static => self.clock.last(),
        }
    }

    /// The objects as the backend has them.
    pub(crate) fn objects(&self) -> &dyn ObjectStore {
        &*self.objects
    }

    /// Answers a put that found its key taken.
    async fn compare(&self, key: &Key, bytes: &Bytes) -> Result<Put, PutError> {
        if let Backend::Folder(local) = &self.backend {
            let durable = local.make_object_durable(key).await;
            durable.map_err(|error| PutError::Failed { key: *key, failure: io_failure(error) })?;
        }
        match self.get(key).await {
            Ok(Some(existing)) if existing == bytes => Ok(Put::Unchanged),
            Ok(Some(existing)) => Err(PutError::Conflict { key: *key, existing: Existing::new(existing) }),
            Ok(None) => {
                let failure = Failure::Unavailable(Box::new(Vanished));
                Err(PutError::Failed { key: *key, failure })
            }
            Err(GetError::TooLarge { key, size, size_max }) => {
                Err(PutError::ConflictTooLarge { key, size, size_max })
            }
            Err(GetError::Failed { key, failure }) => Err(PutError::Failed { key, failure }),
        }
    }

    /// Answers a put that was denied. A bucket that keeps its objects for a time denies every put to a key that is taken, whatever its
    /// precondition; so what lies there decides.
    async fn denied(&self, key: &Key, bytes: &Bytes, failure: Failure) -> Result<Put, PutError> {
        match self.compare(key, bytes).await {
            Err(PutError::Failed { .. }) => Err(PutError::Failed { key: *key, failure }),
            found => found,
        }
    }

    /// Whether such a store can do this at all.
    pub(crate) fn can(&self, ability: Ability) -> Result<(), Failure> {
        match &self.backend {
            Backend::Static => Err(Failure::Misconfigured(Box::new(ability))),
            Backend::Folder(_) | Backend::Memory | Backend::Bucket(_) => Ok(()),
        }
    }

    /// The first names of the folder at or after `start`, ascending, at most `count` of them.
    async fn first_names(&self, start: &Start, count: usize) -> Result<Vec<String>, Failure> {
        let folder = path_of(&start.key().folder());
        let place = start.key().to_string();
        let is_from = matches!(start, Start::At(_));
        // An offset is exclusive, so that a listing which includes its place begins just before it.
        let offset = Path::from(&place[..place.len() - usize::from(is_from)]);
        let admitted = move |name: &str| if is_from { name >= place.as_str() } else { name > place.as_str() };
        if let Backend::Folder(local) = &self.backend {
            return local.smallest_names(folder.into(), admitted, count).await.map_err(io_failure);
        }
        let mut names: Vec<String> = Vec::new();
        let mut entries = self.objects.list_with_offset(Some(&folder), &offset);
        while names.len() < count
            && let Some(entry) = entries.try_next().await.map_err(failure_of)?
        {
            let name = String::from(entry.location);
            if !admitted(&name) {
                continue;
            }
            if names.last().is_some_and(|last| *last >= name) {
                return Err(Failure::Misconfigured(Box::new(Unordered)));
            }
            names.push(name);
        }
        Ok(names)
    }
}

#[async_trait]
impl BatchStore for ObjectBatchStore {
    async fn put(&self, key: &Key, bytes: Bytes) -> Result<Put, PutError> {
        let (size, size_max) = (bytes.len() as u64, key.size_max() as u64);
        if size > size_max {
            return Err(PutError::TooLarge { key: *key, size, size_max });
        }
        let failed = |failure| PutError::Failed { key: *key, failure };
        self.can(Ability::Write).map_err(failed)?;
        if let Backend::Folder(local) = &self.backend {
            let durable = local.make_folder_durable(key).await;
            durable.map_err(|error| failed(io_failure(error)))?;
        }
        let payload = PutPayload::from_bytes(bytes.clone());
        let failure = match self.objects.put_opts(&path_of(key), payload, PutMode::Create.into()).await {
            Ok(_) => return Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => return self.compare(key, &bytes).await,
            Err(error) => failure_of(error),
        };
        if matches!((&self.backend, &failure), (Backend::Bucket(_), Failure::Denied(_))) {
            return self.denied(key, &bytes, failure).await;
        }
        Err(failed(failure))
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        let failed = |error| GetError::Failed { key: *key, failure: failure_of(error) };
        let found = match self.objects.get_opts(&path_of(key), GetOptions::default()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // The size is known before the body is read, and no more is read than it announced.
        let (size, size_max) = (found.meta.size, key.size_max() as u64);
        if size > size_max {
            return Err(GetError::TooLarge { key: *key, size, size_max });
        }
        if let Some(encoding) = encoding_of(&found) {
            let failure = Failure::Misconfigured(Box::new(Encoded { encoding }));
            return Err(GetError::Failed { key: *key, failure });
        }
        let bytes = bytes_of(found).await.map_err(|failure| GetError::Failed { key: *key, failure })?;
        Ok(Some(bytes))
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        let folder = start.key().folder();
        let failed = |failure| ListError::Failed { folder, failure };
        self.can(Ability::List).map_err(failed)?;
        // One name more than the page holds tells whether another page follows. A bucket answers no more than a page at once, so there
        // a full page leads on to one that may be empty: cheaper than a second request for each.
        let peeked = if matches!(self.backend, Backend::Bucket(_)) { limit.get() } else { limit.get() + 1 };
        let names = self.first_names(start, peeked).await.map_err(failed)?;
        let more = names.len() == peeked;
        let read = |name: String| key_in(folder, name);
        let keys = names.into_iter().take(limit.get()).map(read).collect::<Result<Vec<Key>, _>>()?;
        let next = if more { keys.last().copied().map(Start::After) } else { None };
        Ok(Page { keys, next })
    }
}

/// What a failure is to who opens a store. A running process waits for credentials that are late; one that begins without any lacks a
/// variable far more often than it is early.
fn at_opening(failure: Failure) -> Failure {
    let is_forgotten = |cause: &Cause| matches!(cause.downcast_ref(), Some(Refusal::NoCredentials { .. }));
    match failure {
        Failure::Unavailable(cause) if is_forgotten(&cause) => Failure::Denied(cause),
        Failure::Unavailable(_) | Failure::Full(_) | Failure::Denied(_) | Failure::Misconfigured(_) => {
            failure
        }
    }
}

fn key_in(folder: Folder, name: String) -> Result<Key, ListError> {
    match name.parse::<Key>() {
        Ok(key) if key.folder() == folder => Ok(key),
        _ => Err(ListError::Foreign { folder, object: name }),
    }
}

/// The bytes of an object, exactly as many as were announced. A host can announce a few and send chunks for ever, so they are counted as
/// they come.
pub(crate) async fn bytes_of(found: GetResult) -> Result<Bytes, Failure> {
    let announced = found.meta.size;
    if let GetResultPayload::File(..) = &found.payload {
        let bytes = found.bytes().await.map_err(failure_of)?;
        return if bytes.len() as u64 == announced { Ok(bytes) } else { Err(cut()) };
    }
    let mut pieces = found.into_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.try_next().await.map_err(failure_of)? {
        if (bytes.len() + piece.len()) as u64 > announced {
            return Err(Failure::Unavailable(Box::new(Overlong { announced })));
        }
        if piece.len() as u64 == announced {
            return Ok(piece);
        }
        bytes.reserve_exact(usize::try_from(announced).unwrap_or(0).saturating_sub(bytes.len()));
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() as u64 == announced { Ok(bytes.into()) } else { Err(cut()) }
}

fn cut() -> Failure {
    Failure::Unavailable(Box::new(Cut))
}

/// The name of a key or a folder. Their texts hold nothing that a backend would have to escape.
fn path_of(text: &impl fmt::Display) -> Path {
    Path::from(text.to_string())
}

/// What not every store can do.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Ability {
    /// Create objects, or overwrite a lease.
    #[error("a static host can only be read: write to the bucket or folder that it serves")]
    Write,
    /// Remove objects.
    #[error("a static host removes nothing: name the bucket or folder that it serves")]
    Remove,
    /// Tell names.
    #[error("a static host cannot list: name the stream, or use the bucket or folder that it serves")]
    List,
}

/// The host has an answer for every name, such as the page of an application.
#[derive(Debug, thiserror::Error)]
#[error(
    "the host answers with a file for a name that does not exist: it must answer 404, and serve the store's folder itself. name=`{ABSENT}`"
)]
struct AnswersAll;

/// The object does not come as it was stored.
#[derive(Debug, thiserror::Error)]
#[error("the store sends the object in an encoding: it must send it byte for byte. encoding=`{encoding}`")]
struct Encoded {
    encoding: String,
}

/// The encoding of an answer, if it has one. `aws-chunked` is about how a request was sent, and some servers repeat it.
fn encoding_of(found: &GetResult) -> Option<String> {
    let encoding = found.attributes.get(&Attribute::ContentEncoding)?;
    let plain = matches!(encoding.as_ref(), "" | "identity" | "aws-chunked");
    (!plain).then(|| encoding.chars().take(ENCODING_CHARS_MAX).collect())
}

/// The longest name of an encoding that is repeated in a message.
const ENCODING_CHARS_MAX: usize = 32;

/// The store said that the key is taken, and then that it is not.
#[derive(Debug, thiserror::Error)]
#[error("the object exists for a put and does not exist for a get")]
struct Vanished;

/// The store announced more than it sent.
#[derive(Debug, thiserror::Error)]
#[error("the object was cut short on the way")]
struct Cut;

/// The store announced less than it sent.
#[derive(Debug, thiserror::Error)]
#[error("the object is longer than the store said. announced=`{announced}`")]
struct Overlong {
    announced: u64,
}

/// The store lists in no order, as some special bucket types do.
#[derive(Debug, thiserror::Error)]
#[error("the store does not list its objects in ascending order")]
struct Unordered;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_not_opened_without_credentials() {
        let refusal = Refusal::NoCredentials { variables: "A", host: "b".to_owned() };
        let source = Box::new(object_store::client::HttpError::new(
            object_store::client::HttpErrorKind::Unknown,
            refusal,
        ));
        let failure = failure_of(object_store::Error::Generic { store: "test", source });
        assert!(failure.retry_may_help());
        assert!(!at_opening(failure).retry_may_help());
        assert!(at_opening(Failure::Unavailable("nobody answers".into())).retry_may_help());
    }

    #[test]
    fn the_backend_escapes_nothing_in_a_key() {
        let stream = synddb_protocol::id::StreamId::from_bytes([0xff; 32]);
        for kind in crate::key::Kind::ALL {
            let key = Folder { stream, kind }.first_key();
            assert_eq!(path_of(&key).as_ref(), key.to_string());
            assert_eq!(path_of(&key.folder()).as_ref(), key.folder().to_string());
        }
    }
}
