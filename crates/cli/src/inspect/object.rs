//! What an object is, by its bytes; and where it is in a store.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use synddb_agent::Evidence;
use synddb_protocol::DecodeError;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::{BATCH_MESSAGES_MAX, BATCH_STORED_MAX};
use synddb_protocol::log::{
    Batch, Message, Receipt, SignedCheckpoint, SignedEndorsement, SignedEpochRecord, SignedManifest,
    SignedRefusal,
};
use synddb_storage::{BatchStore as _, Key, ObjectBatchStore, PageLimit, Start, StoreUrl};

use super::InspectError;
use crate::exit::CommandError;
use crate::process;

/// First bytes of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The tag of a COSE_Sign1.
const COSE: u8 = 0xd2;
/// The head of an array of two, as a receipt with its body is.
const PAIR: u8 = 0x82;
/// The heads of maps of two to four, as an endorsement is with or without a domain and a proof.
const ENDORSEMENT: [u8; 3] = [0xa2, 0xa3, 0xa4];
/// The head of a map of seven, as a batch is before its compression.
const MAP: u8 = 0xa7;

/// An object of a log. Nothing of it is checked.
pub(super) enum Object {
    /// Consecutive messages.
    Batch(Box<Batch>),
    /// A receipt with its body.
    Message(Box<Message>),
    /// A receipt alone.
    Receipt(Box<Receipt>),
    /// A checkpoint.
    Checkpoint(Box<SignedCheckpoint>),
    /// An epoch record.
    Epoch(Box<SignedEpochRecord>),
    /// The manifest of a snapshot.
    Manifest(Box<SignedManifest>),
    /// An endorsement.
    Endorsement(Box<SignedEndorsement>),
    /// A refusal.
    Refusal(Box<SignedRefusal>),
    /// Evidence that an agent has kept.
    Evidence(Box<Evidence>),
}

impl Object {
    /// Reads what the bytes say that they are.
    pub(super) fn recognise(bytes: &[u8]) -> Result<Self, InspectError> {
        if let Ok(evidence) = Evidence::from_bytes(bytes) {
            return Ok(Self::Evidence(Box::new(evidence)));
        }
        match bytes {
            [] => Err(InspectError::Unknown { looks: "nothing: it is empty" }),
            [COSE, ..] => signed(bytes),
            [PAIR, COSE, ..] => {
                let read = Message::from_bytes(bytes).map(Box::new).map(Self::Message);
                read.map_err(malformed("a message"))
            }
            [head, ..] if ENDORSEMENT.contains(head) => {
                let read = SignedEndorsement::from_bytes(bytes).map(Box::new).map(Self::Endorsement);
                read.map_err(malformed("an endorsement"))
            }
            [MAP, ..] => {
                let read = Batch::from_cbor(bytes).map(Box::new).map(Self::Batch);
                read.map_err(malformed("a batch before its compression"))
            }
            _ if bytes.starts_with(ZSTD) => batch(bytes).map(Box::new).map(Self::Batch),
            _ if bytes.starts_with(b"SQLite format 3\0") => {
                Err(InspectError::Unknown { looks: "a database; the sqlite3 shell shows it" })
            }
            _ if bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
                Err(InspectError::Unknown { looks: "text; objects are bytes, not hex or JSON" })
            }
            _ => Err(InspectError::Unknown { looks: "nothing that is known here" }),
        }
    }
}

/// A batch as stored.
pub(super) fn batch(bytes: &[u8]) -> Result<Batch, InspectError> {
    Batch::from_stored(bytes).map_err(InspectError::NoBatch)
}

const fn malformed(looks: &'static str) -> impl Fn(DecodeError) -> InspectError {
    move |source| InspectError::Malformed { looks, source }
}

/// What a COSE_Sign1 is a signature of. At most one of the five reads it.
pub(super) fn signed(bytes: &[u8]) -> Result<Object, InspectError> {
    let receipt = match Receipt::from_bytes(bytes) {
        Ok(receipt) => return Ok(Object::Receipt(Box::new(receipt))),
        Err(error) => Box::new(error),
    };
    let checkpoint = match SignedCheckpoint::from_bytes(bytes) {
        Ok(checkpoint) => return Ok(Object::Checkpoint(Box::new(checkpoint))),
        Err(error) => Box::new(error),
    };
    let epoch_record = match SignedEpochRecord::from_bytes(bytes) {
        Ok(record) => return Ok(Object::Epoch(Box::new(record))),
        Err(error) => Box::new(error),
    };
    let manifest = match SignedManifest::from_bytes(bytes) {
        Ok(manifest) => return Ok(Object::Manifest(Box::new(manifest))),
        Err(error) => Box::new(error),
    };
    match SignedRefusal::from_bytes(bytes) {
        Ok(refusal) => Ok(Object::Refusal(Box::new(refusal))),
        Err(error) => {
            let refusal = Box::new(error);
            Err(InspectError::NothingSigned { receipt, checkpoint, epoch_record, manifest, refusal })
        }
    }
}

/// Reads a file, of which at most as much as the largest object has.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, InspectError> {
    let failed = |source| InspectError::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    let limit = BATCH_STORED_MAX as u64 + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(file).and_then(|open| open.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    }
    if bytes.len() > BATCH_STORED_MAX { Err(InspectError::TooLarge) } else { Ok(bytes) }
}

/// Finds the batch that holds a message: the last that begins at or before it, and it begins less than the most messages of a batch before.
pub(super) fn find(
    store: &StoreUrl,
    stream: StreamId,
    sequence: Sequence,
) -> Result<(Key, Bytes), CommandError> {
    process::ask(async {
        let objects = ObjectBatchStore::open_existing(store).await.map_err(InspectError::from)?;
        let found = if store.is_writable() {
            listed(&objects, stream, sequence).await?
        } else {
            asked_for(&objects, stream, sequence).await?
        };
        let absent = InspectError::NotStored { sequence };
        let Some((key, bytes)) = found else { return Err(absent.into()) };
        let last = batch(&bytes)?.last();
        if last < sequence { Err(absent.into()) } else { Ok((key, bytes)) }
    })
}

/// The first message of the earliest batch that may hold a message.
fn earliest(sequence: Sequence) -> Sequence {
    let earliest = sequence.get().saturating_sub(BATCH_MESSAGES_MAX as u64 - 1);
    Sequence::new(earliest).unwrap_or(Sequence::FIRST)
}

/// The last batch that begins at or before a message, by a listing.
async fn listed(
    objects: &ObjectBatchStore,
    stream: StreamId,
    sequence: Sequence,
) -> Result<Option<(Key, Bytes)>, InspectError> {
    let mut start = Some(Start::At(Key::Batch { stream, first: earliest(sequence) }));
    let mut found = None;
    while let Some(at) = start.take() {
        let page = objects.list(&at, PageLimit::MAX).await?;
        let before = |key: &Key| matches!(key, Key::Batch { first, .. } if *first <= sequence);
        let passed = !page.keys.iter().all(before);
        found = page.keys.into_iter().rfind(before).or(found);
        start = page.next.filter(|_| !passed);
    }
    let Some(key) = found else { return Ok(None) };
    Ok(objects.get(&key).await?.map(|bytes| (key, bytes)))
}

/// The same where nothing can be listed: each place at which it may begin is asked for, from the message back, as many as a batch has
/// messages at most.
async fn asked_for(
    objects: &ObjectBatchStore,
    stream: StreamId,
    sequence: Sequence,
) -> Result<Option<(Key, Bytes)>, InspectError> {
    let (mut at, earliest) = (Some(sequence), earliest(sequence));
    while let Some(first) = at.filter(|first| *first >= earliest) {
        let key = Key::Batch { stream, first };
        if let Some(bytes) = objects.get(&key).await? {
            return Ok(Some((key, bytes)));
        }
        at = first.previous();
    }
    Ok(None)
}
