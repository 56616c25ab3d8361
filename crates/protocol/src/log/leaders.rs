//! The leaders a reader accepts: one key for each epoch, admitted by the epoch's record.
//!
//! A trusted key is not enough to sign for an epoch. It must have claimed the epoch with a record, which a
//! store holds create-only under the epoch's number. A record counts only as the object under that number:
//! that is what keeps a deposed leader from putting itself into an epoch that it never claimed.
//!
//! A key that is revoked keeps what it signed up to its last valid (epoch, size), and no more: whether by a record, a message or a
//! checkpoint, and also in an epoch that was admitted before.

use std::collections::BTreeMap;

use crate::hash::EpochRecordHash;
use crate::id::{Epoch, KeyId, Sequence, StreamId};
use crate::log::SignedEpochRecord;
use crate::signing::{Revocations, SignatureError, TrustedKeys, VerifyingKey};

/// Why a record does not admit its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The record is not signed by a trusted key.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The record is of another stream.
    #[error("the epoch record belongs to another stream. expected=`{expected}` found=`{found}`")]
    ForeignStream {
        /// The stream being read.
        expected: StreamId,
        /// The stream named.
        found: StreamId,
    },
    /// Epochs are claimed one after the other; this one skips some.
    #[error("this is not the next epoch: read its records in order. expected=`{expected:?}` found=`{found}`")]
    Gap {
        /// The epoch whose object must be read next.
        expected: Option<Epoch>,
        /// The epoch of the record.
        found: Epoch,
    },
    /// The epoch is admitted already, by another record.
    #[error("two records claim one epoch. epoch=`{epoch}`")]
    Contradiction {
        /// The epoch.
        epoch: Epoch,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Admitted {
    key: VerifyingKey,
    record: EpochRecordHash,
}

/// The admitted leaders of one stream.
#[derive(Debug, Clone)]
pub struct Leaders {
    stream: StreamId,
    trusted: TrustedKeys,
    /// The epoch whose object must be read next.
    next: Option<Epoch>,
    /// `None` for an epoch whose object admits nobody.
    epochs: BTreeMap<Epoch, Option<Admitted>>,
}

impl Leaders {
    /// For a reader that reads from the first message on. `trusted` says which keys may claim an epoch.
    pub const fn new(stream: StreamId, trusted: TrustedKeys) -> Self {
        Self::joining(stream, trusted, Epoch::FIRST)
    }

    /// For a reader that joins at a checkpoint which it trusts by other means: `first` is the epoch of that
    /// checkpoint's last message, which may be below the checkpoint's own.
    pub const fn joining(stream: StreamId, trusted: TrustedKeys, first: Epoch) -> Self {
        Self { stream, trusted, next: Some(first), epochs: BTreeMap::new() }
    }

    /// Trusts one more key. Epochs that were passed because of it can then be admitted.
    pub fn trust(&mut self, key: VerifyingKey) {
        self.trusted.add(key);
    }

    /// Admits the key that claimed an epoch with `record`, which must be the next epoch's object, or that of
    /// an epoch which was passed.
    ///
    /// # Errors
    /// [`AdmissionError`]; nothing is admitted then. When the object can never admit anybody, the reader
    /// goes on with [`Self::pass`].
    pub fn admit(&mut self, record: &SignedEpochRecord) -> Result<(), AdmissionError> {
        record.verify(&self.trusted)?;
        self.enter(record)
    }

    /// The same by a judgement that was made elsewhere: whoever trusts keys by what proves them says that `key` may claim the very epoch
    /// of `record`. What is revoked is refused all the same.
    ///
    /// # Errors
    /// [`AdmissionError`]; nothing is admitted then.
    pub fn admit_as(&mut self, record: &SignedEpochRecord, key: &VerifyingKey) -> Result<(), AdmissionError> {
        record.verify(&TrustedKeys::pinned([*key]))?;
        self.trusted.revoked().check_claim(key.id(), record.epoch())?;
        self.enter(record)
    }

    fn enter(&mut self, record: &SignedEpochRecord) -> Result<(), AdmissionError> {
        let (claim, key) = record.recover()?;
        if claim.stream != self.stream {
            return Err(AdmissionError::ForeignStream { expected: self.stream, found: claim.stream });
        }
        let admitted = Admitted { key, record: record.hash() };
        match self.epochs.get(&claim.epoch) {
            Some(Some(known)) if *known == admitted => return Ok(()),
            Some(Some(_)) => return Err(AdmissionError::Contradiction { epoch: claim.epoch }),
            Some(None) => {}
            None => self.advance(claim.epoch)?,
        }
        self.epochs.insert(claim.epoch, Some(admitted));
        Ok(())
    }

    /// Passes the next epoch: an object stands under its number that is no record of a trusted key. Nobody
    /// leads that epoch, and the one after it can be read.
    ///
    /// # Errors
    /// [`AdmissionError::Gap`] when `epoch` is not the next one.
    pub fn pass(&mut self, epoch: Epoch) -> Result<(), AdmissionError> {
        self.advance(epoch)?;
        self.epochs.insert(epoch, None);
        Ok(())
    }

    /// Replaces what is revoked. What was verified before is not looked at again: ask [`super::Signers`].
    pub fn set_revoked(&mut self, revoked: Revocations) {
        self.trusted.set_revoked(revoked);
    }

    /// What is revoked.
    pub const fn revoked(&self) -> &Revocations {
        self.trusted.revoked()
    }

    fn advance(&mut self, found: Epoch) -> Result<(), AdmissionError> {
        if self.next != Some(found) {
            return Err(AdmissionError::Gap { expected: self.next, found });
        }
        self.next = found.next();
        Ok(())
    }

    /// The stream.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The epoch whose object must be read next. A batch whose checkpoint names it or a later one needs that
    /// object first.
    pub const fn next(&self) -> Option<Epoch> {
        self.next
    }

    /// Whether `key` was admitted as the leader of `epoch`.
    pub fn leads(&self, epoch: Epoch, key: KeyId) -> bool {
        matches!(self.epochs.get(&epoch), Some(Some(admitted)) if admitted.key.id() == key)
    }

    /// Whether the object of `epoch` was read and admitted nobody.
    pub fn is_passed(&self, epoch: Epoch) -> bool {
        matches!(self.epochs.get(&epoch), Some(None))
    }

    /// The record by which `epoch` was admitted.
    pub(super) fn record(&self, epoch: Epoch) -> Option<EpochRecordHash> {
        self.epochs.get(&epoch)?.map(|admitted| admitted.record)
    }

    /// The key of `epoch` in `stream`, if it is the one named and may sign there: a message by its sequence, a checkpoint by its size.
    pub(super) fn key(
        &self,
        stream: StreamId,
        epoch: Epoch,
        named: KeyId,
        at: Sequence,
    ) -> Result<&VerifyingKey, SignatureError> {
        if stream != self.stream {
            return Err(SignatureError::ForeignStream { stream });
        }
        self.trusted.revoked().check(named, epoch, at)?;
        match self.epochs.get(&epoch) {
            Some(Some(admitted)) if admitted.key.id() == named => Ok(&admitted.key),
            Some(_) => Err(SignatureError::UntrustedKey { key: named }),
            None => Err(SignatureError::UnknownEpoch { epoch }),
        }
    }
}
