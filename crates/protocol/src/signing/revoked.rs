//! Revocation: how far a key is still believed that is believed no more.
//!
//! A revocation names the last valid (epoch, size): what the key signed up to there stays what it was, since others built on it, and
//! everything beyond is refused, whenever it was signed. Knows nothing of who revokes, or why.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{Epoch, KeyId, Sequence};
use crate::signing::SignatureError;

/// The last place in a log up to which a revoked key is believed. Ordered by epoch, then by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LastValid {
    /// The last epoch that the key may have led.
    pub epoch: Epoch,
    /// How far it may have led that one: the last message, and the size of the last checkpoint. `None` where nothing of the epoch is
    /// believed.
    pub size: Option<Sequence>,
}

impl LastValid {
    /// Whether a message with this sequence, or a checkpoint of this size, in this epoch is still believed.
    pub fn covers(self, epoch: Epoch, sequence: Sequence) -> bool {
        Self { epoch, size: Some(sequence) } <= self
    }

    /// Whether the record of this epoch is still believed.
    pub fn covers_epoch(self, epoch: Epoch) -> bool {
        epoch <= self.epoch
    }
}

impl fmt::Display for LastValid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, size {}", self.epoch, self.size.map_or(0, Sequence::get))
    }
}

/// The keys that are revoked. Of one that is revoked twice the smaller place counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations(BTreeMap<KeyId, LastValid>);

impl Revocations {
    /// Revokes one more key.
    pub fn revoke(&mut self, key: KeyId, last_valid: LastValid) {
        let kept = self.0.entry(key).or_insert(last_valid);
        *kept = last_valid.min(*kept);
    }

    /// Up to where a key is believed; `None` for one that is not revoked.
    pub fn last_valid(&self, key: KeyId) -> Option<LastValid> {
        self.0.get(&key).copied()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, LastValid)> {
        self.0.iter().map(|(key, last_valid)| (*key, *last_valid))
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what a revoked key signs at a place beyond its last valid one: a message by its sequence, a checkpoint by its size.
    ///
    /// # Errors
    /// [`SignatureError::Revoked`].
    pub fn check(&self, key: KeyId, epoch: Epoch, sequence: Sequence) -> Result<(), SignatureError> {
        match self.last_valid(key) {
            Some(last_valid) if !last_valid.covers(epoch, sequence) => {
                Err(SignatureError::Revoked { key, last_valid, epoch, sequence: Some(sequence) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses the record by which a revoked key claims a later epoch than its last valid one.
    ///
    /// # Errors
    /// [`SignatureError::Revoked`].
    pub fn check_claim(&self, key: KeyId, epoch: Epoch) -> Result<(), SignatureError> {
        match self.last_valid(key) {
            Some(last_valid) if !last_valid.covers_epoch(epoch) => {
                Err(SignatureError::Revoked { key, last_valid, epoch, sequence: None })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl FromIterator<(KeyId, LastValid)> for Revocations {
    fn from_iter<I: IntoIterator<Item = (KeyId, LastValid)>>(keys: I) -> Self {
        let mut revoked = Self::default();
        for (key, last_valid) in keys {
            revoked.revoke(key, last_valid);
        }
        revoked
    }
}
