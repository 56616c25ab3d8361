//! The tests of this crate, in one program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks for one case among many"
)]

mod apply_diverges;
mod apply_generated;
mod apply_pair;
mod apply_random;
mod apply_rows;
mod apply_schema;
mod capture;
mod capture_files;
mod capture_matrix;
mod cases;
mod compare;
mod contents;
mod differential;
mod embedded;
#[cfg(feature = "probes")]
mod footprints;
mod hostile;
mod lock_byte;
mod lost_locks;
mod mirrored;
mod patience;
mod portions;
mod query;
mod query_costly;
mod query_memory;
mod reconcile;
mod resume;
mod rules;
mod snapshot;
mod state;
mod unsummed;
mod writers;
