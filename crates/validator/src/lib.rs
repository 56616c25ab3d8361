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
//! | `news` | waiting until there may be another batch |
//! | `verify` | which leaders are admitted; batches become verified ones |
//! | `replica` | the file: applying, position, snapshots; one thread owns it |
//! | `serve` | HTTP |
//! | `contents` | HTTP about what is in the replica, in digests: for who compares two |
//! | `store_end` | whether the store still holds what the replica stands on |
//! | [`fsck`] | a whole stored log, checked once from its beginning to its end |
//! | `view` | what others may know of the replica while it changes |
//! | `error` | [`ValidatorError`]: halted by the log, or failed by the machine |

mod config;
mod contents;
mod door;
mod error;
mod fetch;
pub mod fsck;
pub mod keys;
mod news;
mod pipeline;
mod replica;
mod run;
mod serve;
mod store_end;
mod verify;
mod view;

pub use config::{Config, ConfigProblem, Mode, QueryConfig};
pub use error::{Divergence, HaltCause, Refused, ReplicaError, ValidatorError};
pub use run::{End, Event, run, run_over, run_trusting};
