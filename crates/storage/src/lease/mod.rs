//! The contract of a lease: one small object beside a log that says who leads it, and is overwritten again and again.
//!
//! A lease is a heartbeat and a hint. A standby sequencer reads that it changes, and stands by; when it has not changed for some time,
//! the standby begins to lead. **Nothing is safe because of it.** What keeps two leaders apart is the fence in the log, which is made
//! of create-only objects; so a lease that is lost, old, doubled or forged costs a change of leaders and no message.
//!
//! The trait knows nothing about what the bytes mean, about time, or about who may write.

mod files;
mod objects;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use synddb_protocol::id::StreamId;

use crate::store::Failure;

/// Largest lease, in bytes. A store neither writes nor reads a larger one.
pub const LEASE_BYTES_MAX: usize = 4 << 10;

/// Where leases lie, one for each stream.
///
/// Implementations are cheap to share and safe to call from many tasks and many processes at once. No method retries by itself.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Reads the lease of a stream, with its version; `None` when there is none.
    ///
    /// What an answered [`write`](Self::write) wrote is seen by every read that begins later, until the next write. The bytes are
    /// those of one write, never of two.
    ///
    /// # Errors
    /// [`LeaseError::TooLarge`] when somebody else's object lies there, otherwise [`LeaseError::Failed`].
    async fn read(&self, stream: StreamId) -> Result<Option<(LeaseVersion, Bytes)>, LeaseError>;

    /// Writes the lease of a stream if it still is what the caller saw: absent for `None`, otherwise of this version.
    ///
    /// - **One of many.** Of several writes that expect the same, from any number of processes, one succeeds, as long as they write
    ///   different bytes.
    /// - **A version is that of the bytes.** Two different contents in a row have different versions; the same content may have the
    ///   same version again, in some stores. Who must see that something was written writes something new, such as a counter.
    /// - **Not durable.** After a power cut the lease may be older, cut short, or absent. It is a heartbeat: the next one repairs it.
    ///
    /// # Errors
    /// [`LeaseError::Conflict`] when the lease is something else, and nothing was written. After [`LeaseError::Failed`] it is unknown
    /// whether the write took effect; the same write may then meet what it wrote itself as a conflict.
    async fn write(
        &self,
        stream: StreamId,
        expected: Option<&LeaseVersion>,
        bytes: Bytes,
    ) -> Result<LeaseVersion, LeaseError>;

    /// The streams that the store holds anything of, ascending: those that may have a lease. It may be behind, as any listing.
    ///
    /// # Errors
    /// [`Failure`] when the store does not answer, or cannot list.
    async fn streams(&self) -> Result<Vec<StreamId>, Failure>;

    /// The least time between two writes of one lease that the store takes for long. One that is written faster may be refused for
    /// a while.
    fn pace(&self) -> Duration {
        Duration::ZERO
    }
}

/// Tells one content of a lease from the next. It is made by a store, and means something to that store alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseVersion(Mark);

/// What stores tell contents apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    /// The entity tag or the generation of an object.
    Object { tag: Option<String>, generation: Option<String> },
    /// The content itself, which is small.
    Content(Bytes),
}

impl LeaseVersion {
    /// The version of a content in a store that has no better mark.
    #[must_use]
    pub const fn of_content(bytes: Bytes) -> Self {
        Self(Mark::Content(bytes))
    }
}

/// The name of a lease: `{stream}/lease`. It is no [`Key`](crate::Key), because everything that a key names is created once.
///
/// ```
/// use synddb_protocol::id::StreamId;
/// use synddb_storage::LeaseName;
///
/// let name = LeaseName(StreamId::from_bytes([0xab; 32]));
/// assert_eq!(name.to_string(), format!("{}/lease", "ab".repeat(32)));
/// assert_eq!(name.to_string().parse(), Ok(name));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseName(pub StreamId);

/// The last segment of the name.
const SEGMENT: &str = "lease";

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{SEGMENT}", self.0.to_key())
    }
}

/// A text that is not the name of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("text is not the name of a lease")]
pub struct LeaseNameError;

impl FromStr for LeaseName {
    type Err = LeaseNameError;

    fn from_str(text: &str) -> Result<Self, LeaseNameError> {
        let (stream, segment) = text.split_once('/').ok_or(LeaseNameError)?;
        let stream = StreamId::from_key(stream).map_err(|_| LeaseNameError)?;
        if segment == SEGMENT { Ok(Self(stream)) } else { Err(LeaseNameError) }
    }
}

/// Why a lease was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lease, there or to be written, exceeds the bound. Nothing was read or sent.
    #[error(
        "the lease is larger than a lease may be. stream=`{stream}` size=`{size}` size_max=`{LEASE_BYTES_MAX}`"
    )]
    TooLarge {
        /// The stream.
        stream: StreamId,
        /// The size.
        size: u64,
    },
    /// The lease is not what the writer expected: somebody else wrote it. Read it to see who.
    #[error("the lease is not what was expected. stream=`{stream}`")]
    Conflict {
        /// The stream.
        stream: StreamId,
    },
    /// The store did not answer. Whether a write took effect is unknown.
    #[error("cannot use the lease. stream=`{stream}`")]
    Failed {
        /// The stream.
        stream: StreamId,
        /// What happened.
        #[source]
        failure: Failure,
    },
}

/// What is shared is what it shares.
#[async_trait]
impl<L: Lease + ?Sized> Lease for Arc<L> {
    async fn read(&self, stream: StreamId) -> Result<Option<(LeaseVersion, Bytes)>, LeaseError> {
        (**self).read(stream).await
    }

    async fn write(
        &self,
        stream: StreamId,
        expected: Option<&LeaseVersion>,
        bytes: Bytes,
    ) -> Result<LeaseVersion, LeaseError> {
        (**self).write(stream, expected, bytes).await
    }

    async fn streams(&self) -> Result<Vec<StreamId>, Failure> {
        (**self).streams().await
    }

    fn pace(&self) -> Duration {
        (**self).pace()
    }
}
