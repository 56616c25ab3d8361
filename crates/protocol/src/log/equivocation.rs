//! Equivocation: one key signed two things for one place.
//!
//! Two signed objects are the whole proof; anyone can check it, also a contract (SHA-256 and
//! `ecrecover`), with no log at hand.

use crate::id::{Epoch, KeyId, Sequence, StreamId};
use crate::log::{Receipt, SignedCheckpoint};
use crate::signing::{Envelope, Kind, SignatureError};

/// What was proven: `key` signed twice for one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Equivocation {
    /// The key.
    pub key: KeyId,
    /// Whether messages or checkpoints differ.
    pub kind: Kind,
    /// The stream.
    pub stream: StreamId,
    /// The epoch.
    pub epoch: Epoch,
    /// The messages' sequence, or the checkpoints' size.
    pub sequence: Sequence,
}

/// Why two signed objects prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotEquivocation {
    /// They are signed for different places.
    #[error("the two are not for one place of one stream and epoch")]
    DifferentPlaces,
    /// Different keys signed them.
    #[error("two keys signed them. first=`{first}` second=`{second}`")]
    DifferentKeys {
        /// The first one's key.
        first: KeyId,
        /// The second one's key.
        second: KeyId,
    },
    /// They are one and the same.
    #[error("the two are one and the same")]
    SameContent,
    /// A signature is false, so its key did not say this.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Equivocation {
    /// Whether two receipts prove that one key gave one place to two messages.
    ///
    /// # Errors
    /// [`NotEquivocation`] with the reason why they do not.
    pub fn of_receipts(first: &Receipt, second: &Receipt) -> Result<Self, NotEquivocation> {
        Self::of(first.envelope(), second.envelope())
    }

    /// Whether two checkpoints prove that one key claimed two logs of one size.
    ///
    /// # Errors
    /// [`NotEquivocation`] with the reason why they do not.
    pub fn of_checkpoints(
        first: &SignedCheckpoint,
        second: &SignedCheckpoint,
    ) -> Result<Self, NotEquivocation> {
        Self::of(first.envelope(), second.envelope())
    }

    fn of(first: &Envelope, second: &Envelope) -> Result<Self, NotEquivocation> {
        let place = |envelope: &Envelope| {
            let header = envelope.header();
            (envelope.kind(), header.stream, header.epoch, header.sequence)
        };
        let (kind, stream, epoch, sequence) = place(first);
        let Some(sequence) = sequence.filter(|_| place(first) == place(second)) else {
            return Err(NotEquivocation::DifferentPlaces);
        };
        if first.key() != second.key() {
            return Err(NotEquivocation::DifferentKeys { first: first.key(), second: second.key() });
        }
        // Two signatures over one content differ only if the nonce was not RFC 6979's, and make two
        // different leaves of the log tree. Nobody else can make the second: a high s is refused.
        if first == second {
            return Err(NotEquivocation::SameContent);
        }
        first.recover()?;
        second.recover()?;
        Ok(Self { key: first.key(), kind, stream, epoch, sequence })
    }
}
