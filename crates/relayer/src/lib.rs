#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | `run` | [`run`]: a whole relayer, from its configuration to its end |
//! | `config` | [`Config`]: what it is told |
//! | `folder` | that one process owns a folder |
//! | `message` | one message, and where it stands |
//! | `relay` | the pure core: what is done about one message; `step(now, message, event) -> (message, effect)` |
//! | `gather` | what others served, checked and counted; pure |
//! | `peers` | whom it asks over HTTP |
//! | `journal` | what it remembers |
//! | `queue` | the submitter's queue, in the same file |
//! | `discovery` | finds what is to be brought |
//! | `carry` | carries the effects out |
//! | `payer` | the account that pays, and the node it pays through |
//! | `checkpoints` | brings endorsed checkpoints |
//! | `equivocation` | [`report_equivocation`]: brings proofs of equivocation |
//! | `http` | the paths |

mod carry;
mod checkpoints;
mod config;
mod discovery;
mod equivocation;
mod error;
mod folder;
mod gather;
mod http;
mod journal;
mod message;
mod metrics;
mod payer;
mod peers;
mod queue;
mod relay;
mod run;

pub use config::{Config, ConfigProblem, FeePolicy, PORT, RetryPolicy};
pub use equivocation::{ReportError, Reported, report_equivocation};
pub use error::RelayerError;
pub use http::{RelayedMessages, RelayerStatus, openapi};
pub use journal::JournalError;
pub use message::{RelayedMessage, Standing};
pub use run::{Started, check, run};
pub use synddb_chain::Finality;
