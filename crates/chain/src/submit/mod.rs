//! Has transactions mined, each once, over nodes that forget, delay, repeat and say what is not so.
//!
//! # How
//!
//! [`Core`] decides; it has no clock and asks nobody. [`Queue`] remembers; what is signed is there before it is sent. [`Runner`] does what the
//! core says over one [`Endpoint`](crate::Endpoint).
//!
//! # What may be believed
//!
//! - A job is settled by the receipt of one of its own transactions in a block that is deep enough ([`Finality`](crate::Finality)), while the count of transactions up to
//!   that depth is above its nonce, in [`Config::answers`] looks in a row, and by nothing else. Where they were wrong all the same, the nonces that no
//!   transaction has are a [`Hole`], which is told.
//! - A nonce is given up only when the count of transactions in settled blocks passed it in [`Config::answers_of_nonce`] looks, with no receipt of
//!   ours in any of them. Then somebody else used it, and the job gets the next one.
//! - Nonces are dense: each is one above the last. No count makes them jump.
//! - What a node says to a transaction that it is sent ("already known", "nonce too low", "underpriced") decides nothing. The same
//!   bytes are sent again until there is a receipt.

pub mod conformance;
mod core;
mod driver;
mod job;
mod queue;

pub use self::core::{Core, Effect, Event, Hole, Look, Seen};
pub use self::driver::{Runner, Submitter};
pub use self::job::{
    ATTEMPTS_MAX, Attempt, Config, DATA_BYTES_MAX, JOB_ID_BYTES_MAX, Job, JobId, JobTooLarge,
};
pub use self::queue::{Added, MemoryQueue, Queue, QueueError, Stored, StoredJob};
