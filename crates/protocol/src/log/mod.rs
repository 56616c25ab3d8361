//! The log: entries become messages, messages stand in batches, a checkpoint signs what they add up to.
//!
//! ```text
//! Entry -> Body -> Message -> Batch --verify(leaders, tip)--> VerifiedBatch -> the next Tip
//!                  Receipt     |
//!                              +-- Checkpoint (size, root, and all that the next leader needs)
//! ```
//!
//! [`Tip`] is the fold over all messages: the sequencer advances it to sign, every reader advances it to
//! check, and [`Batch::verify`] is the only way to a [`VerifiedBatch`] (I7).

mod batch;
mod checkpoint;
mod continuity;
mod endorsement;
mod entry;
mod epoch;
mod equivocation;
mod inbound;
mod leaders;
mod manifest;
mod message;
mod outbound;
mod quorum;
mod refusal;
mod signers;
mod tip;
pub mod tree;
mod versions;

pub use batch::{BATCH_VERSION, Batch, BatchError, VerifiedBatch};
pub use checkpoint::{Checkpoint, SignedCheckpoint, TrustedCheckpoint};
pub use continuity::{ClientState, ContinuityError, OpenGroup};
pub use endorsement::{Endorsement, SignedEndorsement};
pub use entry::{Body, Entry, EpochStart, Inbound, MessageType, Status, StatusLevel};
pub use epoch::{EpochRecord, KeyProof, Leader, SignedEpochRecord};
pub use equivocation::{Equivocation, NotEquivocation};
pub use inbound::{InboundError, InboundState};
pub use leaders::{AdmissionError, Leaders};
pub use manifest::{Manifest, PagePlaces, Patch, SignedManifest};
pub use message::{Message, MessageError, MessageHeader, Receipt, VerifiedMessage};
pub use outbound::OutboundMessage;
pub use quorum::{Endorsed, Gathered, NotCounted, Quorum, QuorumError, Uncounted, VALIDATORS_MAX};
pub use refusal::{Refusal, RefusalWhy, Resolution, ResolvedBy, SignedRefusal};
pub use signers::{RevokedError, Signed, Signers};
pub use tip::{LogError, Tip};
pub use tree::Frontier;
pub use versions::{APPLY_VERSION, PROTOCOL_VERSION, Versions};
