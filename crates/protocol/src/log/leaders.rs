//! The leaders a reader accepts: one key for each epoch, admitted by the epoch's record.
//!
//! A trusted key is not enough to sign for an epoch. It must have claimed the epoch with a record, which a
//! store holds create-only under the epoch's number, so that a leader that was deposed cannot put itself
//! into an epoch, running or future, that it never claimed.

use std::collections::BTreeMap;

use crate::hash::EpochRecordHash;
use crate::id::{Epoch, KeyId, StreamId};
use crate::log::SignedEpochRecord;
use crate::signing::{SignatureError, TrustedKeys, VerifyingKey};

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
    #[error("this is not the next epoch: read its records in order. expected=`{expected}` found=`{found}`")]
    Gap {
        /// The epoch after the last one admitted.
        expected: Epoch,
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
    epochs: BTreeMap<Epoch, Admitted>,
}

impl Leaders {
    /// No epoch yet. `trusted` says which keys may claim one.
    pub const fn new(stream: StreamId, trusted: TrustedKeys) -> Self {
        Self { stream, trusted, epochs: BTreeMap::new() }
    }

    /// Admits the key that claimed an epoch with `record`.
    ///
    /// The first record may be of any epoch: where the reader joins. Each further one must be of the next.
    ///
    /// # Errors
    /// [`AdmissionError`]; nothing is admitted then.
    pub fn admit(&mut self, record: &SignedEpochRecord) -> Result<(), AdmissionError> {
        record.verify(&self.trusted)?;
        let (claim, key) = record.recover()?;
        if claim.stream != self.stream {
            return Err(AdmissionError::ForeignStream { expected: self.stream, found: claim.stream });
        }
        let admitted = Admitted { key, record: record.hash() };
        match self.epochs.get(&claim.epoch) {
            Some(known) if *known == admitted => return Ok(()),
            Some(_) => return Err(AdmissionError::Contradiction { epoch: claim.epoch }),
            None => {}
        }
        if let Some(expected) = self.last().and_then(Epoch::next)
            && expected != claim.epoch
        {
            return Err(AdmissionError::Gap { expected, found: claim.epoch });
        }
        self.epochs.insert(claim.epoch, admitted);
        Ok(())
    }

    /// The stream.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The last epoch admitted. A batch whose checkpoint names a later one needs that epoch's record first.
    pub fn last(&self) -> Option<Epoch> {
        self.epochs.last_key_value().map(|(epoch, _)| *epoch)
    }

    /// The record by which `epoch` was admitted.
    pub(super) fn record(&self, epoch: Epoch) -> Option<EpochRecordHash> {
        self.epochs.get(&epoch).map(|admitted| admitted.record)
    }

    /// The key of `epoch`, if it is the one named.
    pub(super) fn key(&self, epoch: Epoch, named: KeyId) -> Result<&VerifyingKey, SignatureError> {
        let admitted = self.epochs.get(&epoch).ok_or(SignatureError::UnknownEpoch { epoch })?;
        if admitted.key.id() != named {
            return Err(SignatureError::UntrustedKey { key: named });
        }
        Ok(&admitted.key)
    }
}
