#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | `config` | [`Config`]: what a validator is told |
//! | `run` | [`run`]: how the parts are put together, and how it ends |
//! | [`keys`] | which keys may lead the log: pinned, or in a file that may change |
//! | `fetch` | objects of the store, in order, ahead of who needs them |
//! | `ahead` | several of them at a time, for a reader that is far behind a store that is far away |
//! | `news` | waiting until there may be another batch |
//! | `verify` | which leaders are admitted; batches become verified ones |
//! | `replica` | the file: applying, position, snapshots; one thread owns it |
//! | `serve` | HTTP |
//! | `contents` | HTTP about what is in the replica, in digests: for who compares two |
//! | `changes` | HTTP: the row changes as they come |
//! | `feed` | the same, for whoever subscribes: from the store, and at the tip from what was applied last |
//! | `watch` | looks and audits by the clock, and for whoever asks |
//! | `start` | [`Start`]: going on, fetching the replica again, going on behind a gap |
//! | `halting` | what is said of a halt |
//! | `naming` | what a replica differs in, by a replay of the log beside it |
//! | `difference` | the same in the words of a halt |
//! | `report` | [`Report`]: the file that a divergence leaves |
//! | `snapshots` | snapshots of a replica: taken, and begun from |
//! | `store_end` | whether the store still holds what the replica stands on |
//! | [`fsck`] | a whole stored log, checked once from its beginning to its end |
//! | [`gc`] | what nobody needs, removed from a store: old snapshots, chunks that nothing names |
//! | `once` | the stages of who reads a log once |
//! | [`restore`] | the application's database as it was, from a stored log |
//! | `view` | what others may know of the replica while it changes |
//! | `error` | [`ValidatorError`]: halted by the log, or failed by the machine |

mod ahead;
mod aside;
mod auditors;
mod changes;
mod config;
mod contents;
mod difference;
mod door;
mod error;
mod feed;
mod fetch;
pub mod fsck;
pub mod gc;
mod halting;
pub mod keys;
mod metrics;
mod naming;
mod news;
mod once;
mod pipeline;
mod query;
mod replica;
mod report;
pub mod restore;
mod run;
mod serve;
mod snapshots;
mod start;
mod store_end;
mod verify;
mod view;
mod watch;

pub use config::{ChangesConfig, Config, ConfigProblem, FromSnapshot, Mode, QueryConfig, SnapshotsConfig};
pub use error::{Divergence, HaltCause, Refused, ReplicaError, ValidatorError};
pub use report::Report;
pub use run::{End, Event, check, run, run_as, run_over, run_trusting};
pub use serve::openapi;
pub use start::{Start, StartError};
