//! Why a stream cannot be led.

use synddb_protocol::DecodeError;
use synddb_protocol::id::{Epoch, KeyId, Sequence};
use synddb_protocol::log::{BatchError, LogError};
use synddb_protocol::signing::SignatureError;
use synddb_storage::{Failure, GetError, ListError, PutError};

use crate::journal::JournalError;

/// Why a stream cannot be led, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    /// The store does not answer a put.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The store does not answer a get.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The store does not answer a listing.
    #[error(transparent)]
    List(#[from] ListError),
    /// The journal fails.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What stands where the log goes on is nothing that can be read.
    #[error("an object under the name of a batch cannot be read; see who put it there. first=`{first}`")]
    UnreadableTail {
        /// Its first sequence.
        first: Sequence,
        /// Why not.
        source: DecodeError,
    },
    /// The store lists a batch that it does not have.
    #[error("the store lists a batch that it does not have. first=`{first}`")]
    MissingTail {
        /// Its first sequence.
        first: Sequence,
    },
    /// What stands where the log goes on is a batch of another place or stream, or larger than any batch.
    #[error("an object under the name of a batch is not this batch; see who put it there. first=`{first}`")]
    ForeignTail {
        /// The sequence in its name.
        first: Sequence,
    },
    /// The last checkpoint was signed by nobody who is trusted.
    #[error(
        "the log was led by a key that is not trusted here; if it is yours, add its public key to `trusted_keys`. epoch=`{epoch}` key_id=`{key}`"
    )]
    UntrustedTail {
        /// The epoch of the checkpoint.
        epoch: Epoch,
        /// The key that it names.
        key: KeyId,
        /// Why it is refused.
        source: SignatureError,
    },
    /// The log cannot be gone on with.
    #[error("the log cannot be gone on with")]
    Log(#[from] LogError),
    /// The journal saw more stored than there is.
    #[error(
        "the store ends before what was stored in it; is it another store? ends_at=`{ends_at:?}` stored=`{stored}`"
    )]
    StoreBehind {
        /// The last message in the store.
        ends_at: Option<Sequence>,
        /// The last message that was seen stored.
        stored: Sequence,
    },
    /// The journal was written under an epoch that the store has no claim of.
    #[error("the store lacks the claim of an epoch that was led in it; is it another store? epoch=`{epoch}`")]
    ClaimLost {
        /// The epoch under which the journal was written last.
        epoch: Epoch,
    },
    /// What the journal holds does not follow the log that it was written for.
    #[error(
        "the journal does not follow its own log; move it away so that clients send again. sequence=`{sequence}`"
    )]
    Contradiction {
        /// The message.
        sequence: Sequence,
        /// Why not.
        source: Box<BatchError>,
    },
    /// The epochs are used up.
    #[error("the stream has no epoch left")]
    NoEpochLeft,
}

impl LeadError {
    /// Whether the same may succeed later, without anybody touching this process. A store that denies or cannot is asked again too: whoever runs it may
    /// give the permission or the bucket back, and what was accepted waits for it.
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::Put(PutError::Failed { .. })
            | Self::Get(GetError::Failed { .. })
            | Self::List(ListError::Failed { .. })
            | Self::MissingTail { .. } => true,
            Self::Put(
                PutError::TooLarge { .. } | PutError::Conflict { .. } | PutError::ConflictTooLarge { .. },
            )
            | Self::Get(GetError::TooLarge { .. })
            | Self::List(ListError::Foreign { .. })
            | Self::Journal(_)
            | Self::UnreadableTail { .. }
            | Self::ForeignTail { .. }
            | Self::UntrustedTail { .. }
            | Self::Log(_)
            | Self::StoreBehind { .. }
            | Self::ClaimLost { .. }
            | Self::Contradiction { .. }
            | Self::NoEpochLeft => false,
        }
    }

    /// Whether an object that was read is to blame, which anybody who can write to the store may have put there.
    pub(crate) const fn is_of_the_object(&self) -> bool {
        matches!(self, Self::UnreadableTail { .. } | Self::ForeignTail { .. } | Self::UntrustedTail { .. })
    }

    /// What strangers may know of it. Addresses and causes stand in the log of the service.
    pub(crate) const fn in_brief(&self) -> &'static str {
        match self {
            Self::Put(PutError::Failed { failure, .. })
            | Self::Get(GetError::Failed { failure, .. })
            | Self::List(ListError::Failed { failure, .. }) => {
                in_brief_of(failure, "the store does not answer")
            }
            Self::Put(_) | Self::Get(_) => "the store holds an object that is larger than its kind allows",
            Self::List(_) => "the store holds an object that is not of this system",
            Self::Journal(JournalError::Full) => "the disk of the journal is full",
            Self::Journal(_) => "the journal fails",
            Self::UnreadableTail { .. } | Self::ForeignTail { .. } => {
                "an object stands where the log goes on that is no batch of it"
            }
            Self::MissingTail { .. } => "the store lists a batch that it does not have",
            Self::UntrustedTail { .. } => "the log was led by a key that is not trusted here",
            Self::Log(_) => "the log cannot be gone on with",
            Self::StoreBehind { .. } => "the store ends before what was stored in it",
            Self::ClaimLost { .. } => "the store lacks the claim of an epoch that was led in it",
            Self::Contradiction { .. } => "the journal does not follow its own log",
            Self::NoEpochLeft => "the stream has no epoch left",
        }
    }
}

/// What strangers may know of a store that fails; `away` where it may come back by itself.
pub(crate) const fn in_brief_of(failure: &Failure, away: &'static str) -> &'static str {
    match failure {
        Failure::Unavailable(_) => away,
        Failure::Full(_) => "the store has no room",
        Failure::Denied(_) => "the store denies access",
        Failure::Misconfigured(_) => "the store cannot do what a store must",
    }
}
