//! Why a snapshot in the store is passed. Each is said in a warning, and the next older one is looked at.

use synddb_protocol::DecodeError;
use synddb_protocol::id::{KeyId, Sequence};
use synddb_protocol::log::RevokedError;
use synddb_protocol::signing::SignatureError;

use crate::error::{HaltCause, ValidatorError};

/// Why no replica begins from a snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// It was listed, and is gone.
    #[error("the manifest is not in the store any more")]
    Gone,
    /// It is larger than any manifest.
    #[error("the object is too large for a manifest")]
    TooLarge,
    /// It is no manifest.
    #[error("the object is no manifest")]
    Malformed(#[from] DecodeError),
    /// Nobody with its key signed it.
    #[error("the manifest is not signed by the key that it names")]
    Signature(#[from] SignatureError),
    /// Another key signed it than the one in its name.
    #[error("the manifest is signed by another key than its name says. found=`{found}`")]
    OtherSigner {
        /// Who signed it.
        found: KeyId,
    },
    /// It is of another stream, or another place, than its name says.
    #[error("the manifest is of another stream or place than its name says. found=`{found}`")]
    Elsewhere {
        /// The place that it is of.
        found: Sequence,
    },
    /// No stored batch ends there.
    #[error("no batch of the log ends where the snapshot was taken")]
    NoBatch,
    /// The log has another checkpoint there.
    #[error(
        "the log has another checkpoint there than the snapshot: who signed it, signed two logs, or made one up"
    )]
    OtherCheckpoint,
    /// The batch that ends there, or the one before, is not believed.
    #[error("the batch of the log that ends there is not believed")]
    Batch(#[source] Box<ValidatorError>),
    /// A revoked key signed too much of the log before it, or may have done so.
    #[error("the log before it is not believed: an older snapshot, or the log from its first message, is")]
    Revoked(#[from] RevokedError),
    /// Its pages are not the database that the log claims.
    #[error("its pages are not the database that the log claims")]
    Pages(#[source] Box<HaltCause>),
    /// This machine cannot hold it. What can be held by another one is passed here: a made-up snapshot may be larger than any disk.
    #[error("it cannot be restored here")]
    Restore(#[source] Box<ValidatorError>),
}
