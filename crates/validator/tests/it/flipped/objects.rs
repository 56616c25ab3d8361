//! The objects of a store, to be changed one by one, and the real reader over what they become.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use synddb_protocol::id::Sequence;
use synddb_protocol::log::{Batch, Leaders, SignedEpochRecord, Tip, VerifiedBatch};
use synddb_protocol::signing::TrustedKeys;
use synddb_service::shutdown::Shutdown;
use synddb_service::telemetry::Metrics;
use synddb_storage::{BatchStore as _, Folder, Key, Kind, ObjectBatchStore, PageLimit, Start};
use synddb_validator::{Config, End, HaltCause, Mode, Refused, ValidatorError, run_over};

use crate::log::{Log, STREAM, batch_key, key};
use crate::running::PATIENCE;

/// The objects of one stream.
#[derive(Clone, Default)]
pub(crate) struct Objects(pub(crate) BTreeMap<Key, Bytes>);

impl Objects {
    /// Everything that a log has stored.
    pub(crate) async fn of(log: &Log) -> Self {
        let mut objects = BTreeMap::new();
        for kind in Kind::ALL {
            let start = Start::of(Folder { stream: STREAM, kind });
            for key in log.store.list(&start, PageLimit::MAX).await.unwrap().keys {
                objects.insert(key, log.store.get(&key).await.unwrap().unwrap());
            }
        }
        Self(objects)
    }

    /// The keys of one kind, in order.
    pub(crate) fn keys(&self, kind: Kind) -> Vec<Key> {
        self.0.keys().filter(|key| key.folder().kind == kind).copied().collect()
    }

    /// The batches in order, each with its first message.
    pub(crate) fn batches(&self) -> Vec<(Sequence, Bytes)> {
        let first = |key: &Key| match key {
            Key::Batch { first, .. } => Some(*first),
            _ => None,
        };
        self.0.iter().filter_map(|(key, bytes)| Some((first(key)?, bytes.clone()))).collect()
    }

    pub(crate) fn bytes(&self, key: &Key) -> &[u8] {
        &self.0[key]
    }

    /// The same with other bytes under a key.
    pub(crate) fn with(&self, key: Key, bytes: Vec<u8>) -> Self {
        let mut other = self.clone();
        other.0.insert(key, bytes.into());
        other
    }

    /// The same without what is under a key.
    pub(crate) fn without(&self, key: &Key) -> Self {
        let mut other = self.clone();
        other.0.remove(key);
        other
    }

    /// The batches up to the one that ends with `last`, and everything else.
    pub(crate) fn through(&self, last: Sequence) -> Self {
        let mut other = self.clone();
        other.0.retain(|key, _| !matches!(key, Key::Batch { first, .. } if *first > last));
        other
    }

    /// The real reader, once, over a store of these objects.
    pub(crate) async fn read(&self, replica: &Path) -> Result<End, ValidatorError> {
        let store = ObjectBatchStore::memory();
        for (key, bytes) in &self.0 {
            store.put(key, bytes.clone()).await.unwrap();
        }
        let config = Config {
            stream: Some(STREAM),
            replica: replica.to_owned(),
            sequencer_keys: pinned(),
            mode: Mode::Once,
            ..Config::default()
        };
        let read = run_over(Arc::new(store), config, Metrics::detached(), Shutdown::new(), |_| {});
        tokio::time::timeout(PATIENCE, read).await.expect("it ends in time")
    }
}

/// The keys that may lead.
pub(crate) fn pinned() -> Vec<synddb_protocol::signing::VerifyingKey> {
    [1, 2].map(|number| *key(number).verifying_key()).into()
}

/// What a batch is verified against, and what it is verified as.
pub(crate) struct Stood {
    pub(crate) first: Sequence,
    pub(crate) before: Tip,
    pub(crate) batch: VerifiedBatch,
}

/// Every batch with the tip before it, and the leaders of the whole log.
pub(crate) fn verified(objects: &Objects) -> (Leaders, Vec<Stood>) {
    let mut leaders = Leaders::new(STREAM, TrustedKeys::pinned(pinned()));
    for key in objects.keys(Kind::Epoch) {
        let Key::Epoch { epoch, .. } = key else { continue };
        let admitted = SignedEpochRecord::from_bytes(objects.bytes(&key))
            .is_ok_and(|record| leaders.admit(&record).is_ok());
        if !admitted {
            leaders.pass(epoch).unwrap();
        }
    }
    let mut tip = Tip::start(STREAM);
    let mut stood = Vec::new();
    for (first, bytes) in objects.batches() {
        let batch = verify(&bytes, first, &leaders, &tip).unwrap();
        let after = batch.tip().clone();
        stood.push(Stood { first, before: std::mem::replace(&mut tip, after), batch });
    }
    (leaders, stood)
}

/// Decodes and verifies a batch as the reader's stages do, without a replica.
pub(crate) fn verify(
    stored: &[u8],
    first: Sequence,
    leaders: &Leaders,
    tip: &Tip,
) -> Result<VerifiedBatch, String> {
    let batch = Batch::from_stored(stored).map_err(|error| format!("{error:?}"))?;
    if batch.first() != first {
        return Err("misplaced".to_owned());
    }
    batch.verify(leaders, tip).map_err(|error| format!("{error:?}"))
}

/// The kind of an error, as a histogram shows it: the names of its variants, without what they hold. `None` for one that blames anything but the
/// log or the replica.
pub(crate) fn kind(error: &ValidatorError) -> Option<String> {
    let ValidatorError::Halted { source, .. } = error else { return None };
    let (what, debug) = match &**source {
        HaltCause::Diverged { source, .. } => ("diverged", format!("{source:?}")),
        HaltCause::Refused { source: Refused::Batch(source), .. } => ("refused", format!("{source:?}")),
        HaltCause::Refused { source, .. } => ("refused", format!("{source:?}")),
        HaltCause::Revoked { source, .. } => ("revoked", format!("{source:?}")),
        HaltCause::UpgradeRequired { source, .. } => ("upgrade required", format!("{source:?}")),
    };
    Some(format!("{what}: {}", variants(&debug)))
}

/// The variants at the front of a debug text: `Log { sequence: Sequence(3), source: Timestamp {` is `Log Timestamp`.
fn variants(debug: &str) -> String {
    let mut rest = debug;
    let mut names: Vec<&str> = Vec::new();
    loop {
        let end = rest.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(rest.len());
        names.push(&rest[..end]);
        rest = match rest[end..].strip_prefix('(') {
            Some(inner) => inner,
            None => match rest.find("source: ") {
                Some(at) => &rest[at + "source: ".len()..],
                None => break,
            },
        };
        if !rest.starts_with(char::is_uppercase) || rest.starts_with("SqliteError") {
            break;
        }
    }
    if let Some(at) = debug.find("field: \"") {
        names.push(debug[at + 8..].split('"').next().unwrap_or_default());
    }
    names.join(" ")
}

/// The object under the key of a batch.
pub(crate) fn named(first: Sequence) -> Key {
    batch_key(first.get())
}
