//! Has transactions mined, each once, over nodes that forget, delay, repeat and say what is not so.
//!
//! # How
//!
//! [`Core`] decides; it has no clock and asks nobody. [`Queue`] remembers; what is signed is there before it is sent. [`Runner`] does what the
//! core says over one [`Endpoint`](crate::Endpoint).
//!
//! # What may be believed
//!
//! - A count is believed as a lower bound once [`Config::answers`] looks in a row said so much, at least: it only grows, so one of them that told the
//!   truth is enough.
//! - A job is settled by that bound and the receipt of one of its own transactions in a block that stays ([`Finality`](crate::Finality)), said in as many
//!   looks, and by nothing else. Where they were wrong all the same, the nonces that no transaction has are a [`Hole`], which is told.
//! - A nonce is given up only when that bound has passed it, and four times as many looks in a row find none of our transactions anywhere. Then somebody
//!   else used it, and the job gets the next one.
//! - Nonces are dense: each is one above the last. No count makes them jump.
//! - What a node says to a transaction that it is sent ("already known", "nonce too low", "underpriced") decides nothing. The same
//!   bytes are sent again until there is a receipt, and sooner where no node answered.

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
