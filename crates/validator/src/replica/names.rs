//! How columns were called, and where reading of the log may begin, in the same file: written in the transaction that changes the contents.
//!
//! The last mark is the position's own, replaced with it. So a file that a release wrote which knows nothing of this is found out, and the names begin
//! anew where it stands. Both tables are outside of the state hash and of every comparison with the application's database.

use std::collections::BTreeMap;
use std::sync::Arc;

use synddb_protocol::id::Sequence;
use synddb_protocol::log::TrustedCheckpoint;
use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::connection::{Connection, SqliteError};
use synddb_sqlite::rusqlite::{self, params};
use synddb_sqlite::schema::Layout;

use crate::feed::history::{At, Change, History};
use crate::feed::marks::Marks;

/// What a replica knows of names and marks.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    history: Arc<History>,
    marks: Arc<Marks>,
    /// Changes that are not in the file.
    fresh: Vec<Change>,
    /// The size of the mark that goes with the position.
    tail: Option<u64>,
    /// Whether the file holds something else altogether.
    is_other: bool,
}

impl Names {
    /// Nothing is known of what was before.
    pub(crate) fn none() -> Self {
        Self::of(History::default(), Marks::none())
    }

    /// Everything is known of what comes, from the beginning of the log on.
    pub(crate) fn of_log() -> Self {
        Self::of(History::default(), Marks::of_log())
    }

    fn of(history: History, marks: Marks) -> Self {
        let (history, marks) = (Arc::new(history), Arc::new(marks));
        Self { history, marks, fresh: Vec::new(), tail: None, is_other: true }
    }

    /// The same for another file.
    pub(super) fn elsewhere(&self) -> Self {
        Self { fresh: Vec::new(), tail: None, is_other: true, ..self.clone() }
    }

    /// How columns were called.
    pub(super) const fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Where reading may begin.
    pub(super) const fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// The size of the log that the file was written at the last time.
    pub(super) const fn tail(&self) -> Option<u64> {
        self.tail
    }

    /// What the file holds; nothing where there is none of it, or what nobody could have written.
    pub(super) fn read(connection: &Connection) -> Result<Self, SqliteError> {
        connection.execute(
            "CREATE TABLE IF NOT EXISTS main._synddb_columns(
                 incarnation INTEGER NOT NULL,
                 commit_number INTEGER NOT NULL, -- 0: the snapshot that begins the incarnation
                 table_name TEXT NOT NULL,
                 sequence INTEGER NOT NULL,
                 columns TEXT, -- JSON; NULL where the table is gone
                 PRIMARY KEY(incarnation, commit_number, table_name)
             ) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS main._synddb_marks(size INTEGER PRIMARY KEY, checkpoint BLOB NOT NULL)",
        )?;
        Ok(read(connection.sqlite())?.unwrap_or_else(Self::none))
    }

    /// From `at` on these are the tables, by the message with this place.
    pub(super) fn note(
        &mut self,
        at: At,
        sequence: Sequence,
        layouts: &BTreeMap<String, Layout>,
        encoding: TextEncoding,
    ) {
        let changes = self.history.difference(at, sequence, layouts, encoding);
        if changes.is_empty() {
            return;
        }
        let history = Arc::make_mut(&mut self.history);
        for change in changes {
            history.add(change.clone());
            self.fresh.push(change);
        }
    }

    /// Reading may begin at this checkpoint, at which the file stands.
    pub(super) fn begin(&mut self, checkpoint: &TrustedCheckpoint) {
        Arc::make_mut(&mut self.marks).add(checkpoint.claim().size, &checkpoint.to_bytes());
    }

    /// Writes what is new with a position, in the transaction that is open. What came of messages behind the position was taken back.
    pub(super) fn write(
        &mut self,
        connection: &Connection,
        checkpoint: &TrustedCheckpoint,
    ) -> Result<(), SqliteError> {
        let (size, sqlite) = (checkpoint.claim().size, connection.sqlite());
        let bytes = checkpoint.to_bytes();
        let fresh = std::mem::take(&mut self.fresh);
        if self.fits() && !self.is_other {
            fresh
                .iter()
                .filter(|change| change.sequence <= size)
                .try_for_each(|change| insert(sqlite, change))?;
        } else {
            connection.execute("DELETE FROM main._synddb_columns; DELETE FROM main._synddb_marks")?;
            let known = self.history.changes().filter(|change| change.sequence <= size);
            known.into_iter().try_for_each(|change| insert(sqlite, change))?;
            self.marks.all().try_for_each(|(size, checkpoint)| mark(sqlite, size, checkpoint))?;
            (self.tail, self.is_other) = (None, false);
        }
        let mut gone: Vec<u64> = self.tail.into_iter().filter(|tail| !self.marks.has(*tail)).collect();
        if self.marks.is_due(size) {
            gone.extend(Arc::make_mut(&mut self.marks).add(size, &bytes));
        }
        let mut remove = sqlite.prepare_cached("DELETE FROM main._synddb_marks WHERE size = ?1")?;
        gone.iter().try_for_each(|size| remove.execute([size.cast_signed()]).map(drop))?;
        mark(sqlite, size.get(), &bytes)?;
        self.tail = Some(size.get());
        Ok(())
    }

    /// Forgets what is too old where there is too much. `false` when it did.
    fn fits(&mut self) -> bool {
        if !self.history.is_large() {
            return true;
        }
        if let Some(floor) = Arc::make_mut(&mut self.history).shrink() {
            Arc::make_mut(&mut self.marks).forget_before(floor);
        }
        false
    }
}

fn insert(sqlite: &rusqlite::Connection, change: &Change) -> rusqlite::Result<()> {
    let mut statement = sqlite.prepare_cached(
        "INSERT OR REPLACE INTO main._synddb_columns(incarnation, commit_number, table_name, sequence, columns)
         VALUES(?1, ?2, ?3, ?4, ?5)",
    )?;
    let columns = change.columns.as_ref().and_then(|columns| serde_json::to_string(&**columns).ok());
    let At { incarnation, commit } = change.at;
    statement.execute(params![
        incarnation.cast_signed(),
        commit.cast_signed(),
        change.table,
        change.sequence.get().cast_signed(),
        columns
    ])?;
    Ok(())
}

fn mark(sqlite: &rusqlite::Connection, size: u64, checkpoint: &[u8]) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO main._synddb_marks(size, checkpoint) VALUES(?1, ?2)";
    sqlite.prepare_cached(sql)?.execute(params![size.cast_signed(), checkpoint]).map(drop)
}

fn read(sqlite: &rusqlite::Connection) -> rusqlite::Result<Option<Names>> {
    let (mut history, mut marks) = (History::default(), Marks::none());
    let mut statement = sqlite.prepare(
        "SELECT incarnation, commit_number, table_name, sequence, columns FROM main._synddb_columns
         ORDER BY incarnation, commit_number, table_name",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let columns: Option<String> = row.get(4)?;
        let columns = columns.map(|json| serde_json::from_str(&json)).transpose();
        let (Ok(columns), Ok(sequence)) = (columns, Sequence::new(number(3)?)) else { return Ok(None) };
        let at = At { incarnation: number(0)?, commit: number(1)? };
        history.add(Change { at, sequence, table: row.get(2)?, columns: columns.map(Arc::new) });
    }
    let mut statement = sqlite.prepare("SELECT size, checkpoint FROM main._synddb_marks ORDER BY size")?;
    let mut rows = statement.query([])?;
    let mut tail: Option<(u64, Vec<u8>)> = None;
    while let Some(row) = rows.next()? {
        let size = row.get::<_, i64>(0)?.cast_unsigned();
        if let Some((size, checkpoint)) = tail.replace((size, row.get(1)?)) {
            marks.restore(size, checkpoint);
        }
    }
    // The last one is the position's; alone, it is where everything begins as well.
    let Some((size, checkpoint)) = tail else { return Ok(None) };
    if marks.first().is_none() {
        marks.restore(size, checkpoint);
    }
    let tail = Some(size);
    Ok(Some(Names {
        history: Arc::new(history),
        marks: Arc::new(marks),
        fresh: Vec::new(),
        tail,
        is_other: false,
    }))
}
