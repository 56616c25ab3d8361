//! The manifests of a stream: what is listed, and what each is worth.

use std::time::SystemTime;

use synddb_protocol::id::{KeyId, Sequence, StreamId};
use synddb_protocol::log::SignedManifest;
use synddb_storage::{Folder, GetError, Key, Kind, Name, Sweeper};
use tokio::task::spawn_blocking;

use super::Problem;
use super::chunks::Chunks;
use super::retention::{Found, Standing};
use crate::error::ValidatorError;
use crate::fetch::{NoAnswer, PatientStore};

/// Manifests that are remembered, at most.
const MANIFESTS_MAX: usize = 1 << 17;

/// A manifest by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) sequence: Sequence,
    pub(super) signer: KeyId,
    pub(super) written: SystemTime,
    pub(super) bytes: u64,
}

impl Named {
    pub(super) const fn key(&self, stream: StreamId) -> Key {
        Key::Snapshot { stream, sequence: self.sequence, signer: self.signer }
    }
}

/// Lists them, in the order of their names.
pub(super) async fn list(store: &dyn Sweeper, stream: StreamId) -> Result<Vec<Named>, Problem> {
    let folder = Folder { stream, kind: Kind::Snapshot };
    let mut listed = Vec::new();
    let mut foreign = None;
    let mut each = |stored: synddb_storage::Stored| match stored.name {
        Name::Key(Key::Snapshot { sequence, signer, .. }) if listed.len() <= MANIFESTS_MAX => {
            listed.push(Named { sequence, signer, written: stored.written, bytes: stored.bytes });
        }
        Name::Key(Key::Snapshot { .. }) => {}
        name @ (Name::Key(_) | Name::Lease(_) | Name::Foreign(_)) => foreign = Some(name.to_string()),
    };
    store.tell(folder, &mut each).await.map_err(Problem::List)?;
    if let Some(object) = foreign {
        return Err(Problem::Foreign { object });
    }
    if listed.len() > MANIFESTS_MAX {
        return Err(Problem::TooMany { what: "manifests", limit: MANIFESTS_MAX });
    }
    listed.sort_unstable();
    Ok(listed)
}

/// What lies under the name of a manifest.
pub(super) enum Object {
    /// Nothing, any more.
    Absent,
    /// Nothing that this release reads.
    Unreadable,
    /// A manifest, whatever it is worth.
    Manifest(Box<SignedManifest>),
}

/// Reads one.
pub(super) async fn read(store: &PatientStore, key: &Key) -> Result<Object, Problem> {
    let bytes = match store.get(key).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Object::Absent),
        Err(NoAnswer::Failed(GetError::TooLarge { .. })) => return Ok(Object::Unreadable),
        Err(error) => return Err(error.into()),
    };
    // It may be megabytes.
    let decoded = spawn_blocking(move || SignedManifest::from_bytes(&bytes)).await;
    Ok(match decoded {
        Ok(Ok(manifest)) => Object::Manifest(Box::new(manifest)),
        Ok(Err(_)) => Object::Unreadable,
        Err(_) => return Err(ValidatorError::Fault { part: "decoder" }.into()),
    })
}

/// Reads one and says what it is worth; `None` where it is gone. `chunks` were listed after it was.
pub(super) async fn judge(
    store: &PatientStore,
    stream: StreamId,
    named: &Named,
    chunks: &Chunks,
) -> Result<Option<Found>, Problem> {
    let standing = match read(store, &named.key(stream)).await? {
        Object::Absent => return Ok(None),
        Object::Unreadable => Standing::Unreadable,
        Object::Manifest(signed) => {
            let manifest = signed.manifest();
            let is_there = manifest.stream() == stream
                && manifest.sequence() == named.sequence
                && signed.key() == named.signer;
            // A name is free for whoever may write: without the signature anybody could speak for a signer.
            let is_whole =
                is_there && manifest.chunks().all(|chunk| chunks.has(chunk)) && signed.recover().is_ok();
            if is_whole { Standing::Whole } else { Standing::Broken }
        }
    };
    let Named { sequence, signer, written, bytes } = *named;
    Ok(Some(Found { sequence, signer, written, bytes, standing }))
}
