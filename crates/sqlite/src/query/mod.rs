//! Queries of strangers: one statement that reads, within bounds, over one committed state.
//!
//! ```text
//! Reading::open: own connection, read transaction --> trusted reads --> query: guard.rs closes the doors --> rows
//! ```
//!
//! Each query has a connection of its own, opened only to read and closed with its answer, so that nothing of one is left for the
//! next. What SQL may do is what is listed in `guard.rs`, and nothing else. What must stay true:
//!
//! - The file is not changed, and no other file is opened: none is made to sort in.
//! - No code of a schema or an extension runs but SQLite's own harmless functions: no trigger, no virtual table.
//! - Tables whose names begin with `_synddb` are not read. Their names and definitions are in `sqlite_schema`, and can be seen there.
//! - An answer ends at its bounds of rows, bytes and time; one value is bounded before it is made, and so is the number of values
//!   that are held at a time.
//! - What SQLite allocates for a query has one bound, and nothing of it goes to disk: it sorts in memory (`memory.rs`).
//! - No function call takes long by itself, since SQLite cannot be interrupted inside one: values are short, and functions whose time
//!   grows faster than a value are bounded (`functions.rs`) or refused (`guard.rs`).

mod functions;
pub(crate) mod guard;
mod memory;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{OpenFlags, ffi};
use synddb_protocol::state;
use synddb_protocol::submission::TextEncoding;

use crate::connection::{Connection, PATIENCE, SqliteError};
use crate::schema::to_text;

/// Longest SQL text of a query, in bytes. Long values are parameters.
pub const SQL_BYTES_MAX: usize = 16 << 10;
/// Longest value that a query reads or computes, in bytes: also the longest row of a table that it reads.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most parameters of a query.
pub const PARAMETERS_MAX: usize = 1000;

/// Instructions of SQLite's machine between two looks at the clock, where nothing of a stranger is computed.
const INSTRUCTIONS: i32 = 1000;

/// What one query may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows of the answer.
    pub rows: usize,
    /// Most bytes of the answer. A value on the way to it has no more either, nor more than [`VALUE_BYTES_MAX`].
    pub bytes: usize,
    /// Longest time. A sort that has begun is finished, which takes as long as its memory lets it.
    pub time: Duration,
    /// Most bytes that SQLite allocates at a time, for all that a query sorts, keeps and computes.
    pub memory: usize,
}

impl Limits {
    fn value_bytes(&self) -> usize {
        self.bytes.min(VALUE_BYTES_MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 10_000, bytes: 8 << 20, time: Duration::from_secs(5), memory: 64 << 20 }
    }
}

/// What to do with an answer that is larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// Refuse it.
    Refuse,
    /// Answer the rows that fit, and say so.
    Truncate,
}

/// A value in an answer or a parameter. Text is UTF-8 where the database is; of a database in UTF-16 it is what SQLite converts it to.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
    /// TEXT whose bytes are no UTF-8.
    Bytes(Vec<u8>),
    /// BLOB.
    Blob(Vec<u8>),
}

impl Cell {
    /// A stored value, of a database in this encoding.
    pub fn of(value: state::Value<'_>, encoding: TextEncoding) -> Self {
        match value {
            state::Value::Null => Self::Null,
            state::Value::Integer(value) => Self::Integer(value),
            state::Value::Real(value) => Self::Real(value),
            state::Value::Text(bytes) => {
                to_text(bytes, encoding).map_or_else(|_| Self::Bytes(bytes.to_vec()), Self::Text)
            }
            state::Value::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

/// What a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
    /// Whether more rows were found than fit.
    pub truncated: bool,
    /// The most bytes that SQLite had allocated for it at a time.
    pub memory: usize,
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is not one statement that reads what may be read.
    #[error("a query is one statement that reads: {what}")]
    NotARead {
        /// What it is, or what it names.
        what: String,
    },
    /// SQLite does not understand it, or it fails on the data that it meets.
    #[error("{0}")]
    Sql(SqliteError),
    /// It takes another number of parameters than were given.
    #[error("the query takes another number of parameters. expected=`{expected}` found=`{found}`")]
    Parameters {
        /// How many it takes.
        expected: usize,
        /// How many there were.
        found: usize,
    },
    /// The text, a value or the answer is over its bound.
    #[error("the query is too large: {what}. limit=`{limit}`")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// It took too long.
    #[error("the query takes too long; ask for less. limit_ms=`{}`", limit.as_millis())]
    TooSlow {
        /// The bound.
        limit: Duration,
    },
    /// The file cannot be read.
    #[error("the replica cannot be read")]
    Unreadable(#[source] SqliteError),
    /// SQLite was in use before its memory could be counted.
    #[error(
        "the memory of queries cannot be bounded in this process; start the `synddb` command, or let nothing use SQLite before `main`"
    )]
    Uncounted,
}

/// One committed state of a database, for one query.
pub struct Reading {
    sqlite: rusqlite::Connection,
    is_over: IsOver,
}

/// Whether nobody waits for the answer any more.
type IsOver = Box<dyn Fn() -> bool + Send>;

impl Reading {
    /// Opens a database and begins to read its last committed state.
    ///
    /// # Errors
    /// [`QueryError::Unreadable`].
    pub fn open(path: &Path) -> Result<Self, QueryError> {
        Self::begin(path).map_err(|error| QueryError::Unreadable(error.into()))
    }

    fn begin(path: &Path) -> rusqlite::Result<Self> {
        // SQLite takes names that begin with `file:` for URIs; a whole path never does.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sqlite = rusqlite::Connection::open_with_flags(path, flags)?;
        sqlite.busy_timeout(PATIENCE)?;
        guard::harden(&sqlite)?;
        sqlite.execute_batch("PRAGMA query_only = ON; BEGIN")?;
        // The transaction begins with the first page that is read, and the schema is read before any limit is set.
        sqlite.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Self { sqlite, is_over: Box::new(|| false) })
    }

    /// The connection, for what its owner reads of the same state. Not for SQL of strangers.
    pub const fn trusted(&self) -> &rusqlite::Connection {
        &self.sqlite
    }

    /// The same, ended as soon as somebody says that nobody waits for the answer any more.
    #[must_use]
    pub fn until(self, is_over: impl Fn() -> bool + Send + 'static) -> Self {
        Self { is_over: Box::new(is_over), ..self }
    }

    /// The same state, for questions that are not SQL. Statements are interrupted once the time is over, or `is_over` says so.
    ///
    /// # Errors
    /// [`QueryError::Unreadable`].
    pub fn into_bounded(
        mut self,
        time: Duration,
        is_over: impl Fn() -> bool + Send + 'static,
    ) -> Result<Connection, QueryError> {
        let unreadable = |error: rusqlite::Error| QueryError::Unreadable(error.into());
        let end = Instant::now() + time;
        let handler = move || is_over() || Instant::now() >= end;
        self.sqlite.progress_handler(INSTRUCTIONS, Some(handler)).map_err(unreadable)?;
        Connection::over(self.sqlite).map_err(QueryError::Unreadable)
    }

    /// Answers one query of a stranger.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn query(
        self,
        sql: &str,
        parameters: &[Cell],
        limits: Limits,
        oversize: Oversize,
    ) -> Result<Answer, QueryError> {
        if sql.len() > SQL_BYTES_MAX {
            return Err(QueryError::TooLarge { what: "bytes of SQL", limit: SQL_BYTES_MAX });
        }
        if parameters.len() > PARAMETERS_MAX {
            return Err(QueryError::TooLarge { what: "parameters", limit: PARAMETERS_MAX });
        }
        let Self { mut sqlite, is_over } = self;
        let counting = memory::Counting::begin(limits.memory).ok_or(QueryError::Uncounted)?;
        let refusals = guard::close(&mut sqlite, limits, is_over)
            .map_err(|error| QueryError::Unreadable(error.into()))?;
        let sort = |error| sorted(error, limits, &refusals);
        let mut statement = match sqlite.prepare(sql) {
            Err(rusqlite::Error::MultipleStatement) => {
                return Err(QueryError::NotARead { what: "there are several".to_owned() });
            }
            prepared => prepared.map_err(sort)?,
        };
        if statement.column_count() == 0 || !statement.readonly() {
            return Err(QueryError::NotARead { what: "this one answers no rows".to_owned() });
        }
        if !guard::fits(&statement) {
            return Err(QueryError::NotARead {
                what: "this one is too long a program; ask for less at a time".to_owned(),
            });
        }
        let (expected, found) = (statement.parameter_count(), parameters.len());
        if expected != found {
            return Err(QueryError::Parameters { expected, found });
        }
        for (place, cell) in (1..).zip(parameters) {
            bind(&mut statement, place, cell).map_err(sort)?;
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut room = Room { left: limits.bytes, limits };
        let mut rows = Vec::new();
        let mut stepping = statement.raw_query();
        while let Some(row) = stepping.next().map_err(sort)? {
            // Text in UTF-16 is converted as it is read, and rusqlite does not bear that memory is refused there. What the answer has room
            // for bounds it.
            let taken = counting.unrefused(|| room.row(row, columns.len(), rows.len())).map_err(sort)?;
            match (taken, oversize) {
                (Ok(cells), _) => rows.push(cells),
                (Err(_), Oversize::Truncate) => {
                    return Ok(Answer { columns, rows, truncated: true, memory: counting.most() });
                }
                (Err(error), Oversize::Refuse) => return Err(error),
            }
        }
        Ok(Answer { columns, rows, truncated: false, memory: counting.most() })
    }
}

/// Room that is left in an answer.
struct Room {
    left: usize,
    limits: Limits,
}

impl Room {
    /// Takes a row into the answer if it fits.
    fn row(
        &mut self,
        row: &rusqlite::Row<'_>,
        columns: usize,
        taken: usize,
    ) -> rusqlite::Result<Result<Vec<Cell>, QueryError>> {
        if taken == self.limits.rows {
            return Ok(Err(QueryError::TooLarge { what: "rows of the answer", limit: self.limits.rows }));
        }
        let mut cells = Vec::with_capacity(columns);
        for column in 0..columns {
            let value = row.get_ref(column)?;
            let Some(left) = self.left.checked_sub(size(value)) else {
                return Ok(Err(QueryError::TooLarge {
                    what: "bytes of the answer",
                    limit: self.limits.bytes,
                }));
            };
            self.left = left;
            cells.push(cell(value));
        }
        Ok(Ok(cells))
    }
}

/// What a value takes in memory, about.
fn size(value: ValueRef<'_>) -> usize {
    size_of::<Cell>()
        + match value {
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        }
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Real(value),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Bytes(bytes.to_vec()),
        },
        ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, place: usize, cell: &Cell) -> rusqlite::Result<()> {
    match cell {
        Cell::Null => statement.raw_bind_parameter(place, Value::Null),
        Cell::Integer(value) => statement.raw_bind_parameter(place, value),
        Cell::Real(value) => statement.raw_bind_parameter(place, value),
        Cell::Text(text) => statement.raw_bind_parameter(place, text),
        Cell::Bytes(bytes) => {
            let text = rusqlite::types::ToSqlOutput::Borrowed(ValueRef::Text(bytes));
            statement.raw_bind_parameter(place, text)
        }
        Cell::Blob(bytes) => statement.raw_bind_parameter(place, bytes),
    }
}

/// What an error of SQLite means to whoever asked.
fn sorted(error: rusqlite::Error, limits: Limits, refusals: &guard::Refusals) -> QueryError {
    if let Some(what) = refusals.first() {
        return QueryError::NotARead { what };
    }
    let error = SqliteError::from(error);
    match error.primary() {
        ffi::SQLITE_INTERRUPT => QueryError::TooSlow { limit: limits.time },
        ffi::SQLITE_TOOBIG => {
            QueryError::TooLarge { what: "bytes of one value", limit: limits.value_bytes() }
        }
        ffi::SQLITE_NOMEM => QueryError::TooLarge { what: "bytes of memory", limit: limits.memory },
        ffi::SQLITE_AUTH => QueryError::NotARead { what: error.message().to_owned() },
        // What the text or the data does, not the file.
        ffi::SQLITE_ERROR | ffi::SQLITE_MISMATCH | ffi::SQLITE_RANGE | ffi::SQLITE_READONLY => {
            QueryError::Sql(error)
        }
        _ => QueryError::Unreadable(error),
    }
}

/// When a query has to be done.
fn deadline(limits: Limits) -> Instant {
    Instant::now() + limits.time
}
