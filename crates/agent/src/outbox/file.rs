//! The outbox's file: one row that says where everything stands, and the submissions.
//!
//! ```text
//! place        one row: stream, incarnation, position in the WAL, the chain's tail, the next submission's id
//! submissions  id (dense), what it holds, digest of its last commit or part, exact bytes
//! ```
//!
//! The journal is a WAL: keeping a poll costs one fsync instead of four. `locking_mode=EXCLUSIVE` holds the file's lock from
//! the first read to the last close, so a second process is refused by the kernel, and a killed owner leaves no lock behind. The
//! price is that nobody can look inside meanwhile.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use synddb_protocol::hash::{CommitDigest, StateHash};
use synddb_protocol::id::{
    CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce, PartIndex, StreamId,
};
use synddb_sqlite::capture::WalPosition;
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::rusqlite::{self, OpenFlags, OptionalExtension as _, Row, ffi, params};

use super::packing::{Holds, Sealed, Tail};
use super::{Held, OutboxError, SubmissionId};

/// `PRAGMA application_id` of an outbox: "SOut".
const APPLICATION: i64 = 0x534f_7574;

/// `PRAGMA user_version`: the form of the tables.
const FORM: i64 = 1;

const TABLES: &str = "
    CREATE TABLE place (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        stream BLOB NOT NULL,
        incarnation INTEGER NOT NULL,
        nonce BLOB NOT NULL,
        position BLOB NOT NULL,
        next_commit INTEGER NOT NULL,
        last_digest BLOB NOT NULL,
        state BLOB NOT NULL,
        next_submission INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE submissions (
        id INTEGER PRIMARY KEY,
        first_commit INTEGER NOT NULL,
        last_commit INTEGER NOT NULL,
        part INTEGER,
        is_last INTEGER NOT NULL,
        digest BLOB NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
";

/// What the row of `place` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) stream: StreamId,
    pub(super) incarnation: Incarnation,
    pub(super) position: WalPosition,
    pub(super) tail: Tail,
    /// The id of the next submission.
    pub(super) next: SubmissionId,
}

pub(super) struct File {
    sqlite: rusqlite::Connection,
    path: PathBuf,
}

impl File {
    /// Makes the file and its first row, durably.
    pub(super) fn create(path: &Path, place: &Place) -> Result<Self, OutboxError> {
        let exists = || OutboxError::Exists { file: path.to_owned() };
        // For its owner only; SQLite gives the files beside it the same mode. What keeps it from being made is told by SQLite.
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).ok();
        let file = match Self::open_owned(path, OpenFlags::SQLITE_OPEN_CREATE) {
            Err(OutboxError::Foreign { .. }) => return Err(exists()),
            opened => opened?,
        };
        // A database without content is what a crash in this function leaves, and is begun again. Only its owner is here.
        let empty = "SELECT count(*) = 0 FROM sqlite_schema";
        if file.integer(empty)? == 0 || file.integer("PRAGMA application_id")? != 0 {
            return Err(exists());
        }
        file.begin()?;
        file.sqlite.execute_batch(TABLES).map_err(SqliteError::from)?;
        file.sqlite.pragma_update(None, "application_id", APPLICATION).map_err(SqliteError::from)?;
        file.sqlite.pragma_update(None, "user_version", FORM).map_err(SqliteError::from)?;
        file.write_place(place)?;
        file.commit()?;
        Ok(file)
    }

    /// Opens what `create` made.
    pub(super) fn open(path: &Path) -> Result<Self, OutboxError> {
        match path.metadata() {
            Ok(file) if file.is_file() => {}
            Ok(_) => return Err(OutboxError::Foreign { file: path.to_owned() }),
            Err(_) => return Err(OutboxError::Missing { file: path.to_owned() }),
        }
        let file = Self::open_owned(path, OpenFlags::empty())?;
        if file.integer("PRAGMA application_id")? != APPLICATION {
            return Err(OutboxError::Foreign { file: path.to_owned() });
        }
        match file.integer("PRAGMA user_version")? {
            FORM => Ok(file),
            ..FORM => Err(file.damaged("its form")),
            found => Err(OutboxError::Newer { supported: FORM, found, file: path.to_owned() }),
        }
    }

    fn open_owned(path: &Path, flags: OpenFlags) -> Result<Self, OutboxError> {
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> Result<rusqlite::Connection, SqliteError> {
            let sqlite = rusqlite::Connection::open_with_flags(path, flags)?;
            sqlite.busy_timeout(std::time::Duration::ZERO)?;
            sqlite.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            // The first access to the file: here the lock is taken.
            sqlite.pragma_update(None, "journal_mode", "WAL")?;
            sqlite.pragma_update(None, "synchronous", "FULL")?;
            sqlite.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(sqlite)
        };
        let sqlite = open().map_err(|error| match error.primary() {
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => OutboxError::Owned { file: path.to_owned() },
            ffi::SQLITE_NOTADB => OutboxError::Foreign { file: path.to_owned() },
            _ => error.into(),
        })?;
        Ok(Self { sqlite, path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn begin(&self) -> Result<(), OutboxError> {
        self.run("BEGIN IMMEDIATE")
    }

    /// Returns when the transaction would survive a power cut.
    pub(super) fn commit(&self) -> Result<(), OutboxError> {
        self.run("COMMIT")?;
        #[cfg(test)]
        if failing::fails(&self.path) {
            // SQLite refuses this, so it is an error of SQLite.
            return self.run("COMMIT");
        }
        Ok(())
    }

    /// Gives the transaction up. One that SQLite gave up by itself is gone already.
    pub(super) fn rollback(&self) -> Result<(), OutboxError> {
        if self.sqlite.is_autocommit() { Ok(()) } else { self.run("ROLLBACK") }
    }

    pub(super) fn write_place(&self, place: &Place) -> Result<(), OutboxError> {
        let sql = "INSERT OR REPLACE INTO place VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)";
        let Place { stream, incarnation, position, tail, next } = place;
        let mut statement = self.sqlite.prepare_cached(sql).map_err(SqliteError::from)?;
        let values = params![
            stream.as_bytes(),
            stored(incarnation.counter.get()),
            incarnation.nonce.as_bytes(),
            position.to_bytes(),
            stored(tail.next.get()),
            tail.last.as_bytes(),
            tail.state.as_bytes(),
            stored(next.get()),
        ];
        statement.execute(values).map_err(SqliteError::from)?;
        Ok(())
    }

    pub(super) fn read_place(&self) -> Result<Place, OutboxError> {
        let sql =
            "SELECT stream, incarnation, nonce, position, next_commit, last_digest, state, next_submission
                   FROM place WHERE only = 1";
        let found = self.sqlite.query_row(sql, [], |row| {
            Ok(PlaceRow {
                stream: row.get(0)?,
                counter: row.get(1)?,
                nonce: row.get(2)?,
                position: row.get(3)?,
                commit: row.get(4)?,
                digest: row.get(5)?,
                state: row.get(6)?,
                submission: row.get(7)?,
            })
        });
        let found = found.optional().map_err(|error| self.refused(error))?;
        found.and_then(PlaceRow::place).ok_or_else(|| self.damaged("where it stands"))
    }

    pub(super) fn insert(&self, id: SubmissionId, sealed: &Sealed) -> Result<(), OutboxError> {
        let (first, last, part, is_last) = match sealed.holds {
            Holds::Commits { first, last } => (first, last, None, true),
            Holds::Part { commit, index, is_last } => (commit, commit, Some(index.get()), is_last),
        };
        let sql = "INSERT INTO submissions VALUES (?, ?, ?, ?, ?, ?, ?)";
        let mut statement = self.sqlite.prepare_cached(sql).map_err(SqliteError::from)?;
        let (digest, body) = (sealed.digest.as_bytes(), &sealed.body);
        let values =
            params![stored(id.get()), stored(first.get()), stored(last.get()), part, is_last, digest, body];
        statement.execute(values).map_err(SqliteError::from)?;
        Ok(())
    }

    /// The first submission from `from` on and below `end`.
    pub(super) fn first(&self, from: SubmissionId, end: SubmissionId) -> Result<Option<Held>, OutboxError> {
        let sql = "SELECT id, first_commit, last_commit, part, is_last, digest, body
                   FROM submissions WHERE id >= ? AND id < ? ORDER BY id LIMIT 1";
        let mut statement = self.sqlite.prepare_cached(sql).map_err(SqliteError::from)?;
        let read = |row: &Row<'_>| {
            let holds = holds_of(row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            Ok((row.get::<_, i64>(0)?, holds, row.get(5)?, row.get(6)?))
        };
        let found = statement.query_row(params![stored(from.get()), stored(end.get())], read).optional();
        let Some((id, holds, digest, body)) = found.map_err(|error| self.refused(error))? else {
            return Ok(None);
        };
        let (Ok(id), Some(holds)) = (u64::try_from(id), holds) else {
            return Err(self.damaged("a submission"));
        };
        Ok(Some(Held { id: SubmissionId(id), holds, digest: CommitDigest::from_bytes(digest), body }))
    }

    /// What a submission holds.
    pub(super) fn holds(&self, id: SubmissionId) -> Result<Option<Holds>, OutboxError> {
        let sql = "SELECT first_commit, last_commit, part, is_last FROM submissions WHERE id = ?";
        let mut statement = self.sqlite.prepare_cached(sql).map_err(SqliteError::from)?;
        let read = |row: &Row<'_>| Ok(holds_of(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
        let found = statement.query_row(params![stored(id.get())], read).optional();
        Ok(found.map_err(|error| self.refused(error))?.flatten())
    }

    /// The digest of a submission.
    pub(super) fn digest(&self, id: SubmissionId) -> Result<Option<CommitDigest>, OutboxError> {
        let sql = "SELECT digest FROM submissions WHERE id = ?";
        let found = self.sqlite.query_row(sql, params![stored(id.get())], |row| row.get(0)).optional();
        Ok(found.map_err(|error| self.refused(error))?.map(CommitDigest::from_bytes))
    }

    /// How much the bodies up to `through` take, in bytes.
    pub(super) fn bytes_through(&self, through: SubmissionId) -> Result<u64, OutboxError> {
        let sql = "SELECT coalesce(sum(length(body)), 0) FROM submissions WHERE id <= ?";
        let bytes = self.sqlite.query_row(sql, params![stored(through.get())], |row| row.get::<_, i64>(0));
        u64::try_from(bytes.map_err(|error| self.refused(error))?).map_err(|_| self.damaged("sizes"))
    }

    /// Deletes all submissions up to `through`, durably.
    pub(super) fn delete_through(&self, through: SubmissionId) -> Result<(), OutboxError> {
        let mut statement =
            self.sqlite.prepare_cached("DELETE FROM submissions WHERE id <= ?").map_err(SqliteError::from)?;
        statement.execute(params![stored(through.get())]).map_err(SqliteError::from)?;
        Ok(())
    }

    /// The error that says what of the file is damaged.
    pub(super) fn damaged(&self, what: &'static str) -> OutboxError {
        OutboxError::Damaged { what, file: self.path.clone() }
    }

    /// Tells a value that nobody wrote here from a file that SQLite cannot read.
    fn refused(&self, error: rusqlite::Error) -> OutboxError {
        match SqliteError::from(error) {
            error if matches!(error.primary(), ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) => {
                self.damaged("pages")
            }
            error if error.code() == ffi::SQLITE_ERROR => self.damaged("a value has another type"),
            error => error.into(),
        }
    }

    fn integer(&self, sql: &str) -> Result<i64, OutboxError> {
        self.sqlite.query_row(sql, [], |row| row.get(0)).map_err(|error| self.refused(error))
    }

    fn run(&self, sql: &str) -> Result<(), OutboxError> {
        self.sqlite.execute_batch(sql).map_err(|error| SqliteError::from(error).into())
    }
}

/// The row of `place`, as read.
struct PlaceRow {
    stream: [u8; 32],
    counter: i64,
    nonce: [u8; 16],
    position: [u8; WalPosition::BYTES],
    commit: i64,
    digest: [u8; 32],
    state: [u8; 32],
    submission: i64,
}

impl PlaceRow {
    /// What it says; `None` when it says nothing possible.
    fn place(self) -> Option<Place> {
        let counter = IncarnationCounter::new(u64::try_from(self.counter).ok()?).ok()?;
        let tail = Tail {
            next: CommitNumber::new(u64::try_from(self.commit).ok()?).ok()?,
            last: CommitDigest::from_bytes(self.digest),
            state: StateHash::from_bytes(self.state),
        };
        Some(Place {
            stream: StreamId::from_bytes(self.stream),
            incarnation: Incarnation { counter, nonce: IncarnationNonce::from_bytes(self.nonce) },
            position: WalPosition::from_bytes(&self.position),
            tail,
            next: SubmissionId(u64::try_from(self.submission).ok()?),
        })
    }
}

/// What a submission holds by its columns; `None` when they say nothing possible.
fn holds_of(first: i64, last: i64, part: Option<u32>, is_last: bool) -> Option<Holds> {
    let number = |number: i64| CommitNumber::new(u64::try_from(number).ok()?).ok();
    let (first, last) = (number(first)?, number(last)?);
    match part {
        None => (is_last && first <= last).then_some(Holds::Commits { first, last }),
        Some(index) if first == last => {
            Some(Holds::Part { commit: first, index: PartIndex::new(index.into()).ok()?, is_last })
        }
        Some(_) => None,
    }
}

/// A counter as SQLite stores it. All of ours end below 2^63.
fn stored(counter: u64) -> i64 {
    i64::try_from(counter).unwrap_or(i64::MAX)
}

/// Has the next COMMIT of a file be durable and fail, as after an fsync that failed.
#[cfg(test)]
pub(crate) mod failing {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    static NEXT: Mutex<Option<PathBuf>> = Mutex::new(None);

    pub(crate) fn once(path: PathBuf) {
        *NEXT.lock().unwrap() = Some(path);
    }

    pub(super) fn fails(path: &Path) -> bool {
        NEXT.lock().unwrap().take_if(|next| next == path).is_some()
    }
}
