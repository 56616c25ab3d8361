#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | `run` | [`run`]: a whole sequencer, from its configuration to its end |
//! | `config` | [`Config`]: what it is told |
//! | [`ordering`] | the pure core: order, signatures, what stands in which batch |
//! | `journal` | what was acknowledged and is not stored, durably; the index of what was |
//! | `lead` | beginning to lead: the store's end, an epoch, what a journal is still worth |
//! | `stream` | one stream and its owner: groups of commands, batches, the one put under way |
//! | `registry` | the streams of a process |
//! | `stored` | what is read from the store for those who ask |
//! | `http` | the paths |

mod admission;
mod backoff;
mod config;
mod error;
mod http;
mod journal;
mod lead;
mod metrics;
pub mod ordering;
mod registry;
mod run;
mod stored;
mod stream;

pub use config::{Batching, Config, PORT, Streams};
pub use error::SequencerError;
pub use journal::JournalError;
pub use lead::LeadError;
pub use run::{Started, run, run_over};
