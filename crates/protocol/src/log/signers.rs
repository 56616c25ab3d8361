//! Who signed what of a log: for each epoch its key, and how far it went.
//!
//! A key that is revoked after the fact may have signed a part of what a reader holds, long before the leader whose checkpoint the reader
//! stands at. So a reader keeps this beside its tip, and asks it whenever revocations change.

use std::collections::BTreeMap;

use crate::id::{Epoch, KeyId, Sequence};
use crate::log::{Checkpoint, TrustedCheckpoint, VerifiedBatch};
use crate::signing::{LastValid, Revocations};

/// What one epoch's key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The key.
    pub key: KeyId,
    /// The last message, or the size of the last checkpoint, that it signed.
    pub through: Sequence,
}

/// What a revocation takes from under a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevokedError {
    /// A revoked key signed more of the log than it is believed for.
    #[error(
        "a revoked key signed more of the log than it is believed for. key_id=`{key}` last_valid=`{last_valid}` epoch=`{epoch}` \
         through=`{through}`"
    )]
    Signed {
        /// The key.
        key: KeyId,
        /// Up to where it is believed.
        last_valid: LastValid,
        /// The epoch in which it went too far.
        epoch: Epoch,
        /// How far it went there.
        through: Sequence,
    },
    /// The reader joined the log behind what the key is believed for, and does not know who signed what lies between.
    #[error(
        "a key is revoked from before what is known here of who signed the log. key_id=`{key}` last_valid=`{last_valid}` \
         unknown_through=`{unknown}`"
    )]
    Unknown {
        /// The key.
        key: KeyId,
        /// Up to where it is believed.
        last_valid: LastValid,
        /// Where the reader's knowledge begins.
        unknown: LastValid,
    },
}

impl RevokedError {
    /// The messages that are not believed any more: the first one, and the last one that is known of.
    pub fn span(&self) -> (Sequence, Sequence) {
        let (last_valid, through) = match *self {
            Self::Signed { last_valid, through, .. } => (last_valid, through),
            Self::Unknown { last_valid, unknown, .. } => {
                (last_valid, unknown.size.unwrap_or(Sequence::FIRST))
            }
        };
        let first = last_valid.size.map_or(Some(Sequence::FIRST), Sequence::next).unwrap_or(through);
        (first.min(through), through)
    }
}

/// Who signed what of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers {
    unknown: Option<LastValid>,
    epochs: BTreeMap<Epoch, Signed>,
}

impl Signers {
    /// For a reader that joins at a checkpoint and does not know who signed what is before it.
    pub fn joining(checkpoint: &Checkpoint) -> Self {
        let unknown = LastValid { epoch: checkpoint.epoch, size: Some(checkpoint.size) };
        Self { unknown: Some(unknown), epochs: BTreeMap::new() }
    }

    /// The same, where the checkpoint is believed: who signed the end is known, and what is before it may be learned by [`Self::learn`].
    pub fn ending(checkpoint: &TrustedCheckpoint) -> Self {
        let mut signers = Self::joining(checkpoint.claim());
        signers.note_end(checkpoint);
        signers
    }

    /// Learns of the batch with which the epochs at the end of what is unknown began. From there to that end nobody else signed, since epochs
    /// only grow. `before` is the checkpoint that the batch was verified from, up to which nothing is known now; `None` for the first batch.
    pub fn learn(&mut self, batch: &VerifiedBatch, before: Option<&TrustedCheckpoint>) {
        let mut earlier = Self::default();
        earlier.add(batch);
        for (epoch, Signed { key, through }) in earlier.epochs {
            self.note_through(epoch, key, through);
        }
        self.unknown = None;
        if let Some(before) = before {
            self.unknown = Self::joining(before.claim()).unknown;
            self.note_end(before);
        }
    }

    /// Who signed the part of this log that ends at one of its checkpoints, which `key` signed.
    #[must_use]
    pub fn cut(mut self, claim: &Checkpoint, key: KeyId) -> Self {
        let end = LastValid { epoch: claim.epoch, size: Some(claim.size) };
        if self.unknown.is_some_and(|unknown| unknown >= end) {
            return Self::joining(claim);
        }
        // Behind a checkpoint nobody signs for an earlier epoch.
        self.epochs.split_off(&claim.epoch);
        self.note(claim.epoch, key, claim.size);
        self
    }

    /// What was kept: where knowledge begins, if not at the first message, and what each epoch's key signed.
    pub fn kept(unknown: Option<LastValid>, epochs: impl IntoIterator<Item = (Epoch, Signed)>) -> Self {
        Self { unknown, epochs: epochs.into_iter().collect() }
    }

    /// Nothing is known of who signed up to here. `None` for a reader that read the log from its first message.
    pub const fn unknown(&self) -> Option<LastValid> {
        self.unknown
    }

    /// What each epoch's key signed, in the order of the epochs.
    pub fn epochs(&self) -> impl Iterator<Item = (Epoch, Signed)> {
        self.epochs.iter().map(|(epoch, signed)| (*epoch, *signed))
    }

    /// The same from an epoch on.
    pub fn since(&self, epoch: Epoch) -> impl Iterator<Item = (Epoch, Signed)> {
        self.epochs.range(epoch..).map(|(epoch, signed)| (*epoch, *signed))
    }

    /// Adds who signed a batch. No epoch before that of its first message changes.
    pub fn add(&mut self, batch: &VerifiedBatch) {
        for message in batch.messages() {
            self.note(message.header().epoch, message.receipt().key(), message.header().sequence);
        }
        let claim = batch.checkpoint().claim();
        self.note(claim.epoch, batch.checkpoint().key(), claim.size);
    }

    fn note(&mut self, epoch: Epoch, key: KeyId, through: Sequence) {
        self.epochs.insert(epoch, Signed { key, through });
    }

    fn note_end(&mut self, checkpoint: &TrustedCheckpoint) {
        let claim = checkpoint.claim();
        self.note_through(claim.last_leader.epoch, claim.last_leader.key, claim.size);
        self.note_through(claim.epoch, checkpoint.key(), claim.size);
    }

    /// The same where it may be known that the epoch's key went further.
    fn note_through(&mut self, epoch: Epoch, key: KeyId, through: Sequence) {
        let signed = self.epochs.entry(epoch).or_insert(Signed { key, through });
        signed.through = signed.through.max(through);
    }

    /// Whether this is who signed a log up to a checkpoint, and neither less nor more.
    pub fn reach(&self, checkpoint: &Checkpoint) -> bool {
        match self.epochs.get(&checkpoint.epoch) {
            Some(signed) => signed.through == checkpoint.size,
            None => self.unknown == Some(LastValid { epoch: checkpoint.epoch, size: Some(checkpoint.size) }),
        }
    }

    /// Whether everything is still believed.
    ///
    /// # Errors
    /// [`RevokedError`] for the first epoch in which a revoked key signed too much.
    pub fn check(&self, revoked: &Revocations) -> Result<(), RevokedError> {
        if let Some(unknown) = self.unknown
            && let Some((key, last_valid)) = revoked.iter().find(|(_, last_valid)| *last_valid < unknown)
        {
            return Err(RevokedError::Unknown { key, last_valid, unknown });
        }
        for (&epoch, &Signed { key, through }) in &self.epochs {
            if let Some(last_valid) = revoked.last_valid(key)
                && !last_valid.covers(epoch, through)
            {
                return Err(RevokedError::Signed { key, last_valid, epoch, through });
            }
        }
        Ok(())
    }
}
