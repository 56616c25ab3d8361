//! A store over `object_store`: files and memory in this build.
//!
//! One code path serves every backend; what a store of files needs more is in [`crate::local`]. The
//! backend's errors are sorted here, once, into the few kinds that a caller treats differently, by their
//! types and never by their text.
//!
//! This module knows nothing about batches or their order, keeps no cache, and never deletes.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, PutMode, PutPayload};

use crate::key::{Folder, Key};
use crate::local::{FolderError, IfMissing, LocalFolder};
use crate::store::{
    BatchStore, Cause, Existing, Failure, GetError, ListError, Page, PageLimit, Put, PutError, Start,
};
use crate::url::{Place, StoreUrl};

/// A [`BatchStore`] at a [`StoreUrl`].
///
/// Clones are the same store. Every method needs a Tokio runtime around it, and does its file work on
/// that runtime's blocking threads.
#[derive(Debug, Clone)]
pub struct ObjectBatchStore {
    objects: Arc<dyn ObjectStore>,
    backend: Backend,
}

/// What differs between backends.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    /// Files: listed in no order, made durable by hand.
    Folder(LocalFolder),
    /// Memory: listed ascending, as by every remote store.
    Memory,
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
    /// The store did not answer.
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
    /// Opens the store, and creates it when it does not exist.
    ///
    /// A folder is made only when the folder above it exists. An existing folder is not written to.
    ///
    /// # Errors
    /// [`OpenError`] when the address leads nowhere.
    pub async fn open(url: &StoreUrl) -> Result<Self, OpenError> {
        Self::open_with(url, IfMissing::Create).await
    }

    /// Opens a store that exists: what a reader wants, for whom an empty store would be a wrong address.
    ///
    /// # Errors
    /// [`OpenError`], also when the folder does not exist.
    pub async fn open_existing(url: &StoreUrl) -> Result<Self, OpenError> {
        Self::open_with(url, IfMissing::Refuse).await
    }

    /// A new, empty store in the memory of this process.
    #[must_use]
    pub fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), backend: Backend::Memory }
    }

    async fn open_with(url: &StoreUrl, if_missing: IfMissing) -> Result<Self, OpenError> {
        let folder = match url.place() {
            Place::Memory => return Ok(Self::memory()),
            Place::Folder(folder) => folder.clone(),
        };
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
        Ok(Self { objects: Arc::new(files.with_fsync(true)), backend: Backend::Folder(local) })
    }

    /// What differs between backends.
    pub(crate) const fn backend(&self) -> &Backend {
        &self.backend
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

    /// The first names of the folder at or after `start`, ascending, at most `count` of them.
    async fn first_names(&self, start: &Start, count: usize) -> Result<BTreeSet<String>, Failure> {
        let folder = path_of(&start.key().folder());
        let place = start.key().to_string();
        let admitted = |name: &str| match start {
            Start::At(_) => name >= place.as_str(),
            Start::After(_) => name > place.as_str(),
        };
        // The offset is exclusive, so that a listing which includes its place begins just before it.
        let offset = match start {
            Start::At(_) => Path::from(&place[..place.len() - 1]),
            Start::After(_) => Path::from(place.as_str()),
        };
        let mut names = BTreeSet::new();
        let mut entries = self.objects.list_with_offset(Some(&folder), &offset);
        while let Some(entry) = entries.try_next().await.map_err(failure_of)? {
            let name = String::from(entry.location);
            if !admitted(&name) {
                continue;
            }
            match &self.backend {
                Backend::Memory => {
                    if names.last().is_some_and(|last| *last >= name) {
                        return Err(Failure::Misconfigured(Box::new(Unordered)));
                    }
                    names.insert(name);
                    if names.len() == count {
                        break;
                    }
                }
                // Files come in no order, so all of them pass by and only the smallest stay.
                Backend::Folder(_) => {
                    names.insert(name);
                    if names.len() > count {
                        names.pop_last();
                    }
                }
            }
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
        if let Backend::Folder(local) = &self.backend {
            let durable = local.make_folder_durable(key).await;
            durable.map_err(|error| PutError::Failed { key: *key, failure: io_failure(error) })?;
        }
        let payload = PutPayload::from_bytes(bytes.clone());
        match self.objects.put_opts(&path_of(key), payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => self.compare(key, &bytes).await,
            Err(error) => Err(PutError::Failed { key: *key, failure: failure_of(error) }),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>, GetError> {
        let failed = |error| GetError::Failed { key: *key, failure: failure_of(error) };
        let found = match self.objects.get_opts(&path_of(key), GetOptions::default()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // The size is known before the body is read, and the backend reads no more than it announced.
        let (size, size_max) = (found.meta.size, key.size_max() as u64);
        if size > size_max {
            return Err(GetError::TooLarge { key: *key, size, size_max });
        }
        let bytes = found.bytes().await.map_err(failed)?;
        if bytes.len() as u64 != size {
            let failure = Failure::Unavailable(Box::new(Cut));
            return Err(GetError::Failed { key: *key, failure });
        }
        Ok(Some(bytes))
    }

    async fn list(&self, start: &Start, limit: PageLimit) -> Result<Page, ListError> {
        let folder = start.key().folder();
        // One name more than the page holds tells whether another page follows.
        let names = self.first_names(start, limit.get() + 1).await;
        let names = names.map_err(|failure| ListError::Failed { folder, failure })?;
        let more = names.len() > limit.get();
        let read = |name: String| key_in(folder, name);
        let keys = names.into_iter().take(limit.get()).map(read).collect::<Result<Vec<Key>, _>>()?;
        let next = if more { keys.last().copied().map(Start::After) } else { None };
        Ok(Page { keys, next })
    }
}

fn key_in(folder: Folder, name: String) -> Result<Key, ListError> {
    match name.parse::<Key>() {
        Ok(key) if key.folder() == folder => Ok(key),
        _ => Err(ListError::Foreign { folder, object: name }),
    }
}

/// The name of a key or a folder. Their texts hold nothing that a backend would have to escape.
fn path_of(text: &impl std::fmt::Display) -> Path {
    Path::from(text.to_string())
}

/// The store said that the key is taken, and then that it is not.
#[derive(Debug, thiserror::Error)]
#[error("the object exists for a put and does not exist for a get")]
struct Vanished;

/// The store announced another size than it sent.
#[derive(Debug, thiserror::Error)]
#[error("the object was cut short on the way")]
struct Cut;

/// The store lists in no order, as some special bucket types do.
#[derive(Debug, thiserror::Error)]
#[error("the store does not list its objects in ascending order")]
struct Unordered;

pub(crate) fn io_failure(error: io::Error) -> Failure {
    failure_for(error.kind())(Box::new(error))
}

pub(crate) fn failure_of(error: object_store::Error) -> Failure {
    use object_store::Error;
    match &error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Failure::Denied(Box::new(error)),
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => Failure::Misconfigured(Box::new(error)),
        Error::Generic { .. }
        | Error::NotFound { .. }
        | Error::JoinError { .. }
        | Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. } => failure_by_cause(error),
        _ => failure_by_cause(error),
    }
}

/// Sorts by the first operating system error in the chain of causes, where the file backend keeps it.
fn failure_by_cause(error: object_store::Error) -> Failure {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<io::Error>() {
            return failure_for(found.kind())(Box::new(error));
        }
        cause = current.source();
    }
    Failure::Unavailable(Box::new(error))
}

fn failure_for(kind: io::ErrorKind) -> fn(Cause) -> Failure {
    use io::ErrorKind;
    if matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
        Failure::Denied
    } else if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
        Failure::Full
    } else if matches!(
        kind,
        ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::Unsupported
    ) {
        Failure::Misconfigured
    } else {
        Failure::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_system_errors_are_sorted_by_what_the_caller_does() {
        let sorted = |kind| {
            let source = Box::new(io::Error::from(kind));
            failure_of(object_store::Error::Generic { store: "test", source })
        };
        assert!(matches!(sorted(io::ErrorKind::PermissionDenied), Failure::Denied(_)));
        assert!(matches!(sorted(io::ErrorKind::ReadOnlyFilesystem), Failure::Denied(_)));
        assert!(matches!(sorted(io::ErrorKind::StorageFull), Failure::Full(_)));
        assert!(matches!(sorted(io::ErrorKind::QuotaExceeded), Failure::Full(_)));
        assert!(matches!(sorted(io::ErrorKind::NotADirectory), Failure::Misconfigured(_)));
        assert!(matches!(sorted(io::ErrorKind::TimedOut), Failure::Unavailable(_)));
        assert!(matches!(sorted(io::ErrorKind::ConnectionReset), Failure::Unavailable(_)));
    }

    #[test]
    fn backend_errors_are_sorted_by_what_the_caller_does() {
        let path = || "key".to_owned();
        let source = || -> Cause { "told so".into() };
        let denied = object_store::Error::PermissionDenied { path: path(), source: source() };
        assert!(matches!(failure_of(denied), Failure::Denied(_)));
        let stranger = object_store::Error::Unauthenticated { path: path(), source: source() };
        assert!(matches!(failure_of(stranger), Failure::Denied(_)));
        let unable = object_store::Error::NotSupported { source: source() };
        assert!(matches!(failure_of(unable), Failure::Misconfigured(_)));
        let broken = object_store::Error::Generic { store: "test", source: source() };
        assert!(matches!(failure_of(broken), Failure::Unavailable(_)));
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
