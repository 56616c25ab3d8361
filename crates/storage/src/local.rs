//! What a store of files needs beyond `object_store`: folders and objects that survive a power cut.
//!
//! `object_store` with `fsync` writes a staging file, syncs it, links it to its name (which fails when
//! the name exists) and syncs the folder. Two gaps remain, and both would let an answered put be
//! forgotten; this module closes them.
//!
//! 1. A folder is synced into its parents only by the process that makes it. If that process dies between
//!    making and syncing, or another one uses the new folder at once, nobody syncs it. So every process
//!    makes and syncs the chain of folders itself before its first put into a folder.
//! 2. A name that exists may have been linked by a process that died before it synced the folder. So an
//!    object that a put finds is synced, and its folder too, before the put answers about it.
//!
//! On systems where a folder cannot be opened and synced, its sync does nothing. This module knows
//! nothing about keys beyond their text. It removes what it is told to remove and nothing by itself: a staging file that a crash leaves
//! (`{name}#1`) wastes room, is no key, and no listing shows it.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::key::Key;
use crate::names::smallest;

/// How many folders are remembered as durable. Forgetting one costs only another sync.
const DURABLE_FOLDERS_MAX: usize = 1024;

/// What to do when the folder of a store does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Make it, when its parent exists.
    Create,
    /// Say so.
    Refuse,
}

/// Why the folder of a store cannot be used.
#[derive(Debug)]
pub(crate) enum FolderError {
    Missing,
    ParentMissing,
    NotAFolder,
    Io(io::Error),
}

/// The root folder of a store, and which folders below it are known to survive a power cut.
#[derive(Debug, Clone)]
pub(crate) struct LocalFolder {
    root: PathBuf,
    durable: Arc<Mutex<HashSet<PathBuf>>>,
}

impl LocalFolder {
    /// Opens the root folder.
    pub(crate) async fn open(path: PathBuf, if_missing: IfMissing) -> Result<Self, FolderError> {
        let opened = tokio::task::spawn_blocking(move || open_root(&path, if_missing)).await;
        let root = opened.unwrap_or_else(|error| Err(FolderError::Io(io::Error::other(error))))?;
        Ok(Self { root, durable: Arc::default() })
    }

    /// The root, absolute and without symbolic links.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folder of `key`, and makes sure that a power cut forgets no folder above the object.
    pub(crate) async fn make_folder_durable(&self, key: &Key) -> io::Result<()> {
        let text = key.to_string();
        let Some((folder, _)) = text.rsplit_once('/') else {
            return Err(io::Error::other("a key has a folder"));
        };
        let relative = PathBuf::from(folder);
        if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&relative) {
            return Ok(());
        }
        let (root, segments) = (self.root.clone(), relative.clone());
        blocking(move || make_chain(&root, &segments)).await?;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.len() >= DURABLE_FOLDERS_MAX {
            durable.clear();
        }
        durable.insert(relative);
        Ok(())
    }

    /// Makes sure that a power cut does not forget the object that exists under `key`.
    ///
    /// The folders above are [`Self::make_folder_durable`]'s, which every put calls first.
    pub(crate) async fn make_object_durable(&self, key: &Key) -> io::Result<()> {
        let path = self.root.join(key.to_string());
        blocking(move || {
            // The bytes first: an entry must not become durable before what it names.
            File::open(&path)?.sync_all()?;
            sync_folder(path.parent().unwrap_or(&path))
        })
        .await
    }

    /// Removes objects, and makes sure that a power cut brings none of them back: after it one of them could be there that names another which is
    /// not. Folders stay, because other processes count on those that they have made durable. Says which object it was where it fails.
    pub(crate) async fn remove_durably(&self, keys: Vec<Key>) -> Result<(), (Key, io::Error)> {
        let root = self.root.clone();
        let first = keys.first().copied();
        let work = tokio::task::spawn_blocking(move || remove_all(&root, &keys));
        match (work.await, first) {
            (Ok(removed), _) => removed,
            (Err(error), Some(first)) => Err((first, io::Error::other(error))),
            (Err(_), None) => Ok(()),
        }
    }

    /// The smallest names in a folder of the store, of those that are admitted, ascending.
    pub(crate) async fn smallest_names(
        &self,
        folder: String,
        admitted: impl Fn(&str) -> bool + Send + 'static,
        count: usize,
    ) -> io::Result<Vec<String>> {
        let root = self.root.clone();
        blocking(move || smallest(&root, &folder, admitted, count)).await
    }
}

fn remove_all(root: &Path, keys: &[Key]) -> Result<(), (Key, io::Error)> {
    let mut touched: BTreeMap<PathBuf, Key> = BTreeMap::new();
    for key in keys {
        let path = root.join(key.to_string());
        let folder = path.parent().unwrap_or(root).to_owned();
        match fs::remove_file(&path) {
            // Whoever removed it may have died before its folder was synced.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((*key, error)),
            _ => touched.insert(folder, *key),
        };
    }
    for (folder, key) in touched {
        match sync_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((key, error)),
            _ => {}
        }
    }
    Ok(())
}

fn open_root(path: &Path, if_missing: IfMissing) -> Result<PathBuf, FolderError> {
    match (fs::metadata(path), if_missing) {
        (Ok(metadata), _) if metadata.is_dir() => {}
        (Ok(_), _) => return Err(FolderError::NotAFolder),
        (Err(error), IfMissing::Create) if error.kind() == io::ErrorKind::NotFound => create_root(path)?,
        (Err(error), _) => return Err(folder_error(error)),
    }
    path.canonicalize().map_err(folder_error)
}

/// Makes the last folder of `path` only: a missing parent is more often a missing mount than a wish.
fn create_root(path: &Path) -> Result<(), FolderError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FolderError::ParentMissing),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(folder_error(error)),
        // Who was faster made a folder or something else; the caller's next call tells.
        _ => Ok(()),
    }
}

fn folder_error(error: io::Error) -> FolderError {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        FolderError::Missing
    } else if kind == io::ErrorKind::NotADirectory {
        FolderError::NotAFolder
    } else {
        FolderError::Io(error)
    }
}

/// Makes each folder of `segments` below `root` and syncs every folder that holds one of them.
fn make_chain(root: &Path, segments: &Path) -> io::Result<()> {
    if let Some(above) = root.parent() {
        match sync_folder(above) {
            // Who may not read the folder above the root did not make the root; it was there before.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    let mut at = root.to_path_buf();
    for segment in segments {
        let next = at.join(segment);
        match fs::create_dir(&next) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(&at)?,
        }
        at = next;
    }
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
