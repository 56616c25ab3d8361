#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | `config` | [`Config`]: what a validator is told |
//! | `run` | [`run`]: how the parts are put together, and how it ends |
//! | [`program`] | the same as a process of its own, with rules in Rust of whoever builds it |
//! | `event` | [`Event`], [`End`]: what it tells, and where it ended |
//! | `error` | [`ValidatorError`]: halted by the log, or failed by the machine |
//! | `metrics` | the names of what is counted |
//! | | **reading the log** |
//! | `fetch` | objects of the store, in order, ahead of who needs them |
//! | `ahead` | several of them at a time, for a reader that is far behind a store that is far away |
//! | `news` | waiting until there may be another batch |
//! | [`keys`] | which keys may lead the log: pinned, or in a file that may change |
//! | `verify` | which leaders are admitted; batches become verified ones |
//! | `pipeline` | what passes from stage to stage: fetch, verify, apply |
//! | `once` | the stages of who reads a log once |
//! | `store_end` | whether the store still holds what the replica stands on |
//! | | **the replica** |
//! | `replica` | the file: applying, position, snapshots; one thread owns it |
//! | `start` | [`Start`]: going on, fetching the replica again, going on behind a gap |
//! | `snapshots` | snapshots of a replica: taken, and begun from |
//! | `watch` | looks and audits by the clock, and for whoever asks |
//! | `view` | what others may know of the replica while it changes |
//! | `halting` | what is said of a halt |
//! | `naming` | what a replica differs in, by a replay of the log beside it |
//! | `difference` | the same in the words of a halt |
//! | `report` | [`Report`]: the file that a divergence leaves |
//! | | **vouching for it** |
//! | [`rules`] | what must hold after every commit; what was found, and how it is resolved |
//! | `endorse` | checkpoints that are signed for settlement |
//! | | **HTTP** |
//! | `serve` | the routes, what the replica is, and audits |
//! | `query` | one statement of a stranger |
//! | `door` | so many queries at a time, and none while the owner needs the file for itself |
//! | `aside` | threads that answer strangers, and give way to whoever applies |
//! | `contents` | what is in the replica, in digests: for who compares two |
//! | `feed` | the row changes as they come: from the store, and at the tip from what was applied last |
//! | `auditors` | who may have the file scanned |
//! | | **from beside: other programs over the same stages and stores** |
//! | [`fsck`] | a whole stored log, checked once from its beginning to its end |
//! | [`gc`] | what nobody needs, removed from a store: old snapshots, chunks that nothing names |
//! | [`restore`] | the application's database as it was, from a stored log |

mod ahead;
mod aside;
mod auditors;
mod config;
mod contents;
mod difference;
mod door;
mod endorse;
mod error;
mod event;
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
pub mod program;
mod query;
mod replica;
mod report;
pub mod restore;
pub mod rules;
mod run;
mod serve;
mod snapshots;
mod start;
mod store_end;
mod verify;
mod view;
mod watch;

pub use config::{
    ChangesConfig, Config, ConfigProblem, EndorseConfig, FromSnapshot, Mode, QueryConfig, SnapshotsConfig,
};
pub use endorse::gathered;
pub use error::{Divergence, HaltCause, Refused, ReplicaError, ValidatorError};
pub use event::{End, Event};
pub use report::Report;
pub use run::{check, run, run_as, run_over, run_trusting, run_with_rules};
pub use serve::openapi;
pub use start::{Start, StartError};
