//! A file that is written: the applier over it, its transaction, and the position that goes with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use synddb_protocol::hash::StateHash;
use synddb_protocol::http::ReplicaAudit;
use synddb_protocol::id::{Epoch, InboundNonce, Sequence};
use synddb_protocol::log::{Signers, TrustedCheckpoint, VerifiedMessage};
use synddb_protocol::submission::{Snapshot, Submission};
use synddb_sqlite::apply::{Applied, Applier, ApplyError, SubmissionApplier, SubmissionError};
use synddb_sqlite::connection::{Connection, PATIENCE, SqliteError};
use synddb_sqlite::state::RunningState;
use tracing::warn;

use super::gaps::Gaps;
use super::identity::Identity;
use super::names::Names;
use super::{Ended, Place, Started, position, signers};
use crate::error::{Divergence, HaltCause, ReplicaError};
use crate::feed::history::At;
use crate::rules::{self, Acknowledged, CameInbound, Carried, Judging, Kept, Replaced, Rulebook, Violation};

/// Most tables that are named as different.
pub(crate) const TABLES_MAX: usize = 64;

/// How many pages its writer keeps in memory: 64 MiB. Rows of a commit are all over the file, and SQLite's own 2 MiB read it again and again.
const CACHE: &str = "PRAGMA cache_size = -65536";

/// How a file keeps what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// The replica: readers go on beside its writer. A power cut may take back whole commits, never parts.
    Wal,
    /// A snapshot that nobody reads yet: what is committed stays.
    Rollback,
}

/// A file that is written.
pub(super) struct Working {
    applier: SubmissionApplier,
    file: PathBuf,
    journal: Journal,
    /// SQLite's number for "somebody else wrote", as of the last transaction.
    version: i64,
    /// Whether who signed what was written since the file was opened.
    has_signers: bool,
    /// Which file it is.
    identity: Option<Identity>,
    /// The message that it stands at.
    at: Sequence,
    /// The checkpoint that its position has. `None` before the first one.
    checkpoint: Option<Vec<u8>>,
    gaps: Gaps,
    names: Names,
    /// What every commit is shown to, where rules look.
    judging: Option<Judging>,
}

impl Working {
    /// Opens a file to write it, and scans its state. `at` is the message that it stands at.
    pub(super) fn open(place: &Place, file: &Path, journal: Journal, at: Sequence) -> Result<Self, Ended> {
        let sqlite = |source| ReplicaError::Sqlite { doing: "open", file: file.to_owned(), source };
        let connection = Connection::open(file).map_err(sqlite)?;
        connection.execute(CACHE).map_err(sqlite)?;
        match journal {
            Journal::Wal => {
                set_wal(&connection).map_err(sqlite)?;
                // The WAL is copied back by whoever looks at its size (`wal.rs`).
                connection
                    .execute("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0")
                    .map_err(sqlite)?;
                position::keep_states(&connection).map_err(sqlite)?;
            }
            Journal::Rollback => position::create(&connection).map_err(sqlite)?,
        }
        signers::create(&connection).map_err(sqlite)?;
        let names = Names::read(&connection).map_err(sqlite)?;
        let applier = Applier::over(connection).map_err(|source| unreadable(file, at, source))?;
        let applier = SubmissionApplier::new(applier, place.folder());
        let gaps = Gaps::read(applier.applier().connection().sqlite()).map_err(|error| {
            ReplicaError::Sqlite { doing: "read", file: file.to_owned(), source: error.into() }
        })?;
        let (file, identity) = (file.to_owned(), Identity::of(file));
        let mut working = Self {
            applier,
            file,
            journal,
            version: 0,
            has_signers: false,
            identity,
            at,
            checkpoint: None,
            gaps,
            names,
            judging: None,
        };
        working.version = working.data_version()?;
        Ok(working)
    }

    /// Keeps these gaps in a staged file from here on.
    pub(super) fn keep_gaps(&mut self, gaps: &Gaps) -> Result<(), Ended> {
        debug_assert_eq!(self.journal, Journal::Rollback, "only a staged file gets gaps");
        let sqlite = self.applier.applier().connection().sqlite();
        gaps.write(sqlite).map_err(|error| self.sqlite(error.into()))?;
        self.gaps = gaps.clone();
        Ok(())
    }

    /// Says in a staged file which snapshot its replica began with, from here on.
    pub(super) fn keep_started(&self, started: &Started) -> Result<(), Ended> {
        debug_assert_eq!(self.journal, Journal::Rollback, "only a staged file is told");
        let written = started.write(self.applier.applier().connection().sqlite());
        written.map_err(|error| self.sqlite(error.into()))
    }

    /// Which snapshot it began with, while nobody has checked what came before.
    pub(super) fn started(&self) -> Result<Option<Started>, Ended> {
        let read = Started::read(self.applier.applier().connection().sqlite());
        read.map_err(|error| self.sqlite(error.into()))
    }

    /// Keeps in a staged file what another one knew, and what the tables of the snapshot are called.
    pub(super) fn keep_names(&mut self, names: Names, at: At) {
        debug_assert_eq!(self.journal, Journal::Rollback, "only a staged file gets names");
        self.names = names;
        self.note_names(at);
    }

    /// Has every commit from here on judged, and looks at all rows where a rule is new. What is open of rules that are gone is resolved.
    pub(super) fn judge(&mut self, rules: &Rulebook, checkpoint: &TrustedCheckpoint) -> Result<(), Ended> {
        let judged = Judging::begin(rules, self.applier.applier().connection(), checkpoint, &self.file);
        let judging = judged.map_err(|source| self.failed(source))?;
        self.applier.watch(judging.tables());
        self.judging = Some(judging);
        Ok(())
    }

    /// Has a snapshot judged that is to take the place of what there was before, as the difference between the two, and every commit from here on.
    pub(super) fn judge_snapshot(
        &mut self,
        rules: &Rulebook,
        replaced: Replaced<'_>,
        message: &VerifiedMessage,
        snapshot: &Snapshot,
        replica: &Path,
    ) -> Result<(), Ended> {
        let after = self.applier.applier().connection();
        let judged = Judging::over_snapshot(rules, replaced, after, (message, snapshot), replica);
        let judging = judged.map_err(|source| self.failed(source))?;
        self.applier.watch(judging.tables());
        self.judging = Some(judging);
        Ok(())
    }

    /// Keeps in a staged file what rules wrote down of the one that it takes the place of, where no rule looks now.
    pub(super) fn keep_judged(&self, from: &Connection) -> Result<(), Ended> {
        debug_assert_eq!(self.journal, Journal::Rollback, "only a staged file is told");
        let kept = rules::keep(from, self.applier.applier().connection());
        kept.map_err(|error| self.sqlite(error.into()))
    }

    /// Keeps in a staged file what the one that it takes the place of knows of inbound messages.
    pub(super) fn copy_inbound(&self, from: &Connection) -> Result<(), Ended> {
        debug_assert_eq!(self.journal, Journal::Rollback, "only a staged file is told");
        let copied = rules::copy_inbound(from.sqlite(), self.connection().sqlite());
        copied.map_err(|error| self.sqlite(error.into()))
    }

    /// Writes down which inbound messages came, in the transaction that is open.
    pub(super) fn keep_inbound(&self, came: &[CameInbound]) -> Result<(), Ended> {
        let kept = rules::keep_inbound(self.connection().sqlite(), came);
        kept.map_err(|error| self.sqlite(error.into()))
    }

    /// What the application has acknowledged of inbound messages; `None` where no rule looks.
    pub(super) fn acknowledged(&self) -> Option<Acknowledged> {
        self.judging.as_ref().map(Judging::acknowledged)
    }

    /// The connection, to read what it sees.
    pub(super) fn connection(&self) -> &Connection {
        self.applier.applier().connection()
    }

    /// How many violations are open; `None` where no rule looks.
    pub(super) fn violations_open(&self) -> Option<u64> {
        self.judging.as_ref().map(Judging::open)
    }

    /// How many violations are open in the file, whether or not a rule looks.
    pub(super) fn violations_kept(&self) -> Result<u64, Ended> {
        rules::open_in(self.connection().sqlite()).map_err(|error| self.sqlite(error.into()))
    }

    /// What rules saw of a state that another one takes the place of; `None` where none looks.
    pub(super) fn carry(&mut self) -> Result<Option<Carried>, Ended> {
        let goes = (self.journal == Journal::Rollback).then(|| self.applier.applier().connection());
        let carried = self.judging.as_mut().map(|judging| judging.carry(goes)).transpose();
        carried.map_err(|source| self.sqlite(source))
    }

    /// What was found since this was asked last.
    pub(super) fn take_found(&mut self) -> Vec<Violation> {
        self.judging.as_mut().map(Judging::take_found).unwrap_or_default()
    }

    /// The same was found in the file that this one was made of.
    pub(super) fn has_found(&mut self, found: Vec<Violation>) {
        if let Some(judging) = &mut self.judging {
            judging.has_found(found);
        }
    }

    /// Has rules read again what somebody else wrote down for them.
    pub(super) fn read_again(&mut self) -> Result<(), Ended> {
        let Some(judging) = &mut self.judging else { return Ok(()) };
        let read = judging.read_again(self.applier.applier().connection());
        read.map_err(|source| self.sqlite(source))
    }

    /// Takes in what somebody left beside the replica of violations that are resolved.
    pub(super) fn resolve(&mut self) -> Result<Vec<Kept>, Ended> {
        let Some(judging) = &mut self.judging else { return Ok(Vec::new()) };
        let resolved = judging.resolve(self.applier.applier().connection());
        resolved.map_err(|source| self.sqlite(source))
    }

    /// An inbound message came.
    pub(super) const fn delivered(&mut self, nonce: InboundNonce) {
        if let Some(judging) = &mut self.judging {
            judging.delivered(nonce);
        }
    }

    /// From here on its tables are what they are now.
    fn note_names(&mut self, at: At) {
        let state = self.applier.applier().state();
        self.names.note(at, self.at, state.layouts(), state.encoding());
    }

    /// How columns were called, and where reading may begin.
    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// What it lacks.
    pub(super) const fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// The file stands at this checkpoint: its position, and its state.
    pub(super) fn stands_at(&mut self, checkpoint: &TrustedCheckpoint) -> Result<(), Ended> {
        self.at = checkpoint.claim().size;
        self.checkpoint = Some(checkpoint.to_bytes());
        self.check(checkpoint)?;
        self.check_position(self.applier.applier().connection())?;
        if self.names.tail() != Some(self.at.get())
            && let Some(client) = &checkpoint.claim().client
        {
            // A release that does not keep them wrote it.
            self.names = Names::none();
            self.names.begin(checkpoint);
            let commit = client.next.get().saturating_sub(1);
            self.note_names(At { incarnation: client.incarnation.counter.get(), commit });
        }
        Ok(())
    }

    /// The state hash of what is in the file, with the transaction that is open.
    pub(super) fn hash(&self) -> StateHash {
        self.applier.applier().state().hash()
    }

    /// Compares the state with what `checkpoint` claims.
    pub(super) fn check(&self, checkpoint: &TrustedCheckpoint) -> Result<(), Ended> {
        let claim = checkpoint.claim();
        let found = self.hash();
        match &claim.client {
            Some(client) if client.state != found => {
                // Which tables differ is found by whoever rebuilds what it should be.
                Err(state_diverged(claim.size, client.state, found, Vec::new()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Begins a transaction if none is open. Whoever else holds the write lock is waited for.
    pub(super) fn begin(&mut self, is_over: impl Fn() -> bool) -> Result<(), Ended> {
        if self.applier.applier().is_open() {
            return Ok(());
        }
        loop {
            match self.applier.begin() {
                Ok(()) => break,
                Err(ApplyError::Sqlite(error)) if error.is_busy() => {
                    warn!(file = %self.file.display(), "another connection writes to the replica; waiting for it");
                    if is_over() {
                        return Err(Ended::Interrupted);
                    }
                }
                Err(source) => return Err(self.failed(source)),
            }
        }
        self.check_alone()
    }

    /// Checks that nobody else wrote since the last transaction. When somebody may have, everything is scanned.
    fn check_alone(&mut self) -> Result<(), Ended> {
        self.check_file()?;
        let version = self.data_version()?;
        if version == self.version {
            return Ok(());
        }
        let connection = self.applier.applier().connection();
        let scanned = RunningState::scan(connection);
        let found = scanned.map_err(|error| unreadable(&self.file, self.at, error.into()))?;
        self.compare(&found)?;
        self.check_position(connection)?;
        self.version = version;
        // Whoever checked the log before writes for rules beside what is compared.
        self.read_again()
    }

    /// Whether somebody may have written since the last look, or put another file in the place of this one. Costs no scan. Not in a
    /// transaction.
    pub(super) fn was_touched(&self) -> Result<bool, Ended> {
        Ok(self.check_file().is_err() || self.data_version()? != self.version)
    }

    /// Whether a transaction is open: what is in the file is not what the running state covers.
    pub(super) fn is_open(&self) -> bool {
        self.applier.applier().is_open()
    }

    /// Scans the file in full through a connection of its own, which remembers nothing of it, and compares. Between transactions: nobody else
    /// may write, so what the scan reads is what was committed last.
    pub(super) fn audit(&mut self) -> (Option<ReplicaAudit>, Result<(), Ended>) {
        let began = Instant::now();
        let mut scanned = None;
        let compared = self.scan_anew(&mut scanned);
        let state = self.hash();
        let tables = scanned.as_ref().map_or_else(Vec::new, |found| self.differing(found));
        // What this machine could not do is no answer.
        if matches!(compared, Err(Ended::Failed(_) | Ended::Interrupted)) {
            return (None, compared);
        }
        let audit = ReplicaAudit {
            sequence: self.at,
            state,
            scanned: scanned.as_ref().map(RunningState::hash),
            equal: compared.is_ok(),
            tables,
            scan_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (Some(audit), compared)
    }

    fn scan_anew(&mut self, scanned: &mut Option<RunningState>) -> Result<(), Ended> {
        // Before anything is opened by name: beside another file, this one's WAL would be taken for its own.
        self.check_file()?;
        let version = self.data_version()?;
        let connection = Connection::open_to_read(&self.file).map_err(|source| self.sqlite(source))?;
        let found = RunningState::scan(&connection);
        let found = found.map_err(|error| unreadable(&self.file, self.at, error.into()))?;
        let compared = self.compare(scanned.insert(found)).and_then(|()| self.check_position(&connection));
        if compared.is_ok() {
            // As of before the scan: what was written since is looked at the next time.
            self.version = version;
        }
        compared
    }

    fn compare(&self, found: &RunningState) -> Result<(), Ended> {
        let (expected, state) = (self.hash(), found.hash());
        if state == expected {
            return Ok(());
        }
        Err(state_diverged(self.at, expected, state, self.differing(found)))
    }

    /// The tables whose rows are not what they should be, or that are in one of the two only.
    fn differing(&self, found: &RunningState) -> Vec<String> {
        differing(self.applier.applier().state(), found)
    }

    /// Checks that the file under the name is the one that is open.
    fn check_file(&self) -> Result<(), Ended> {
        if self.journal == Journal::Rollback || Identity::of(&self.file) == self.identity {
            return Ok(());
        }
        Err(HaltCause::Diverged { sequence: self.at, source: Divergence::Replaced }.into())
    }

    /// Checks that position and gaps are those that were written.
    fn check_position(&self, connection: &Connection) -> Result<(), Ended> {
        let Some(expected) = &self.checkpoint else { return Ok(()) };
        let diverged = |found: String| -> Ended {
            let (expected, table) = (format!("the checkpoint of message {}", self.at), "_synddb_position");
            let source = Divergence::Position { table, expected, found };
            HaltCause::Diverged { sequence: self.at, source }.into()
        };
        match position::read(connection.sqlite()) {
            Ok(found) if found.to_bytes() == *expected => {}
            Ok(found) => return Err(diverged(format!("a checkpoint of message {}", found.claim().size))),
            Err(position::NoPosition::Sqlite(error)) => return Err(self.sqlite(error.into())),
            Err(error) => return Err(diverged(synddb_protocol::chain(&error))),
        }
        let gaps = Gaps::read(connection.sqlite()).map_err(|error| self.sqlite(error.into()))?;
        if gaps == self.gaps {
            return Ok(());
        }
        let told = |gaps: &Gaps| format!("{} gaps", gaps.told().len());
        let (expected, found) = (told(&self.gaps), told(&gaps));
        let source = Divergence::Position { table: "_synddb_gaps", expected, found };
        Err(HaltCause::Diverged { sequence: self.at, source }.into())
    }

    /// Applies what one submission carries.
    pub(super) fn take(
        &mut self,
        message: &VerifiedMessage,
        submission: &Submission,
    ) -> Result<Applied, Ended> {
        let sequence = message.header().sequence;
        let applied = match &mut self.judging {
            Some(judging) => {
                judging.begin_message(message, submission);
                self.applier.take_judged(&submission.content, judging)
            }
            None => self.applier.take(&submission.content),
        };
        let applied = applied.map_err(|error| blame(&self.file, sequence, error))?;
        if let Some(judging) = &mut self.judging {
            let written = judging.write(self.applier.applier().connection());
            written.map_err(|source| self.sqlite(source))?;
        }
        for schema in self.applier.take_schemas() {
            let at = At::commit(submission.incarnation, schema.commit);
            let encoding = self.applier.applier().state().encoding();
            self.names.note(at, sequence, schema.layouts(), encoding);
        }
        Ok(applied)
    }

    /// Marks where a batch begins, so that it can be taken back alone.
    pub(super) fn save(&self) -> Result<(), Ended> {
        self.execute("SAVEPOINT synddb_batch")
    }

    /// The batch is whole.
    pub(super) fn release(&self) -> Result<(), Ended> {
        self.execute("RELEASE synddb_batch")
    }

    /// Takes the batch back in the file. The running state does not follow, so that nothing more is applied afterwards.
    pub(super) fn take_back(&self) -> Result<(), Ended> {
        self.execute("ROLLBACK TO synddb_batch; RELEASE synddb_batch")
    }

    /// Commits the transaction together with the position, and with who signed what led to it: what is new there begins with an epoch.
    pub(super) fn commit(
        &mut self,
        checkpoint: &TrustedCheckpoint,
        signers: (&Signers, Option<Epoch>),
        is_over: impl Fn() -> bool,
    ) -> Result<(), Ended> {
        position::write(self.applier.applier().connection(), checkpoint)
            .map_err(|source| self.sqlite(source))?;
        if let Some(judging) = &self.judging {
            let noted = judging.note_judged(self.applier.applier().connection(), checkpoint.claim().size);
            noted.map_err(|source| self.sqlite(source))?;
        }
        let (signed, since) = signers;
        signers::write(self.applier.applier().connection(), signed, since.filter(|_| self.has_signers))
            .map_err(|source| self.sqlite(source))?;
        let written = self.names.write(self.applier.applier().connection(), checkpoint);
        written.map_err(|source| self.sqlite(source))?;
        loop {
            match self.applier.commit() {
                Ok(()) => break,
                Err(ApplyError::Sqlite(error)) if error.is_busy() && !is_over() => {
                    warn!(file = %self.file.display(), "the replica is locked by another connection; waiting for it");
                }
                Err(ApplyError::Sqlite(error)) if error.is_busy() => return Err(Ended::Interrupted),
                Err(source) => return Err(self.failed(source)),
            }
        }
        self.has_signers = true;
        self.at = checkpoint.claim().size;
        self.checkpoint = Some(checkpoint.to_bytes());
        Ok(())
    }

    /// Gives up what is not committed.
    pub(super) fn rollback(&mut self) {
        // Closing the file rolls back as well.
        self.applier.rollback().ok();
    }

    /// Switches a staged file to the mode of a replica, before it becomes one.
    pub(super) fn ready(&self) -> Result<(), Ended> {
        debug_assert_eq!(self.journal, Journal::Rollback, "only a staged file becomes a replica");
        set_wal(self.applier.applier().connection()).map_err(|source| self.sqlite(source))
    }

    /// How large the file of its WAL is, in bytes.
    pub(super) fn wal_bytes(&self) -> u64 {
        let mut name = self.file.clone().into_os_string();
        name.push("-wal");
        std::fs::metadata(name).map_or(0, |wal| wal.len())
    }

    /// How many frames its WAL has, since it began anew.
    pub(super) fn wal_frames(&self) -> Result<i64, Ended> {
        // The one mode that does nothing but tell.
        self.checkpoint("PRAGMA wal_checkpoint(NOOP)").map(|(_, frames)| frames)
    }

    /// Copies back what no reader needs in the WAL. Not in a transaction.
    pub(super) fn copy_back(&self) -> Result<(), Ended> {
        self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)").map(|_| ())
    }

    /// Copies the WAL back and cuts it off, unless somebody reads from it: nobody is waited for. Not in a transaction.
    pub(super) fn empty_wal(&self) -> Result<bool, Ended> {
        let sqlite = self.applier.applier().connection().sqlite();
        let patience = |time| sqlite.busy_timeout(time).map_err(|error| self.sqlite(error.into()));
        patience(Duration::ZERO)?;
        let emptied = self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        patience(PATIENCE)?;
        emptied.map(|(is_busy, _)| !is_busy)
    }

    /// Whether somebody was in the way, and how many frames the WAL has.
    fn checkpoint(&self, sql: &str) -> Result<(bool, i64), Ended> {
        let sqlite = self.applier.applier().connection().sqlite();
        let done = sqlite.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)? != 0, row.get(1)?)));
        match done.map_err(SqliteError::from) {
            Err(error) if error.is_busy() => Ok((true, 0)),
            done => done.map_err(|error| self.sqlite(error)),
        }
    }

    fn data_version(&self) -> Result<i64, Ended> {
        let sqlite = self.applier.applier().connection().sqlite();
        let version = sqlite.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|error| self.sqlite(error.into()))
    }

    fn execute(&self, sql: &str) -> Result<(), Ended> {
        self.applier.applier().connection().execute(sql).map_err(|source| self.sqlite(source))
    }

    fn sqlite(&self, source: SqliteError) -> Ended {
        ReplicaError::Sqlite { doing: "write", file: self.file.clone(), source }.into()
    }

    fn failed(&self, source: ApplyError) -> Ended {
        ReplicaError::Apply { file: self.file.clone(), source: Box::new(source) }.into()
    }
}

fn set_wal(connection: &Connection) -> Result<(), SqliteError> {
    connection.sqlite().pragma_update(None, "journal_mode", "WAL")?;
    Ok(())
}

/// Whose fault it is that a submission was not applied.
pub(crate) fn blame(file: &Path, sequence: Sequence, error: SubmissionError) -> Ended {
    if error.is_divergence() {
        HaltCause::Diverged { sequence, source: Divergence::Submission(error) }.into()
    } else {
        ReplicaError::Spool { file: file.to_owned(), source: Box::new(error) }.into()
    }
}

fn state_diverged(sequence: Sequence, expected: StateHash, found: StateHash, tables: Vec<String>) -> Ended {
    HaltCause::Diverged { sequence, source: Divergence::State { expected, found, tables } }.into()
}

/// The tables whose rows are not the same, or that are in one of the two only: the first [`TABLES_MAX`].
pub(crate) fn differing(expected: &RunningState, found: &RunningState) -> Vec<String> {
    let of = |state: &RunningState| state.table_digests().into_iter().collect::<BTreeMap<_, _>>();
    let (expected, found) = (of(expected), of(found));
    let other = expected.iter().filter(|(name, digest)| found.get(*name) != Some(digest));
    let more = found.keys().filter(|name| !expected.contains_key(*name));
    other.map(|(name, _)| name).chain(more).take(TABLES_MAX).cloned().collect()
}

/// A file that cannot be scanned: by whose fault?
fn unreadable(file: &Path, sequence: Sequence, source: ApplyError) -> Ended {
    if source.is_of_machine() && !source.is_of_damaged_file() {
        ReplicaError::Apply { file: file.to_owned(), source: Box::new(source) }.into()
    } else {
        HaltCause::Diverged { sequence, source: Divergence::Unreadable(source) }.into()
    }
}
