//! What lies in the store and is no part of the log.

use synddb_protocol::id::{Epoch, Sequence, StreamId};
use synddb_storage::{Failure, Key, Name, ObjectBatchStore};

use super::Problem;
use super::asked::failed;
use super::look::Looked;
use super::report::{Beside, Stray};
use crate::error::{HaltCause, Refused};
use crate::fetch::PatientStore;

/// Names that are told of each kind, at most.
const NAMES_MAX: usize = 5;
/// Longest name that is told, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Lists the stream, and returns also the first batch that lies behind the end of the log.
pub(super) async fn list(
    objects: &ObjectBatchStore,
    stream: StreamId,
    looked: &Looked,
    last_epoch: Option<Epoch>,
) -> Result<(Beside, Option<Sequence>), Failure> {
    let mut beside =
        Beside { batches: Some(Stray::default()), chunks: Some(Stray::default()), ..Beside::default() };
    let mut behind: Option<Sequence> = None;
    let listing = objects.names(stream, |name, bytes| match &name {
        Name::Foreign(_) => beside.unknown.add(&name, bytes),
        Name::Key(Key::Batch { first, .. }) if Some(*first) > looked.size() => {
            behind = Some(behind.map_or(*first, |known| known.min(*first)));
        }
        Name::Key(Key::Batch { first, .. }) => {
            tell(&mut beside.batches, looked.batches.has(first), &name, bytes);
        }
        Name::Key(Key::Chunk { hash, .. }) => {
            tell(&mut beside.chunks, looked.chunks.has(hash), &name, bytes);
        }
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
