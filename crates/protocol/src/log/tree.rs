//! The log tree: RFC 9162, section 2.1, over SHA-256. A leaf is a message's COSE_Sign1 bytes.
//!
//! [`Frontier`] is all that an appender keeps. Proofs are made from hashes of perfect subtrees, which
//! a caller looks up wherever it keeps them; they are the same nodes that C2SP tiles hold.

use crate::encoding::DecodeError;
use crate::encoding::cbor::{Reader, Writer};
use crate::hash::{TreeHash, sha256};
use crate::limits::TREE_HASHES_MAX;

/// The hash of a leaf: SHA-256 of 0x00 and the leaf's bytes.
pub fn leaf_hash(leaf: &[u8]) -> TreeHash {
    TreeHash::from_bytes(sha256(&[&[0], leaf]))
}

/// The hash of an inner node: SHA-256 of 0x01 and both children.
pub fn node_hash(left: TreeHash, right: TreeHash) -> TreeHash {
    TreeHash::from_bytes(sha256(&[&[1], left.as_bytes(), right.as_bytes()]))
}

/// The right edge of a tree: the roots of its perfect subtrees, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<TreeHash>,
}

impl Frontier {
    /// The frontier of a tree with `size` leaves, from what a checkpoint carries.
    ///
    /// # Errors
    /// [`DecodeError::Invalid`] unless there is one peak for each bit set in `size`.
    pub fn new(size: u64, peaks: Vec<TreeHash>) -> Result<Self, DecodeError> {
        if peaks.len() != size.count_ones() as usize {
            return Err(DecodeError::Invalid {
                what: "frontier",
                why: "it has one hash for each bit of the size",
            });
        }
        Ok(Self { size, peaks })
    }

    /// Leaves of the tree.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[TreeHash] {
        &self.peaks
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        let mut node = leaf;
        // Each bit set at the low end of the size is a perfect subtree that this leaf completes.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("there is one peak for each bit of the size");
            node = node_hash(left, node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root. Of the empty tree it is the hash of nothing.
    pub fn root(&self) -> TreeHash {
        let mut peaks = self.peaks.iter().rev().copied();
        let Some(last) = peaks.next() else {
            return TreeHash::from_bytes(sha256(&[]));
        };
        peaks.fold(last, |right, left| node_hash(left, right))
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.array(self.peaks.len());
        for peak in &self.peaks {
            writer.bytes(peak.as_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, size: u64) -> Result<Self, DecodeError> {
        let count = reader.array("frontier", TREE_HASHES_MAX)?;
        let peaks: Result<_, _> =
            (0..count).map(|_| reader.array_of("tree hash").map(TreeHash::from_bytes)).collect();
        Self::new(size, peaks?)
    }
}

/// A perfect subtree: the one over leaves `index << level` up to `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its height; 0 is a leaf.
    pub level: u32,
    /// Its place among the subtrees of that height, from 0.
    pub index: u64,
}

/// A proof that was asked for outside the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tree has no such proof. from=`{from}` size=`{size}`")]
pub struct NoSuchProof {
    /// The leaf's index, or the smaller size.
    pub from: u64,
    /// The size of the tree.
    pub size: u64,
}

/// The path that proves that leaf `index` (from 0) stands in the tree of `size` leaves.
///
/// # Errors
/// The lookup's own error, or [`NoSuchProof`] for a leaf outside the tree.
pub fn inclusion_proof<E: From<NoSuchProof>>(
    index: u64,
    size: u64,
    mut lookup: impl FnMut(Node) -> Result<TreeHash, E>,
) -> Result<Vec<TreeHash>, E> {
    if index >= size {
        return Err(NoSuchProof { from: index, size }.into());
    }
    let mut path = Vec::new();
    // RFC 9162, 2.1.3.1: PATH(m, D[n]), unrolled from the root down; the path is stored leaf first.
    let (mut start, mut count) = (0, size);
    while count > 1 {
        let left = split(count);
        if index - start < left {
            path.push(subtree(start + left, count - left, &mut lookup)?);
            count = left;
        } else {
            path.push(subtree(start, left, &mut lookup)?);
            start += left;
            count -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// The path that proves that the tree of `size` leaves begins with the tree of `from` leaves.
///
/// # Errors
/// The lookup's own error, or [`NoSuchProof`] unless `1 <= from <= size`.
pub fn consistency_proof<E: From<NoSuchProof>>(
    from: u64,
    size: u64,
    mut lookup: impl FnMut(Node) -> Result<TreeHash, E>,
) -> Result<Vec<TreeHash>, E> {
    if from == 0 || from > size {
        return Err(NoSuchProof { from, size }.into());
    }
    let mut path = Vec::new();
    // RFC 9162, 2.1.4.1: SUBPROOF(m, D[n], b), unrolled from the root down. While `from` ends with the
    // whole subtree in view, the verifier has its root already.
    let (mut start, mut count, mut known) = (0, size, true);
    while from - start != count {
        let left = split(count);
        if from - start <= left {
            path.push(subtree(start + left, count - left, &mut lookup)?);
            count = left;
        } else {
            path.push(subtree(start, left, &mut lookup)?);
            start += left;
            count -= left;
            known = false;
        }
    }
    if !known {
        path.push(subtree(start, count, &mut lookup)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `proof` shows that `leaf` is leaf `index` of the tree of `size` leaves with this root.
///
/// RFC 9162, section 2.1.3.2.
pub fn verify_inclusion(leaf: TreeHash, index: u64, size: u64, proof: &[TreeHash], root: TreeHash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut node) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            node = node_hash(*sibling, node);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            node = node_hash(node, *sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && node == root
}

/// Whether `proof` shows that the tree of `size` leaves with `root` begins with the tree of `from`
/// leaves with `from_root`.
///
/// RFC 9162, section 2.1.4.2.
pub fn verify_consistency(
    from: u64,
    from_root: TreeHash,
    size: u64,
    root: TreeHash,
    proof: &[TreeHash],
) -> bool {
    if from == 0 || from > size {
        return false;
    }
    if from == size {
        return proof.is_empty() && from_root == root;
    }
    let mut path = proof.iter().copied();
    let seed = if from.is_power_of_two() { Some(from_root) } else { path.next() };
    let Some(seed) = seed else { return false };
    let shift = (from - 1).trailing_ones();
    let (mut at, mut last) = ((from - 1) >> shift, (size - 1) >> shift);
    let (mut old, mut new) = (seed, seed);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old = node_hash(sibling, old);
            new = node_hash(sibling, new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old == from_root && new == root
}

/// Leaves of the left child: the largest power of two below `count`, which is 2 or more.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The root over `count` leaves from `start` on, from perfect subtrees.
fn subtree<E>(
    start: u64,
    count: u64,
    lookup: &mut impl FnMut(Node) -> Result<TreeHash, E>,
) -> Result<TreeHash, E> {
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return lookup(Node { level, index: start >> level });
    }
    let left = split(count);
    let left_root = subtree(start, left, lookup)?;
    Ok(node_hash(left_root, subtree(start + left, count - left, lookup)?))
}
