//! The log: entries become messages, messages stand in batches, a checkpoint signs what they add up to.
//!
//! ```text
//! Entry -> Message -> Batch --verify(keys, tip)--> VerifiedBatch -> the next Tip
//!          Receipt     |
//!                      +-- Checkpoint (size, root, and all that the next leader needs)
//! ```
//!
//! [`Tip`] is the fold over all messages: the sequencer advances it to sign, every reader advances it to
//! check, and [`Batch::verify`] is the only way to a [`VerifiedBatch`] (I7).

mod batch;
mod checkpoint;
mod continuity;
mod entry;
mod epoch;
mod equivocation;
mod message;
mod tip;
pub mod tree;

pub use batch::{BATCH_VERSION, Batch, BatchError, VerifiedBatch};
pub use checkpoint::{Checkpoint, SignedCheckpoint, VerifiedCheckpoint};
pub use continuity::{ClientState, ContinuityError, OpenGroup};
pub use entry::{Entry, EpochStart, Inbound, MessageType, PROTOCOL_VERSION, Status, StatusLevel};
pub use epoch::{EpochRecord, KeyProof, SignedEpochRecord};
pub use equivocation::{Equivocation, NotEquivocation};
pub use message::{Message, MessageError, MessageHeader, Receipt, VerifiedMessage};
pub use tip::{Leader, LogError, Tip};
pub use tree::Frontier;
