//! One binary: what the outbox keeps, in which form, within which bounds, and what a killed owner leaves; and whole agents beside
//! real writers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at one arm of many"
)]

mod agent;
mod audited;
mod bounds;
mod child;
mod claims;
mod failing_over;
mod keeping;
mod killed;
mod losing;
mod parts;
mod pinned;
mod promises;
mod property;
mod reader;
mod reconcile;
mod reconciled;
mod resuming;
mod sequencer;
mod shipping;
mod wal;

use std::path::{Path, PathBuf};

use synddb_agent::outbox::{Beginning, Options, Outbox};
use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce, StreamId};
use synddb_protocol::submission::{Changes, ObjectKind, SchemaChange};
use synddb_sqlite::capture::WalPosition;

/// The snapshot that every test begins with.
fn beginning() -> Beginning {
    let nonce = IncarnationNonce::from_bytes([0x1e; 16]);
    Beginning {
        stream: StreamId::from_bytes([0x5d; 32]),
        incarnation: Incarnation { counter: IncarnationCounter::FIRST, nonce },
        snapshot: CommitDigest::from_bytes([0xa0; 32]),
        state: StateHash::from_bytes([0xb0; 32]),
        position: position(0),
    }
}

/// The position after a poll, which says which poll it was.
fn position(poll: u64) -> WalPosition {
    let mut bytes = [0; WalPosition::BYTES];
    bytes[..8].copy_from_slice(&poll.to_be_bytes());
    WalPosition::from_bytes(&bytes)
}

fn poll_of(position: WalPosition) -> u64 {
    u64::from_be_bytes(position.to_bytes()[..8].try_into().unwrap())
}

/// The state hash after a commit, which says which commit it was.
fn state(commit: u64) -> StateHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&commit.to_be_bytes());
    StateHash::from_bytes(bytes)
}

fn rows(bytes: impl Into<Vec<u8>>) -> Changes {
    Changes { rows: bytes.into(), ..Changes::default() }
}

/// Rows that no compression makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

fn drops(count: usize) -> Vec<SchemaChange> {
    let drop =
        |number| SchemaChange::Drop { kind: ObjectKind::View, name: format!("v{number}").into_bytes() };
    (0..count).map(drop).collect()
}

fn file(folder: &Path) -> PathBuf {
    folder.join("outbox.db")
}

fn create(folder: &Path) -> Outbox {
    Outbox::create(&file(folder), &beginning(), Options::default()).unwrap()
}

fn open(folder: &Path) -> Outbox {
    Outbox::open(&file(folder), Options::default()).unwrap()
}
