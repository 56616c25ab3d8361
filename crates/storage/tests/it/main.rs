//! One binary: the contract on every implementation, the faults, the files, the processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and a flawed store differs from a good one in one arm"
)]

mod broken;
#[cfg(unix)]
mod child;
mod conformance;
mod faulty;
mod files;
mod hosts;
mod keys;
mod last;
mod leases;
#[cfg(unix)]
mod processes;
mod proxied;
#[cfg(unix)]
mod remote;
mod sweeping;
mod urls;

use std::path::Path;

use bytes::Bytes;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_storage::{Folder, Key, Kind, ObjectBatchStore, StoreUrl};

const STREAM: StreamId = StreamId::from_bytes([0x5d; 32]);

const BATCHES: Folder = Folder { stream: STREAM, kind: Kind::Batch };

fn batch(first: u64) -> Key {
    Key::Batch { stream: STREAM, first: Sequence::new(first).unwrap() }
}

fn body(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn open(folder: &Path) -> ObjectBatchStore {
    ObjectBatchStore::open(&StoreUrl::folder(folder).unwrap()).await.unwrap()
}
