//! The whole walk: an application that knows nothing, and a replica that equals it. Real processes, whatever happens to them.

mod audited;
mod beginning;
mod bodies;
mod changed;
mod detached;
mod elsewhere;
mod exchanged;
mod harness;
mod killed;
mod large;
mod objects;
mod reconciled;
mod resynced;
mod served;
mod stopped;
mod walk;

pub(crate) use crate::roles::{PATIENCE, PATIENCE_TEXT};
pub(crate) use harness::Dev;
pub(crate) use served::curl;
