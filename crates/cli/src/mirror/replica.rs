//! The replica's side: submissions in, a database out, each claim checked.
//!
//! It reads the very bytes that would be sent, as any replica reads them from a store, and believes nothing: neither that one
//! follows the other, nor that the database it arrives at is the application's.

use std::path::Path;

use synddb_agent::outbox::{Held, Outbox, SubmissionId};
use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, ClientState, Entry, MessageType};
use synddb_protocol::submission::Snapshot;
use synddb_sqlite::apply::{Applier, SubmissionApplier, SubmissionError};
use synddb_sqlite::connection::{Connection, SqliteError};

use crate::exit::CommandError;

/// Submissions are applied in one transaction up to this much, in bytes before compression: the replica's disk is asked seldom
/// while catching up, and the source is looked at again soon, so that its WAL does not grow meanwhile.
const TRANSACTION_BYTES: usize = 4 << 20;

/// The replica is not what the application's database is.
#[derive(Debug, thiserror::Error)]
pub enum Divergence {
    /// A commit could not be applied as it was captured, or after it both have other content.
    #[error("the replica diverged")]
    Commit(#[source] SubmissionError),
    /// The snapshot was restored to other content.
    #[error("the restored snapshot has another state. claimed=`{claimed}` found=`{found}`")]
    Snapshot {
        /// What the snapshot claims.
        claimed: StateHash,
        /// What the replica hashes to.
        found: StateHash,
    },
    /// The source by a full scan has other content than by what was captured.
    #[error(
        "a full scan of the source finds another state than was captured. captured=`{captured}` scanned=`{scanned}`"
    )]
    Scan {
        /// From captured rows.
        captured: StateHash,
        /// By the scan.
        scanned: StateHash,
    },
    /// A full comparison found a difference.
    #[error("source and target differ: {difference}")]
    Compared {
        /// The first difference.
        difference: String,
    },
}

/// A replica that takes submissions from an outbox.
pub(super) struct Replica {
    applier: SubmissionApplier,
    client: ClientState,
    /// The last submission read.
    read: Option<SubmissionId>,
}

impl Replica {
    /// Opens a replica that a snapshot was restored to. Huge commits wait in `folder`.
    pub(super) fn open(file: &Path, snapshot: &Snapshot, folder: &Path) -> Result<Self, CommandError> {
        let client = ClientState::after_snapshot(None, snapshot)?;
        let connection = Connection::open(file)?;
        // Whoever looks into the replica must hold nothing up, so it has a WAL as well.
        connection.sqlite().pragma_update(None, "journal_mode", "WAL").map_err(SqliteError::from)?;
        let applier = Applier::over(connection)?;
        let (claimed, found) = (snapshot.state, applier.state().hash());
        if claimed != found {
            return Err(Box::new(Divergence::Snapshot { claimed, found }).into());
        }
        Ok(Self { applier: SubmissionApplier::new(applier, folder), client, read: None })
    }

    /// The state hash of the replica.
    pub(super) fn hash(&self) -> StateHash {
        self.applier.applier().state().hash()
    }

    /// Whether everything that the outbox holds was read.
    pub(super) fn is_idle(&self, outbox: &Outbox) -> Result<bool, CommandError> {
        Ok(self.following(outbox)?.is_none())
    }

    /// Applies some of what the outbox holds, in one transaction, and lets it forget what is applied.
    pub(super) fn take_some(&mut self, outbox: &mut Outbox) -> Result<(), CommandError> {
        let Some(first) = self.following(outbox)? else { return Ok(()) };
        self.applier.begin()?;
        match self.take_several(outbox, first) {
            Ok(applied) => {
                self.applier.commit()?;
                if let Some((id, digest)) = applied {
                    outbox.forget_through(id, digest)?;
                }
                Ok(())
            }
            Err(error) => {
                // What failed first is what there is to tell; closing the replica rolls back as well.
                self.applier.rollback().ok();
                Err(error)
            }
        }
    }

    /// Applies `first` and some after it, and says up to which all is applied. Parts of a commit that is not complete stay in the
    /// outbox.
    fn take_several(
        &mut self,
        outbox: &Outbox,
        first: Held,
    ) -> Result<Option<(SubmissionId, CommitDigest)>, CommandError> {
        let mut bytes = 0;
        let mut applied = None;
        let mut next = Some(first);
        while let Some(Held { id, digest, body, .. }) = next {
            bytes += self.take(body)?;
            self.read = Some(id);
            if !self.applier.has_open_group() {
                applied = Some((id, digest));
            }
            next = if bytes < TRANSACTION_BYTES { self.following(outbox)? } else { None };
        }
        Ok(applied)
    }

    fn following(&self, outbox: &Outbox) -> Result<Option<Held>, CommandError> {
        Ok(match self.read {
            Some(id) => outbox.after(id)?,
            None => outbox.next()?,
        })
    }

    /// Takes one submission, and returns how large it is before compression, in bytes.
    fn take(&mut self, body: Vec<u8>) -> Result<usize, CommandError> {
        let body = Body::read(MessageType::Submission, body, BODY_BYTES_MAX)?;
        let bytes = body.content_bytes();
        let Entry::Submission(submission) = body.into_entry() else { return Ok(bytes) };
        self.client = self.client.after_submission(&submission, bytes as u64)?;
        self.applier.take(&submission.content).map_err(|error| match error {
            SubmissionError::NotApplicable { .. } | SubmissionError::State { .. } => {
                Box::new(Divergence::Commit(error)).into()
            }
            SubmissionError::Failed { source, .. } => CommandError::Apply(source),
            SubmissionError::Spool { source, .. } => {
                CommandError::system("spool a huge commit beside the target")(source)
            }
        })?;
        Ok(bytes)
    }
}
