//! The servers themselves: that they start, answer, and end with whoever started them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod ending;
mod hosts;
mod missing;
mod stores;
