#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | `run` | [`run`]: a whole sequencer, from its configuration to its end |
//! | `config` | [`Config`]: what it is told |
//! | `folder` | that one process owns a folder |
//! | `aside` | work that takes long, away from the tasks that must not wait for it |
//! | [`ordering`] | the pure core: order, signatures, what stands in which batch |
//! | `journal` | what was acknowledged and is not stored, durably; the index of what was |
//! | `tail` | where a log ends in the store, and whether a journal is of it |
//! | `leading` | the pure core of leading: who leads, what is promised, what is put; `step(now, event) -> effects` |
//! | `stream` | one stream and its owner, which carries the effects out |
//! | `live` | what a stream shows of its log before it is stored |
//! | `registry` | the streams of a process |
//! | `mailbox` | what a stream and its bridge tell each other: rows that ask the bridge to act, and what it tells the application, as the stored log has both |
//! | `standby` | leases: who leads where several could, and when another one begins |
//! | `stored` | what is read from the store for those who ask |
//! | `proof` | proofs over what is stored, and leaves |
//! | `http` | the paths |
//! | `unstored` | [`accept_unstored`]: a journal as one that much waits in, for benchmarks |

mod admission;
mod aside;
mod backoff;
mod check;
mod config;
mod error;
mod folder;
mod http;
mod journal;
mod leading;
mod live;
mod mailbox;
mod metrics;
pub mod ordering;
mod proof;
mod registry;
mod run;
mod standby;
mod stored;
mod stream;
mod tail;
mod unstored;

pub use check::check;
pub use config::{
    Batching, Bridge, BridgeError, Config, Leasing, LeasingError, PORT, PublicUrl, Role, Streams,
};
pub use error::{LeadError, SequencerError};
pub use http::openapi;
pub use journal::JournalError;
pub use run::{Started, run, run_over, run_with_leases};
pub use unstored::accept_unstored;
