//! Proofs as they are sent: a path, and the signed checkpoint that it may be checked against.
//!
//! ```text
//! {1: {1: sequence, 2: size, 3: [hash, ...]}, 2: checkpoint}     that a message stands in the log
//! {1: {1: from, 2: size, 3: [hash, ...]}, 2: checkpoint}         that one log begins with another
//! [hash, ...]                                                   leaves in order
//! ```
//!
//! The checkpoint is the newest that is stored. Where its size is the proof's, its root is what the path leads to; a path to a
//! smaller size leads to a root that the reader has from elsewhere. In JSON a checkpoint is hex.

use serde::{Deserialize, Serialize};

use crate::encoding::cbor::{MapKey, Reader, Writer};
use crate::encoding::{Canonical, DecodeError};
use crate::hash::TreeHash;
use crate::http::{ConsistencyProof, InclusionProof};
use crate::id::Sequence;
use crate::limits::{CHECKPOINT_BYTES_MAX, LEAVES_MAX, TREE_HASHES_MAX};
use crate::log::{SignedCheckpoint, tree};

/// A proof, and the newest checkpoint that is stored. Nothing of it is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Proven<P> {
    /// The proof.
    pub proof: P,
    /// The checkpoint, whose size is at least the proof's.
    #[serde(with = "checkpoint_as_hex")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^0x([0-9a-f]{2})+$"))]
    pub checkpoint: SignedCheckpoint,
}

impl InclusionProof {
    /// Whether the path leads from this leaf to this root of the log of [`size`](Self::size) messages.
    pub fn verify(&self, leaf: TreeHash, root: TreeHash) -> bool {
        tree::verify_inclusion(leaf, self.sequence.get() - 1, self.size.get(), &self.path, root)
    }
}

impl ConsistencyProof {
    /// Whether the log with `root` begins with the log with `from_root`.
    pub fn verify(&self, from_root: TreeHash, root: TreeHash) -> bool {
        tree::verify_consistency(self.from.get(), from_root, self.size.get(), root, &self.path)
    }
}

/// Bytes of the longest path with its two numbers.
const PROOF_BYTES_MAX: usize = TREE_HASHES_MAX * 34 + 32;

impl Canonical for InclusionProof {
    const WHAT: &'static str = "inclusion proof";
    const BYTES_MAX: usize = PROOF_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        write_path(writer, self.sequence, self.size, &self.path);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (sequence, size, path) = read_path(Self::WHAT, reader)?;
        Ok(Self { sequence, size, path })
    }
}

impl Canonical for ConsistencyProof {
    const WHAT: &'static str = "consistency proof";
    const BYTES_MAX: usize = PROOF_BYTES_MAX;

    fn write(&self, writer: &mut Writer) {
        write_path(writer, self.from, self.size, &self.path);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (from, size, path) = read_path(Self::WHAT, reader)?;
        Ok(Self { from, size, path })
    }
}

fn write_path(writer: &mut Writer, from: Sequence, size: Sequence, path: &[TreeHash]) {
    writer.map(3);
    writer.key(MapKey::Int(1));
    writer.uint(from);
    writer.key(MapKey::Int(2));
    writer.uint(size);
    writer.key(MapKey::Int(3));
    writer.array(path.len());
    path.iter().for_each(|hash| writer.bytes(hash.as_bytes()));
}

fn read_path(
    what: &'static str,
    reader: &mut Reader<'_>,
) -> Result<(Sequence, Sequence, Vec<TreeHash>), DecodeError> {
    let mut fields = reader.fields(what, 3)?;
    let from = fields.required(reader, MapKey::Int(1), |reader| reader.number("from"))?;
    let size = fields.required(reader, MapKey::Int(2), |reader| reader.number("size"))?;
    let path = fields.required(reader, MapKey::Int(3), |reader| hashes("path", reader, TREE_HASHES_MAX))?;
    fields.end(reader)?;
    Ok((from, size, path))
}

fn hashes(what: &'static str, reader: &mut Reader<'_>, limit: usize) -> Result<Vec<TreeHash>, DecodeError> {
    let count = reader.array(what, limit)?;
    (0..count).map(|_| reader.array_of("tree hash").map(TreeHash::from_bytes)).collect()
}

impl<P: Canonical> Canonical for Proven<P> {
    const WHAT: &'static str = "proof";
    const BYTES_MAX: usize = P::BYTES_MAX + CHECKPOINT_BYTES_MAX + 16;

    fn write(&self, writer: &mut Writer) {
        writer.map(2);
        writer.key(MapKey::Int(1));
        self.proof.write(writer);
        writer.key(MapKey::Int(2));
        writer.bytes(&self.checkpoint.to_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields(Self::WHAT, 2)?;
        let proof = fields.required(reader, MapKey::Int(1), P::read)?;
        let checkpoint = fields.required(reader, MapKey::Int(2), |reader| {
            SignedCheckpoint::from_bytes(reader.bytes("checkpoint", CHECKPOINT_BYTES_MAX)?)
        })?;
        fields.end(reader)?;
        Ok(Self { proof, checkpoint })
    }
}

/// The leaves of consecutive messages, at most [`LEAVES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves(pub Vec<TreeHash>);

impl Canonical for Leaves {
    const WHAT: &'static str = "leaves";
    const BYTES_MAX: usize = LEAVES_MAX * 34 + 9;

    fn write(&self, writer: &mut Writer) {
        writer.array(self.0.len());
        self.0.iter().for_each(|leaf| writer.bytes(leaf.as_bytes()));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        hashes(Self::WHAT, reader, LEAVES_MAX).map(Self)
    }
}

mod checkpoint_as_hex {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::limits::CHECKPOINT_BYTES_MAX;
    use crate::log::SignedCheckpoint;

    pub(super) fn serialize<S: Serializer>(
        checkpoint: &SignedCheckpoint,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("0x{}", hex::encode(checkpoint.to_bytes())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SignedCheckpoint, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").unwrap_or_default();
        let is_lower = digits.bytes().all(|digit| !digit.is_ascii_uppercase());
        if digits.is_empty() || digits.len() > 2 * CHECKPOINT_BYTES_MAX || !is_lower {
            return Err(D::Error::custom("a checkpoint is `0x` and lower-case hex digits"));
        }
        let bytes = hex::decode(digits).map_err(D::Error::custom)?;
        SignedCheckpoint::from_bytes(&bytes).map_err(D::Error::custom)
    }
}
