//! The keys of a store: a closed set, each with one text and one size bound.
//!
//! A key is computed, never searched for: a reader that knows the last sequence knows the key of the
//! next batch. So the text of a key is canonical. Every number has twelve digits, every identifier is
//! lower-case hex without `0x`, and no second text names the same object. Within a folder the keys sort
//! by their bytes as they sort by their meaning, which makes a listing ascending without a second sort.
//!
//! This module knows nothing about stores, bytes or networks. A lease is no key ([`crate::LeaseName`]): it is
//! overwritten, and everything named here is created once.

use std::fmt;
use std::str::FromStr;

use synddb_protocol::hash::ChunkHash;
use synddb_protocol::id::{Address, Epoch, KeyId, Sequence, StreamId};
use synddb_protocol::limits::{
    BATCH_STORED_MAX, CHUNK_STORED_MAX, ENDORSEMENT_BYTES_MAX, EPOCH_RECORD_BYTES_MAX, KEY_DIGITS,
    MANIFEST_BYTES_MAX,
};

/// Longest text that a [`KeyError`] repeats, in characters. Every key is shorter.
const ERROR_TEXT_CHARS_MAX: usize = 200;

/// What kind of object a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A signed epoch record.
    Epoch,
    /// Consecutive messages with the checkpoint after them.
    Batch,
    /// A signed snapshot manifest.
    Snapshot,
    /// A run of database pages that manifests refer to.
    Chunk,
    /// A validator's signature over a checkpoint.
    Endorsement,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Epoch, Self::Batch, Self::Snapshot, Self::Chunk, Self::Endorsement];

    /// Largest object of this kind, in bytes. A store neither writes nor reads a larger one.
    #[must_use]
    pub const fn size_max(self) -> usize {
        match self {
            Self::Epoch => EPOCH_RECORD_BYTES_MAX,
            Self::Batch => BATCH_STORED_MAX,
            Self::Snapshot => MANIFEST_BYTES_MAX,
            Self::Chunk => CHUNK_STORED_MAX,
            Self::Endorsement => ENDORSEMENT_BYTES_MAX,
        }
    }

    /// The second segment of every key of this kind.
    const fn segment(self) -> &'static str {
        match self {
            Self::Epoch => "epochs",
            Self::Batch => "batches",
            Self::Snapshot => "snapshots",
            Self::Chunk => "chunks",
            Self::Endorsement => "endorsements",
        }
    }
}

/// All keys of one kind in one stream: what a listing covers. Its text is `{stream}/{kind}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Folder {
    /// The stream.
    pub stream: StreamId,
    /// The kind.
    pub kind: Kind,
}

impl Folder {
    /// The smallest key that this folder can hold; a listing of everything begins there.
    #[must_use]
    pub const fn first_key(self) -> Key {
        let stream = self.stream;
        let nobody = Address::from_bytes([0; 20]);
        match self.kind {
            Kind::Epoch => Key::Epoch { stream, epoch: Epoch::FIRST },
            Kind::Batch => Key::Batch { stream, first: Sequence::FIRST },
            Kind::Snapshot => Key::Snapshot { stream, sequence: Sequence::FIRST, signer: nobody },
            Kind::Chunk => Key::Chunk { stream, hash: ChunkHash::from_bytes([0; 32]) },
            Kind::Endorsement => Key::Endorsement { stream, sequence: Sequence::FIRST, validator: nobody },
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream.to_key(), self.kind.segment())
    }
}

/// The name of one object in a store.
///
/// Display and FromStr are inverse to each other in both directions. Within one [`Folder`] the order of
/// keys is the order of their texts by bytes.
///
/// ```
/// use synddb_protocol::id::{Sequence, StreamId};
/// use synddb_storage::Key;
///
/// let stream = StreamId::from_bytes([0xab; 32]);
/// let key = Key::Batch { stream, first: Sequence::new(17)? };
/// assert_eq!(key.to_string(), format!("{}/batches/000000000017.cbor.zst", "ab".repeat(32)));
/// assert_eq!(key.to_string().parse::<Key>()?, key);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `{stream}/epochs/{epoch:012}.cbor`
    Epoch {
        /// The stream that the epoch leads.
        stream: StreamId,
        /// The epoch claimed.
        epoch: Epoch,
    },
    /// `{stream}/batches/{first:012}.cbor.zst`
    Batch {
        /// The stream whose messages these are.
        stream: StreamId,
        /// Sequence of the batch's first message. Its last is inside, not in the name.
        first: Sequence,
    },
    /// `{stream}/snapshots/{sequence:012}/{signer}.cbor`
    Snapshot {
        /// The stream whose database this is.
        stream: StreamId,
        /// Sequence of the last message that the snapshot contains.
        sequence: Sequence,
        /// Who signed the manifest.
        signer: KeyId,
    },
    /// `{stream}/chunks/{sha256}`
    Chunk {
        /// The stream whose snapshots refer to the chunk.
        stream: StreamId,
        /// SHA-256 of the object.
        hash: ChunkHash,
    },
    /// `{stream}/endorsements/{sequence:012}/{validator}.cbor`
    Endorsement {
        /// The stream that is endorsed.
        stream: StreamId,
        /// Size of the endorsed checkpoint, which is the sequence of its last message.
        sequence: Sequence,
        /// The registered key of the validator.
        validator: KeyId,
    },
}

impl Key {
    /// The stream that the object belongs to.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        match self {
            Self::Epoch { stream, .. }
            | Self::Batch { stream, .. }
            | Self::Snapshot { stream, .. }
            | Self::Chunk { stream, .. }
            | Self::Endorsement { stream, .. } => *stream,
        }
    }

    /// What kind of object it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Epoch { .. } => Kind::Epoch,
            Self::Batch { .. } => Kind::Batch,
            Self::Snapshot { .. } => Kind::Snapshot,
            Self::Chunk { .. } => Kind::Chunk,
            Self::Endorsement { .. } => Kind::Endorsement,
        }
    }

    /// The folder that lists the object.
    #[must_use]
    pub const fn folder(&self) -> Folder {
        Folder { stream: self.stream(), kind: self.kind() }
    }

    /// Largest object under this key, in bytes.
    #[must_use]
    pub const fn size_max(&self) -> usize {
        self.kind().size_max()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.folder())?;
        match self {
            Self::Epoch { epoch, .. } => write!(f, "{}.cbor", digits(epoch.get())),
            Self::Batch { first, .. } => write!(f, "{}.cbor.zst", digits(first.get())),
            Self::Snapshot { sequence, signer, .. } => {
                write!(f, "{}/{}.cbor", digits(sequence.get()), signer.to_key())
            }
            Self::Chunk { hash, .. } => f.write_str(&hash.to_key()),
            Self::Endorsement { sequence, validator, .. } => {
                write!(f, "{}/{}.cbor", digits(sequence.get()), validator.to_key())
            }
        }
    }
}

/// A text that is not the canonical text of any key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("text is not a key of the store layout. text=`{text}`")]
pub struct KeyError {
    text: String,
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).ok_or_else(|| KeyError { text: text.chars().take(ERROR_TEXT_CHARS_MAX).collect() })
    }
}

fn parse(text: &str) -> Option<Key> {
    let (stream, rest) = text.split_once('/')?;
    let (kind, name) = rest.split_once('/')?;
    let stream = StreamId::from_key(stream).ok()?;
    let kind = Kind::ALL.into_iter().find(|candidate| candidate.segment() == kind)?;
    Some(match kind {
        Kind::Epoch => Key::Epoch { stream, epoch: Epoch::new(number(name.strip_suffix(".cbor")?)?).ok()? },
        Kind::Batch => {
            Key::Batch { stream, first: Sequence::new(number(name.strip_suffix(".cbor.zst")?)?).ok()? }
        }
        Kind::Snapshot => {
            let (sequence, signer) = signed_at(name)?;
            Key::Snapshot { stream, sequence, signer }
        }
        Kind::Chunk => Key::Chunk { stream, hash: ChunkHash::from_key(name).ok()? },
        Kind::Endorsement => {
            let (sequence, validator) = signed_at(name)?;
            Key::Endorsement { stream, sequence, validator }
        }
    })
}

/// Reads `{sequence:012}/{signer}.cbor`.
fn signed_at(name: &str) -> Option<(Sequence, KeyId)> {
    let (sequence, signer) = name.split_once('/')?;
    let signer = KeyId::from_key(signer.strip_suffix(".cbor")?).ok()?;
    Some((Sequence::new(number(sequence)?).ok()?, signer))
}

/// Reads exactly [`KEY_DIGITS`] decimal digits. `str::parse` alone would also take a sign.
fn number(text: &str) -> Option<u64> {
    let exact = text.len() == KEY_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    exact.then(|| text.parse().ok()).flatten()
}

fn digits(number: u64) -> String {
    format!("{number:0width$}", width = KEY_DIGITS)
}
