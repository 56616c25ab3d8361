//! When a snapshot is due, and how it comes into the store: chunks first, the signed manifest last, so that nothing half is ever seen.
//!
//! A store that is away holds up the next snapshot and nothing else. Whoever is killed takes the snapshot again, and finds most of it on the disk or in
//! the store.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use synddb_protocol::chain;
use synddb_protocol::http::SnapshotsTaken;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::log::{Manifest, SignedManifest};
use synddb_protocol::signing::SigningKey;
use synddb_protocol::submission::Chunk;
use synddb_protocol::{DecodeError, hash::ChunkHash};
use synddb_service::secret::{SecretError, read_signing_key, signing_key};
use synddb_service::shutdown::Shutdown;
use synddb_storage::{BatchStore, GetError, ListError, Put, PutError, missing_chunks};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::listed::Named;
use super::spool::{Last, Spool, SpoolError};
use super::take::{TakeError, Taken, take};
use crate::config::SnapshotsConfig;
use crate::error::ValidatorError;
use crate::event::Event;
use crate::fetch::{RETRY_MAX, RETRY_MIN, spread};
use crate::metrics;
use crate::run::own;
use crate::view::View;
use crate::watch::Audits;

/// How often it is looked whether a snapshot is due.
const LOOK: Duration = Duration::from_millis(100);
/// So many times as long as a try took that failed, no other one is made.
const REST: u32 = 9;
/// Chunks that are stored at a time.
const PARALLEL: usize = 4;

/// The key that signs snapshots; made when it is missing. `None` where none are taken.
///
/// # Errors
/// [`SecretError`] when it cannot be used.
pub(crate) fn key(config: &SnapshotsConfig) -> Result<Option<Arc<SigningKey>>, SecretError> {
    if config.is_on() { signing_key(&config.key_file).map(Arc::new).map(Some) } else { Ok(None) }
}

/// Whether that key could be used, as far as that is seen without making it.
///
/// # Errors
/// [`SecretError`] when it could not.
pub(crate) fn check_key(config: &SnapshotsConfig) -> Result<(), SecretError> {
    if config.is_on() { check_key_file(&config.key_file) } else { Ok(()) }
}

/// The same of any key that is made when it is missing.
///
/// # Errors
/// [`SecretError`] when it could not be used.
pub(crate) fn check_key_file(file: &Path) -> Result<(), SecretError> {
    match read_signing_key(file) {
        Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_none_or(Path::is_dir) {
                return Ok(());
            }
            let source = io::Error::from(io::ErrorKind::NotADirectory);
            Err(SecretError::Io { doing: "write", file: file.to_owned(), source })
        }
        read => read.map(drop),
    }
}

/// Who takes snapshots of a replica.
pub(crate) struct Taker {
    pub(crate) config: SnapshotsConfig,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) replica: PathBuf,
    pub(crate) stream: StreamId,
    pub(crate) store: Arc<dyn BatchStore>,
    pub(crate) view: View,
    /// Who looks at a replica that is not what it was.
    pub(crate) audits: Option<Audits>,
    pub(crate) events: Sender<Event>,
    pub(crate) shutdown: Shutdown,
    /// Cancelled when everything ends.
    pub(crate) stop: CancellationToken,
    /// The snapshot that the replica began with: somebody has taken that.
    pub(crate) began_with: Option<Sequence>,
}

/// Why a snapshot is not stored.
#[derive(Debug, thiserror::Error)]
enum NotStored {
    #[error(transparent)]
    Take(#[from] TakeError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("what was kept of the snapshot beside the replica is gone; it is taken again. hash=`{hash}`")]
    Lost { hash: ChunkHash },
    #[error("the manifest of the snapshot is one that no reader would take")]
    Manifest(#[from] DecodeError),
    #[error("the snapshot cannot be stored")]
    Put(#[from] PutError),
    #[error("what the store has of the last snapshot cannot be read")]
    Get(#[from] GetError),
    #[error("nobody knows whether the store has every chunk of the snapshot")]
    List(#[from] ListError),
    #[error(
        "the store lost a chunk of the last snapshot that this one was to share; the next one is stored whole, and this one is not whole: \
         find out who removes chunks (`synddb gc` with a shorter age than snapshots are apart?). hash=`{hash}`"
    )]
    Removed { hash: ChunkHash },
    #[error("a part of the validator ended in a fault; the lines before say which")]
    Fault(#[from] ValidatorError),
}

impl NotStored {
    /// Whether the same snapshot may be stored yet.
    const fn waits_for_store(&self) -> bool {
        match self {
            // Also one that denies it: somebody may change that.
            Self::Put(error) => matches!(error, PutError::Failed { .. }),
            Self::List(error) => matches!(error, ListError::Failed { .. }),
            Self::Take(_) | Self::Spool(_) | Self::Lost { .. } | Self::Removed { .. } => false,
            Self::Manifest(_) | Self::Get(_) | Self::Fault(_) => false,
        }
    }

    const fn is_end(&self) -> bool {
        matches!(self, Self::Take(TakeError::Interrupted))
    }
}

/// When the next one is due.
#[derive(Debug)]
struct Due {
    every_messages: Option<u64>,
    every: Option<Duration>,
    last: Option<Sequence>,
    since: Instant,
}

impl Due {
    fn of(config: &SnapshotsConfig, last: Option<Sequence>, now: Instant) -> Self {
        let every_messages = Some(config.every_messages).filter(|every| *every > 0);
        let every = Some(config.every_ms).filter(|every| *every > 0).map(Duration::from_millis);
        Self { every_messages, every, last, since: now }
    }

    /// Whether one is due of a replica that stands there.
    fn is_at(&self, at: Sequence, now: Instant) -> bool {
        let moved = at.get().saturating_sub(self.last.map_or(0, Sequence::get));
        let enough = self.every_messages.is_some_and(|every| moved >= every);
        let late = self.every.is_some_and(|every| now.saturating_duration_since(self.since) >= every);
        moved > 0 && (enough || late)
    }

    const fn taken(&mut self, at: Sequence, now: Instant) {
        (self.last, self.since) = (Some(at), now);
    }
}

impl Taker {
    /// Takes snapshots until asked to end.
    pub(crate) async fn run(self) {
        let spool = Spool::beside(&self.replica);
        // A place that is only remembered is no reason to read all of it.
        let last = spool.last().map(|last| last.sequence).max(self.began_with);
        let mut due = Due::of(&self.config, last, Instant::now());
        self.tell(last, None);
        let mut wait = RETRY_MIN;
        loop {
            if self.pause(LOOK).await.is_err() {
                return;
            }
            let Some(at) = self.view.is_whole_at() else { continue };
            if !due.is_at(at, Instant::now()) {
                continue;
            }
            let began = Instant::now();
            match self.store_one(&spool, due.last).await {
                Ok(sequence) => {
                    due.taken(sequence, Instant::now());
                    wait = RETRY_MIN;
                }
                Err(error) if error.is_end() => return,
                Err(error) => {
                    self.failed(due.last, &error);
                    if let (NotStored::Take(error), Some(audits)) = (&error, &self.audits)
                        && error.is_of_replica()
                    {
                        // Whatever comes of it, its owner halts at what it finds.
                        audits.ask().await.ok();
                    }
                    // What fails again and again takes a tenth of the time at most.
                    let rest = began.elapsed().saturating_mul(REST).max(spread(wait));
                    if self.pause(rest).await.is_err() {
                        return;
                    }
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Takes one, and stores it, however long the store is away.
    async fn store_one(&self, spool: &Spool, last: Option<Sequence>) -> Result<Sequence, NotStored> {
        let began = Instant::now();
        let before = self.last(spool).await?;
        let taken = self.take(spool, before).await?;
        let sequence = taken.sequence();
        let bytes: u64 = taken.new.iter().map(|chunk| chunk.stored_bytes).sum();
        let took = began.elapsed();
        debug!(sequence = sequence.get(), chunks = taken.new.len(), bytes, "a snapshot is on the local disk");
        let signed = Manifest {
            checkpoint: taken.checkpoint.clone(),
            encoding: taken.made.encoding,
            page_size: taken.made.page_size,
            runs: taken.made.runs.clone(),
            patches: taken.made.patches.clone(),
        }
        .sign(&self.key)?;
        let mut wait = RETRY_MIN;
        let mut left = taken.new.clone();
        let is_ours = loop {
            match self.put(spool, &mut left, &taken.new, &signed).await {
                Ok(is_ours) => break is_ours,
                Err(error) if error.waits_for_store() => {
                    self.failed(last, &error);
                    self.pause(spread(wait)).await?;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                Err(error) => return Err(error),
            }
        };
        for chunk in &taken.new {
            spool.forget(chunk.hash);
        }
        if is_ours {
            spool.remember(&Last { sequence, made: taken.made })?;
        } else {
            // Of another one that this key has signed there nothing is remembered.
            spool.forget_last();
        }
        metrics::snapshot_taken(self.stream, sequence, bytes);
        let (taken_ms, stored_ms) = (took.as_millis(), began.elapsed().as_millis());
        let chunks = taken.new.len();
        info!(sequence = sequence.get(), chunks, bytes, taken_ms, stored_ms, "a snapshot is stored");
        // Who hears of it may ask at once.
        self.tell(Some(sequence), None);
        self.events.send(Event::Snapshot { sequence, chunks: chunks as u64, bytes }).await.ok();
        Ok(sequence)
    }

    /// The last snapshot, where the store has it: only its chunks need not be stored again.
    async fn last(&self, spool: &Spool) -> Result<Option<Last>, NotStored> {
        let spool = spool.clone();
        let Some(last) = own(move || Ok(spool.last())).await? else { return Ok(None) };
        let named = Named { sequence: last.sequence, signer: self.key.id() };
        let stored = match self.store.get(&named.key(self.stream)).await {
            Err(GetError::TooLarge { .. }) => None,
            stored => stored?,
        };
        let signed = stored.and_then(|stored| SignedManifest::from_bytes(&stored).ok());
        let same = signed.as_ref().map(SignedManifest::manifest).is_some_and(|manifest| {
            (&manifest.runs, &manifest.patches) == (&last.made.runs, &last.made.patches)
        });
        if !same {
            warn!(
                sequence = last.sequence.get(),
                "the store does not have the last snapshot of this replica; the next one is stored whole"
            );
        }
        Ok(same.then_some(last))
    }

    async fn take(&self, spool: &Spool, last: Option<Last>) -> Result<Taken, NotStored> {
        let (replica, spool, stop) = (self.replica.clone(), spool.clone(), self.stop.clone());
        let taken = own(move || Ok(take(&replica, &spool, last.map(|last| last.made), &stop)));
        tokio::select! {
            taken = taken => Ok(taken??),
            () = self.shutdown.asked() => Err(TakeError::Interrupted.into()),
        }
    }

    /// Stores what is left of the new chunks, then the manifest, and then what of it is not there any more. `false` when this key has signed
    /// another one there.
    async fn put(
        &self,
        spool: &Spool,
        left: &mut Vec<Chunk>,
        new: &[Chunk],
        signed: &SignedManifest,
    ) -> Result<bool, NotStored> {
        let puts = stream::iter(left.clone()).map(async |chunk| {
            self.put_chunk(spool, chunk).await?;
            Ok::<_, NotStored>(chunk)
        });
        let mut puts = puts.buffer_unordered(PARALLEL);
        while let Some(stored) = puts.next().await {
            let stored = stored?;
            left.retain(|chunk| chunk.hash != stored.hash);
        }
        drop(puts);
        let named = Named { sequence: signed.manifest().sequence(), signer: signed.key() };
        let other = match self.store.put(&named.key(self.stream), Bytes::from(signed.to_bytes())).await {
            Ok(Put::Created | Put::Unchanged) => None,
            Err(error) => Some(self.own_in(&named, &error).ok_or(error)?),
        };
        if other.is_some() {
            info!(
                sequence = named.sequence.get(),
                "this key has stored another snapshot of this place before"
            );
        }
        let stands = other.as_ref().unwrap_or(signed).manifest();
        self.make_whole(spool, stands, new).await?;
        Ok(other.is_none())
    }

    /// The manifest that lies in the place of another one, if this key has signed it, and for that place: who copies one under another
    /// name makes no snapshot of it.
    fn own_in(&self, named: &Named, error: &PutError) -> Option<SignedManifest> {
        let PutError::Conflict { existing, .. } = error else { return None };
        let other = SignedManifest::from_bytes(existing.as_bytes()).ok()?;
        let (key, manifest) = (other.recover().ok()?, other.manifest());
        let is_own = key.id() == named.signer && other.key() == named.signer;
        let is_here = (manifest.stream(), manifest.sequence()) == (self.stream, named.sequence);
        (is_own && is_here).then_some(other)
    }

    /// Looks whether every chunk is there that a stored manifest names, and stores again what is not. Before it was stored, whoever removes
    /// what is old and needless may have removed chunks that were put long ago, that were found in the store, or that an earlier snapshot
    /// brought; from then on they stay (`spec/storage.md`, section 10).
    async fn make_whole(&self, spool: &Spool, manifest: &Manifest, new: &[Chunk]) -> Result<(), NotStored> {
        let wanted = manifest.chunks().map(|chunk| chunk.hash);
        let missing = match missing_chunks(&*self.store, self.stream, wanted).await {
            Err(error @ ListError::Foreign { .. }) => {
                warn!(error = chain(&error), "only the new chunks of the snapshot can be looked for");
                new.iter().map(|chunk| chunk.hash).collect()
            }
            missing => missing?,
        };
        let missing: BTreeSet<ChunkHash> = missing.into_iter().collect();
        let mut gone = None;
        for chunk in manifest.chunks().filter(|chunk| missing.contains(&chunk.hash)) {
            match self.put_chunk(spool, *chunk).await {
                Ok(Put::Unchanged) => {}
                Ok(Put::Created) => {
                    warn!(hash = %chunk.hash, "a chunk was removed while its snapshot was stored, and is stored again");
                }
                Err(NotStored::Lost { hash }) => gone = gone.or(Some(hash)),
                Err(error) => return Err(error),
            }
        }
        let Some(hash) = gone else { return Ok(()) };
        // What was reused of it is not here either, so the next one is taken whole.
        spool.forget_last();
        Err(NotStored::Removed { hash })
    }

    async fn put_chunk(&self, spool: &Spool, chunk: Chunk) -> Result<Put, NotStored> {
        let (of, hash) = (spool.clone(), chunk.hash);
        let bytes = tokio::task::spawn_blocking(move || of.kept(&chunk)).await;
        let bytes = bytes.ok().flatten().ok_or(NotStored::Lost { hash })?;
        let key = synddb_storage::Key::Chunk { stream: self.stream, hash };
        Ok(self.store.put(&key, Bytes::from(bytes)).await?)
    }

    /// Waits, unless the process ends.
    async fn pause(&self, time: Duration) -> Result<(), TakeError> {
        tokio::select! {
            () = self.shutdown.asked() => Err(TakeError::Interrupted),
            () = self.stop.cancelled() => Err(TakeError::Interrupted),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    fn failed(&self, last: Option<Sequence>, error: &NotStored) {
        metrics::snapshot_failed(self.stream);
        let detail = chain(error);
        warn!(error = detail, "no snapshot is stored; trying again");
        self.tell(last, Some(detail));
    }

    fn tell(&self, sequence: Option<Sequence>, failing: Option<String>) {
        self.view.takes_snapshots(SnapshotsTaken { signer: self.key.id(), sequence, failing });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn at(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    #[test]
    fn one_is_due_by_messages_or_by_time_and_never_twice_of_one_place() {
        let began = Instant::now();
        let later = began + Duration::from_secs(1);
        let config = |every_messages, every_ms| SnapshotsConfig {
            every_messages,
            every_ms,
            ..SnapshotsConfig::default()
        };
        let mut by_messages = Due::of(&config(10, 0), None, began);
        assert!(!by_messages.is_at(at(9), later));
        assert!(by_messages.is_at(at(10), began));
        by_messages.taken(at(10), began);
        assert!(!by_messages.is_at(at(19), later));
        assert!(by_messages.is_at(at(20), began));
        let mut by_time = Due::of(&config(0, 1000), Some(at(3)), began);
        assert!(!by_time.is_at(at(4), began));
        assert!(!by_time.is_at(at(3), later), "it has not moved");
        assert!(by_time.is_at(at(4), later));
        by_time.taken(at(4), later);
        assert!(!by_time.is_at(at(5), later));
        assert!(Due::of(&config(10, 1000), None, began).is_at(at(1), later));
        assert!(!Due::of(&config(0, 0), None, began).is_at(at(1 << 30), later));
    }
}
