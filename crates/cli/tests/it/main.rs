//! One binary: the command beside real programs, the `sqlite3` shell and Python, that know nothing of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and says with what the programs answered"
)]

mod begun;
mod bench;
mod bridged;
mod cases;
mod chance;
mod configuration;
mod credentials;
mod dev;
mod differences;
mod diverged;
mod doctor;
mod documented;
mod embedded;
mod failing_over;
mod inspected;
mod keys;
mod kills;
mod mirrored;
mod powercut;
mod processes;
mod programs;
mod refusals;
mod remote;
mod restore;

mod roles;
mod ruled;
mod schemathesis;
mod served_statically;
mod slow;
mod soak;
mod standby;
mod storm;
mod strangers;
mod swept;
mod telemetry;
mod thousands;
mod units;
mod verified;
mod writers;
