//! The whole walk: an application that knows nothing, and a replica that equals it. Real processes, whatever happens to them.

mod beginning;
mod bodies;
mod exchanged;
mod harness;
mod killed;
mod large;
mod served;
mod stopped;
mod walk;

pub(crate) use harness::{PATIENCE, shown_replica};
