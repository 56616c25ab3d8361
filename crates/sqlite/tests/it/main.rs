//! The tests of this crate, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks for one case among many"
)]

mod apply_diverges;
mod apply_pair;
mod apply_random;
mod apply_rows;
mod apply_schema;
mod capture;
mod cases;
mod compare;
mod differential;
mod query;
mod query_costly;
mod snapshot;
mod state;
