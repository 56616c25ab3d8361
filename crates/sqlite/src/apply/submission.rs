//! Submissions in, commits applied, each claim checked: what every replica does with the messages of type 0.
//!
//! ```text
//! submission of commits --> apply each, compare the state hash where the client says one
//! submission of a part  --> schema changes kept, rows spooled --last part--> apply the whole, compare
//! ```
//!
//! Whoever calls has checked that one submission follows the other (`ClientState::after_submission`); nothing is believed of
//! what is inside.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::CommitNumber;
use synddb_protocol::submission::{Commit, CommitKind, Content, Part, SchemaChange, StateClaim};

use super::spool::Spool;
use super::{Applier, ApplyError, CommitChanges};
use crate::changeset::ChangesetError;
use crate::rules::{CommitView, Judge, What, spool_failed};
use crate::schema::{Layout, SchemaError};
use crate::state::{Schema, StateError};

/// Why a submission was not applied.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// The replica differs: the commit cannot be applied to it as it was captured.
    #[error("a commit does not apply. commit=`{commit}`")]
    NotApplicable {
        /// The commit.
        commit: CommitNumber,
        /// Why not.
        source: ApplyError,
    },
    /// The replica differs: after the commit both have other content.
    #[error("the replica has another state. commit=`{commit}` claimed=`{claimed}` found=`{found}`")]
    State {
        /// The commit after which it was seen; it or one since the last claim is at fault.
        commit: CommitNumber,
        /// What the application's database hashes to.
        claimed: StateHash,
        /// What the replica hashes to.
        found: StateHash,
    },
    /// Nothing is known of the commit: the machine failed, and the same submission may be applied later.
    #[error("cannot apply a commit. commit=`{commit}`")]
    Failed {
        /// The commit.
        commit: CommitNumber,
        /// Why not.
        source: ApplyError,
    },
    /// The rows of a huge commit cannot be kept until its last part comes.
    #[error("cannot spool a huge commit beside the replica. commit=`{commit}`")]
    Spool {
        /// The commit.
        commit: CommitNumber,
        /// Why not.
        source: io::Error,
    },
}

impl SubmissionError {
    /// Whether the replica is proven to differ. Otherwise this machine failed, and a retry from the last commit may succeed.
    pub const fn is_divergence(&self) -> bool {
        matches!(self, Self::NotApplicable { .. } | Self::State { .. })
    }

    /// An error of the applier, sorted by whose fault it is.
    fn of(commit: CommitNumber, source: ApplyError) -> Self {
        if source.is_of_machine() {
            Self::Failed { commit, source }
        } else {
            Self::NotApplicable { commit, source }
        }
    }
}

impl ApplyError {
    /// Whether SQLite found that the file is no whole database. Another start finds the same.
    pub const fn is_of_damaged_file(&self) -> bool {
        match self {
            Self::Sqlite(error)
            | Self::Schema(SchemaError::Sqlite(error))
            | Self::State(StateError::Sqlite(error) | StateError::Schema(SchemaError::Sqlite(error))) => {
                matches!(error.primary(), rusqlite::ffi::SQLITE_CORRUPT | rusqlite::ffi::SQLITE_NOTADB)
            }
            Self::Schema(_) | Self::State(_) | Self::Changeset(_) | Self::Divergence(_) | Self::NotBegun => {
                false
            }
        }
    }

    /// Whether this machine failed (a full disk, a lock, a file that cannot be read). Otherwise the replica or the commit is not what
    /// it should be, and a retry finds the same.
    pub const fn is_of_machine(&self) -> bool {
        match self {
            Self::Sqlite(_)
            | Self::Schema(SchemaError::Sqlite(_))
            | Self::State(StateError::Sqlite(_) | StateError::Schema(SchemaError::Sqlite(_)))
            | Self::Changeset(ChangesetError::Read(_))
            | Self::NotBegun => true,
            Self::Schema(_) | Self::State(_) | Self::Changeset(_) | Self::Divergence(_) => false,
        }
    }
}

/// How much was applied: what metrics count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Whole commits.
    pub commits: u64,
    /// Bytes of their rows.
    pub row_bytes: u64,
}

/// A commit of which parts came. Its rows wait on disk.
struct Group {
    schema: Vec<SchemaChange>,
    rows: Spool,
    bytes: u64,
}

/// Applies submissions to a replica, inside the transactions that its owner begins and ends.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let submission: synddb_protocol::submission::Submission = unimplemented!();
/// use synddb_sqlite::apply::{Applier, SubmissionApplier};
///
/// let mut replica = SubmissionApplier::new(Applier::open("replica.db".as_ref())?, ".".as_ref());
/// replica.begin()?;
/// replica.take(&submission.content)?;
/// replica.commit()?;
/// # Ok(())
/// # }
/// ```
pub struct SubmissionApplier {
    applier: Applier,
    folder: PathBuf,
    group: Option<Group>,
    schemas: Vec<SchemaAfter>,
}

/// How tables lay out their rows after a commit that changed the schema.
#[derive(Debug, Clone)]
pub struct SchemaAfter {
    /// The commit.
    pub commit: CommitNumber,
    schema: Arc<Schema>,
}

impl SchemaAfter {
    /// Every table's layout, by its name.
    pub fn layouts(&self) -> &BTreeMap<String, Layout> {
        &self.schema.layouts
    }
}

impl SubmissionApplier {
    /// Applies to the replica of `applier`. Huge commits wait in `folder`, in files without a name.
    pub fn new(applier: Applier, folder: &Path) -> Self {
        Self { applier, folder: folder.to_owned(), group: None, schemas: Vec::new() }
    }

    /// The applier, for its state and its connection.
    pub const fn applier(&self) -> &Applier {
        &self.applier
    }

    /// The schemas after the commits that changed one since this was asked last, in order. Whoever does not ask between two submissions finds those of
    /// the last one only.
    pub fn take_schemas(&mut self) -> Vec<SchemaAfter> {
        std::mem::take(&mut self.schemas)
    }

    /// Whether parts of a commit came, and its last one did not.
    pub const fn has_open_group(&self) -> bool {
        self.group.is_some()
    }

    /// Begins a transaction on the replica; any number of submissions may be taken in it.
    ///
    /// # Errors
    /// [`ApplyError::Sqlite`] when one is open already, or another connection writes.
    pub fn begin(&mut self) -> Result<(), ApplyError> {
        self.applier.begin()
    }

    /// Commits the transaction. Parts of a commit whose last one did not come are in this process only.
    ///
    /// # Errors
    /// As [`Applier::commit`].
    pub fn commit(&mut self) -> Result<(), ApplyError> {
        self.applier.commit()
    }

    /// Gives the transaction up, and the parts of a commit that is not complete. Whoever goes on reads again from where the last
    /// committed transaction ended without an open group.
    ///
    /// # Errors
    /// [`ApplyError::Sqlite`] when SQLite fails.
    pub fn rollback(&mut self) -> Result<(), ApplyError> {
        self.group = None;
        self.applier.rollback()
    }

    /// Applies what one submission carries, or keeps it until the last part of its commit comes.
    ///
    /// # Errors
    /// [`SubmissionError`]; the commits before the one it names are applied.
    pub fn take(&mut self, content: &Content) -> Result<Applied, SubmissionError> {
        self.schemas.clear();
        match content {
            Content::Commits(commits) => self.take_commits(commits.as_slice()),
            Content::Part(part) => self.take_part(part),
        }
    }

    /// Has what each commit changes in these tables gathered from here on, for [`Self::take_judged`].
    pub fn watch(&mut self, tables: BTreeSet<String>) {
        self.applier.watch(tables, &self.folder);
    }

    /// The same as [`Self::take`], and each commit is shown to `judge` as soon as it is applied. [`Self::watch`] says of which tables.
    ///
    /// # Errors
    /// As [`Self::take`]; what `judge` fails at is the machine's.
    pub fn take_judged(
        &mut self,
        content: &Content,
        judge: &mut dyn Judge,
    ) -> Result<Applied, SubmissionError> {
        self.schemas.clear();
        match content {
            Content::Commits(commits) => self.take_each(commits.as_slice(), Some(judge)),
            Content::Part(part) => {
                let kind = part.kind;
                let applied = self.take_part(part)?;
                if part.last.is_some() {
                    self.show(part.number, kind, judge)?;
                }
                Ok(applied)
            }
        }
    }

    fn show(
        &mut self,
        commit: CommitNumber,
        kind: CommitKind,
        judge: &mut dyn Judge,
    ) -> Result<(), SubmissionError> {
        let what = What::Commit(commit, kind);
        let shown = self.applier.show(|applier, gathered| {
            let view = CommitView::new(applier.connection(), applier.state(), gathered, what);
            judge.commit(&view, applier.connection())?;
            view.take_failure().map_or(Ok(()), |error| Err(spool_failed(&error).into()))
        });
        shown.map(|_| ()).map_err(|source| SubmissionError::Failed { commit, source })
    }

    /// Applies commits of one submission that follow each other: all of them, the first ones for who wants no more, or the ones after those.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_commits(&mut self, commits: &[Commit]) -> Result<Applied, SubmissionError> {
        self.take_each(commits, None)
    }

    fn take_each(
        &mut self,
        commits: &[Commit],
        mut judge: Option<&mut dyn Judge>,
    ) -> Result<Applied, SubmissionError> {
        let Some(last) = commits.last() else { return Ok(Applied::default()) };
        let mut applied = Applied::default();
        let result = commits.iter().try_for_each(|commit| {
            self.take_commit(commit)?;
            if let Some(judge) = &mut judge {
                self.show(commit.number, commit.kind, &mut **judge)?;
            }
            applied.commits += 1;
            applied.row_bytes += commit.changes.rows.len() as u64;
            Ok(())
        });
        let settled = self.applier.settle();
        self.applier.count();
        result?;
        settled.map_err(|source| SubmissionError::of(last.number, source))?;
        Ok(applied)
    }

    fn take_commit(&mut self, commit: &Commit) -> Result<(), SubmissionError> {
        let changes = CommitChanges {
            schema: &commit.changes.schema,
            rows: &commit.changes.rows[..],
            user_version: commit.changes.user_version,
            application_id: commit.changes.application_id,
        };
        let applied = self.applier.apply_unsettled(changes);
        applied.map_err(|source| SubmissionError::of(commit.number, source))?;
        self.note_schema(commit.number, &commit.changes.schema);
        self.check(commit.number, commit.state)
    }

    fn take_part(&mut self, part: &Part) -> Result<Applied, SubmissionError> {
        let commit = part.number;
        let failed = |source| SubmissionError::Spool { commit, source };
        let mut group = match self.group.take() {
            Some(group) => group,
            None => {
                let rows = Spool::begin(&self.folder).map_err(failed)?;
                Group { schema: Vec::new(), rows, bytes: 0 }
            }
        };
        group.schema.extend_from_slice(&part.changes.schema);
        group.rows.append(&part.changes.rows).map_err(failed)?;
        group.bytes += part.changes.rows.len() as u64;
        if part.last.is_none() {
            self.group = Some(group);
            return Ok(Applied::default());
        }
        let changes = CommitChanges {
            schema: &group.schema,
            rows: group.rows.read(),
            user_version: part.changes.user_version,
            application_id: part.changes.application_id,
        };
        self.applier.apply(changes).map_err(|source| SubmissionError::of(commit, source))?;
        self.note_schema(commit, &group.schema);
        self.check(commit, part.last)?;
        Ok(Applied { commits: 1, row_bytes: group.bytes })
    }

    fn note_schema(&mut self, commit: CommitNumber, changes: &[SchemaChange]) {
        if !changes.is_empty() {
            self.schemas.push(SchemaAfter { commit, schema: self.applier.state().schema() });
        }
    }

    fn check(&mut self, commit: CommitNumber, claim: Option<StateClaim>) -> Result<(), SubmissionError> {
        let Some(StateClaim { state: claimed, .. }) = claim else { return Ok(()) };
        self.applier.count();
        let found = self.applier.state().hash();
        if found == claimed { Ok(()) } else { Err(SubmissionError::State { commit, claimed, found }) }
    }
}
