//! The vocabulary of SyndDB: what its parts say to each other, in bytes, and what makes it true.
//!
//! Read in the direction in which the data flows:
//!
//! | module | holds |
//! |---|---|
//! | [`limits`] | every bound |
//! | [`id`], [`hash`] | streams, incarnations, counters, keys; 32-byte hashes by meaning |
//! | [`encoding`] | canonical CBOR, bounded compression, hex |
//! | [`signing`] | keys and the one COSE form of every signature |
//! | [`submission`] | what a client sends: commits, parts, snapshots |
//! | [`log`] | messages, batches, checkpoints, the log tree, and the fold that checks them |
//! | [`state`] | the state hash of a database |
//! | [`contents`] | what a replica says of its contents: digests of tables, of runs of rows, and rows |
//! | [`live`] | the log as it grows: what a leader shows of it before and after it is stored |
//! | [`proof`] | inclusion and consistency proofs as they are sent, and lists of leaves |
//! | [`http`] | the JSON that services answer with |
//! | [`trace`] | which trace a submission belongs to, computed from what all know |
//!
//! Does no I/O, reads no clock, draws no randomness (I13): time and chance are arguments, so that the
//! same bytes mean the same on every machine and at every time. The normative text, with drawings and
//! vectors for other languages, is in `spec/`.

mod chain;
pub mod contents;
pub mod encoding;
pub mod hash;
pub mod http;
pub mod id;
pub mod limits;
pub mod live;
pub mod log;
#[cfg(feature = "openapi")]
mod openapi;
pub mod proof;
pub mod signing;
pub mod state;
pub mod submission;
pub mod trace;
mod uint256;

pub use chain::chain;
pub use encoding::{Canonical, DecodeError, ParseError};
pub use uint256::Uint256;
