//! The replica: one file, one thread that owns it.
//!
//! ```text
//! place.rs     the files beside each other, the lock, what a killed process left
//! position.rs  where the contents stand, in the same file
//! signers.rs   who signed what the contents come from, in the same file
//! working.rs   a file that is written: applier, transaction, position
//! chunks.rs    chunks of a snapshot, fetched ahead
//! snapshot.rs  a snapshot beside the replica, and how it takes the replica's place
//! names.rs     how columns were called, and where reading of the log may begin
//! gaps.rs      what is missing because somebody went on after a divergence
//! started.rs   which snapshot it began with, while nobody has checked what came before
//! identity.rs  which file lies under a name
//! wal.rs       how large its WAL may become beside its readers
//! audit.rs     who waits for a full scan, and when the next one may begin
//! owner.rs     batches in, commits and events out
//! ```
//!
//! What must stay true:
//!
//! - Contents and position are committed in one transaction (I8), and only where no commit is coming in parts.
//! - What readers see is always a whole committed state. A new incarnation is built beside it and takes its place at once.
//! - The file is what the log says, or the replica halts.

mod applying;
mod audit;
pub(crate) mod chunks;
mod gaps;
mod identity;
mod names;
mod owner;
mod place;
pub(crate) mod position;
pub(crate) mod signers;
pub(crate) mod snapshot;
mod started;
mod wal;
mod working;

pub(crate) use audit::Asked;
pub(crate) use chunks::Chunks;
pub(crate) use gaps::{GAPS_MAX, Gaps};
pub(crate) use owner::{Context, Owner, begins_incarnation, snapshot_of};
pub(crate) use place::{Leaving, Place};
pub(crate) use snapshot::stage;
pub(crate) use started::{Started, Told};
pub(crate) use working::{blame, differing};

use crate::error::{HaltCause, ReplicaError, ValidatorError};

/// Why the owner does not go on.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The process ends, and the time for what is under way is over.
    Interrupted,
    /// The log or the replica is to blame. The batch that was worked on is not in the replica.
    Halted(Box<HaltCause>),
    /// The machine is to blame.
    Failed(Box<ValidatorError>),
}

impl From<ReplicaError> for Ended {
    fn from(error: ReplicaError) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

impl From<HaltCause> for Ended {
    fn from(cause: HaltCause) -> Self {
        Self::Halted(Box::new(cause))
    }
}
