//! Which keys may lead the log: asked of a source that whoever runs this chose, never of the log and never of a sequencer.
//!
//! ```text
//! pinned.rs       keys of the configuration, for good
//! file.rs         a file that is read again when it changes
//! format.rs       what such a file says
//! patient.rs      a source, asked until it answers
//! conformance.rs  the contract, as a suite that can fail
//! ```

pub mod conformance;
mod file;
mod format;
mod patient;
mod pinned;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use synddb_protocol::id::{Epoch, KeyId, OutOfRange, Sequence};
use synddb_protocol::log::SignedEpochRecord;
use synddb_protocol::signing::{LastValid, Revocations, VerifyingKey};

pub use file::KeysFile;
pub use format::{KEYS_FILE_BYTES_MAX, KEYS_MAX, KeysFileError};
pub(crate) use patient::PatientKeys;
pub use pinned::Pinned;

/// What a source knows of the keys of one log.
///
/// It is asked, and decides nothing by itself: what it says goes through [`Leaders`](synddb_protocol::log::Leaders), the only judge of
/// signatures. So a source never checks one, and one that is fooled by a forged record admits nobody.
///
/// - **Chosen by whoever runs the reader.** Nothing that a source says comes from the log, from its store or from a sequencer, but for the
///   record that it is asked to judge. Nothing is trusted because it came first.
/// - **A no is definite, silence is not.** [`Unreachable`] says that nobody knows; whoever asks waits and asks again, as of a store that does
///   not answer, and trusts nothing meanwhile. A no passes the epoch.
/// - **Every answer is as of now.** A source may say something else the next time. What was admitted stays admitted for its epoch, so
///   that a key that is no longer trusted claims no new epoch; only a revocation takes something back.
/// - **A revocation is not a no.** A key that is revoked is judged as if it were not: up to its last valid place it leads.
/// - **Cancel-safe.** A question whose future is dropped changes nothing, and may be asked again.
#[async_trait]
pub trait KeySource: fmt::Debug + Send + Sync + 'static {
    /// Whether a key may have led some epoch. What nobody like that signed is refused before anything is looked for that it names. A source
    /// that can only judge records says yes.
    ///
    /// # Errors
    /// [`Unreachable`] when it cannot be known now.
    async fn knows(&self, key: KeyId) -> Result<bool, Unreachable>;

    /// Whether the key that signed `record` may lead the very epoch that it claims, by whatever the source goes by: the key, or the
    /// [`KeyProof`](synddb_protocol::log::KeyProof) in the record.
    ///
    /// # Errors
    /// [`Unreachable`] when it cannot be known now.
    async fn judge(&self, record: &SignedEpochRecord) -> Result<Judgement, Unreachable>;

    /// What is revoked.
    ///
    /// # Errors
    /// [`Unreachable`] when it cannot be known now.
    async fn revoked(&self) -> Result<Revocations, Unreachable>;

    /// After how long it is worth asking again what is revoked; `None` for a source that never says anything else.
    fn look_again(&self) -> Option<Duration>;
}

/// What a source says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// This key may lead the epoch. Whether it signed the record is for the reader to check.
    MayLead(VerifyingKey),
    /// Nobody leads the epoch by this record.
    MayNot,
}

/// A source cannot be asked now. Trying again may help.
#[derive(Debug, thiserror::Error)]
#[error("the source of keys does not answer")]
pub struct Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Unreachable {
    /// For this reason.
    pub fn because(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// A key that is revoked, as files say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedKey {
    /// The public key.
    pub key: VerifyingKey,
    /// The last epoch that it may have led.
    pub epoch: Epoch,
    /// The size of the log up to which it is believed in that epoch; 0 where nothing of the epoch is.
    pub size: u64,
}

impl RevokedKey {
    /// Up to where the key is believed.
    ///
    /// # Errors
    /// [`OutOfRange`] for a size that no log has.
    pub fn last_valid(&self) -> Result<LastValid, OutOfRange> {
        let size = if self.size == 0 { None } else { Some(Sequence::new(self.size)?) };
        Ok(LastValid { epoch: self.epoch, size })
    }
}
