//! The crate from outside: a submitter over a chain that lies, and over a real node.

mod anvil;
mod lying;
mod queue;
