//! How much memory everything of one kind may take, bodies or answers: beyond it a request is refused as busy.

use std::sync::Arc;

use synddb_protocol::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit.
const UNIT: usize = 1 << 10;

/// All bodies together that are being read, opened or waited with, in bytes.
pub(crate) const BODIES_BYTES: usize = 512 << 20;

const _: () = assert!(BODY_COMPRESSED_MAX + BODY_BYTES_MAX <= BODIES_BYTES);

/// Room of a fixed size. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Semaphore>);

/// Room that something takes while this lives.
#[derive(Debug)]
pub(crate) struct Room(OwnedSemaphorePermit);

impl Admission {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Room for this many bytes; `None` when there is none.
    pub(crate) fn take(&self, bytes: usize) -> Option<Room> {
        let units = u32::try_from(bytes / UNIT + 1).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(units).ok().map(Room)
    }
}

impl Room {
    /// Takes other room together with this.
    pub(crate) fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}
