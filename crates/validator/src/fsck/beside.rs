//! What lies in the store and is no part of the log.

use futures::stream::{self, StreamExt as _};
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_protocol::log::SignedManifest;
use synddb_storage::{
    Failure, Folder, GetError, Key, Kind, ListError, Name, ObjectBatchStore, Stored, Sweeper as _,
};
use tokio::task::spawn_blocking;

use super::Problem;
use super::asked::failed;
use super::known::Known;
use super::look::{CHUNKS_MAX, Looked};
use super::report::{Beside, Stray};
use crate::error::{HaltCause, Refused, ValidatorError};
use crate::fetch::{NoAnswer, PatientStore};

/// Names that are told of each kind, at most.
const NAMES_MAX: usize = 5;
/// Longest name that is told, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Manifests that are read, at most. Where there are more, it cannot be told which chunks they name.
const MANIFESTS_MAX: usize = 1 << 17;
/// Manifests that are read at a time.
const PARALLEL: usize = 4;

/// The chunks that manifests of replicas' snapshots name, whatever these are worth. One that cannot be read names nothing here.
pub(super) async fn chunks_of_replicas(
    objects: &ObjectBatchStore,
    store: &PatientStore,
    stream: StreamId,
) -> Result<Known<ChunkHash>, Problem> {
    let mut manifests = Vec::new();
    let mut each = |stored: Stored| match stored.name {
        Name::Key(key @ Key::Snapshot { .. }) if manifests.len() <= MANIFESTS_MAX => manifests.push(key),
        Name::Key(_) | Name::Lease(_) | Name::Foreign(_) => {}
    };
    let told = objects.tell(Folder { stream, kind: Kind::Snapshot }, &mut each).await;
    told.map_err(|error| match error {
        ListError::Failed { failure, .. } => Problem::List(failure),
        // A folder of manifests is told with whatever lies in it.
        ListError::Foreign { .. } => ValidatorError::Fault { part: "listing" }.into(),
    })?;
    if manifests.len() > MANIFESTS_MAX {
        return Ok(Known::too_many());
    }
    let mut chunks = Known::up_to(CHUNKS_MAX);
    let mut read = stream::iter(manifests.iter().map(|key| store.get(key))).buffered(PARALLEL);
    while let Some(got) = read.next().await {
        let bytes = match got {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(NoAnswer::Failed(GetError::TooLarge { .. })) => continue,
            Err(error) => return Err(failed(error)),
        };
        // It may be megabytes.
        let decoded = spawn_blocking(move || SignedManifest::from_bytes(&bytes)).await;
        match decoded {
            Ok(Ok(signed)) => {
                for chunk in signed.manifest().chunks() {
                    chunks.add(chunk.hash);
                }
            }
            Ok(Err(_)) => {}
            Err(_) => return Err(ValidatorError::Fault { part: "decoder" }.into()),
        }
    }
    Ok(chunks)
}

/// Lists the stream, and returns also the first batch that lies behind the end of the log.
pub(super) async fn list(
    objects: &ObjectBatchStore,
    stream: StreamId,
    looked: &Looked,
    of_replicas: &Known<ChunkHash>,
    last_epoch: Option<Epoch>,
) -> Result<(Beside, Option<Sequence>), Failure> {
    let mut beside = Beside {
        batches: Some(Stray::default()),
        chunks: Some(Stray::default()),
        replica_chunks: Some(Stray::default()),
        ..Beside::default()
    };
    let mut behind: Option<Sequence> = None;
    let listing = objects.names(stream, |name, bytes| match &name {
        Name::Foreign(_) => beside.unknown.add(&name, bytes),
        Name::Key(Key::Batch { first, .. }) if Some(*first) > looked.size() => {
            behind = Some(behind.map_or(*first, |known| known.min(*first)));
        }
        Name::Key(Key::Batch { first, .. }) => {
            tell(&mut beside.batches, looked.batches.has(first), &name, bytes);
        }
        Name::Key(Key::Chunk { hash, .. }) => match (looked.chunks.has(hash), of_replicas.has(hash)) {
            (Some(true), _) => {}
            (Some(false), Some(true)) => tell(&mut beside.replica_chunks, Some(false), &name, bytes),
            (Some(false), Some(false)) => tell(&mut beside.chunks, Some(false), &name, bytes),
            (None, _) | (_, None) => (beside.chunks, beside.replica_chunks) = (None, None),
        },
        Name::Key(Key::Epoch { epoch, .. }) if Some(*epoch) > last_epoch => beside.epochs.add(&name, bytes),
        // A lease is a hint among sequencers, which no reader reads.
        Name::Key(Key::Epoch { .. }) | Name::Lease(_) => {}
        Name::Key(Key::Snapshot { .. } | Key::Endorsement { .. }) => beside.other.add(&name, bytes),
    });
    listing.await?;
    Ok((beside, behind))
}

fn tell(strays: &mut Option<Stray>, is_known: Option<bool>, name: &Name, bytes: u64) {
    match (is_known, strays.as_mut()) {
        (Some(false), Some(strays)) => strays.add(name, bytes),
        (Some(true), _) | (_, None) => {}
        (None, Some(_)) => *strays = None,
    }
}

impl Stray {
    fn add(&mut self, name: &Name, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let name: String = name.to_string().chars().take(NAME_CHARS_MAX).collect();
        let at = self.first.partition_point(|known| *known < name);
        if at < NAMES_MAX {
            self.first.insert(at, name);
            self.first.truncate(NAMES_MAX);
        }
    }
}

/// A batch lies behind the end of the log. Batches are stored one after the other: the one between was removed, or the log has grown
/// since its end was looked at.
pub(super) async fn check_hole(
    store: &PatientStore,
    stream: StreamId,
    size: Option<Sequence>,
    found: Sequence,
) -> Result<(), Problem> {
    let next = size.map_or(Some(Sequence::FIRST), Sequence::next);
    let Some(next) = next else { return Ok(()) };
    if next == found || store.get(&Key::Batch { stream, first: next }).await.map_err(failed)?.is_some() {
        return Ok(());
    }
    Err(HaltCause::refused(next, Refused::Skipped { next, found }).into_error(next, next).into())
}
