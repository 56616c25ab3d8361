//! One binary: the pure order, the HTTP front over real stores, killed processes, rivals.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and asks for one answer of many"
)]

mod bounds;
mod clones;
mod credentials;
mod failing;
mod foreign;
mod hostile;
mod journal_lost;
mod killed;
mod live;
mod ordering;
mod other_store;
mod outbound;
mod proof;
mod reading;
mod remote;
mod resend;
mod restarted;
mod rivals;
mod sample;
mod schemathesis;
mod server;
mod shown;
mod sleepers;
mod snapshot;
mod standby;
mod submit;
mod takeover;
mod unstored;

use std::path::Path;

use synddb_protocol::signing::{SigningKey, VerifyingKey};

/// The public key of the sequencer `name`, from its file.
fn sample_key(folder: &Path, name: &str) -> VerifyingKey {
    let text = std::fs::read_to_string(folder.join(format!("{name}.key"))).unwrap();
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).unwrap();
    *SigningKey::from_bytes(bytes).unwrap().verifying_key()
}
