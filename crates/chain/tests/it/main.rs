//! The crate from outside: a submitter over a chain that lies, and over a real node.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and small numbers of a seed are small in every type"
)]

mod anvil;
mod following;
mod lying;
mod queue;
