//! One binary: real databases, a real store of files, real HTTP, real processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at one arm of many"
)]

mod ahead;
mod applied;
mod audited;
mod changes;
mod compared;
mod contract;
mod flipped;
mod halted;
mod hostile;
mod keys;
mod killed;
mod log;
mod mutated;
mod other_store;
mod overlapping;
mod places;
mod queried;
mod rebuilt;
mod reconciled;
mod replaced;
mod restored;
mod resumed;
mod resynced;
mod ruled;
mod running;
mod signers;
mod snapshots;
mod stores;
mod swept;
mod traced;
mod versions;
