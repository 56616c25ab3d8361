//! What is in a database, in digests: its tables, runs of a table's rows, and rows one by one. Two databases that answer the same questions
//! find their first difference without sending each other everything.
//!
//! ```text
//! table.rs   how a table's rows are read in the order of their identity, and which conditions make a run of them
//! rows.rs    rows into runs and lists
//! values.rs  values between SQLite and JSON
//! ```
//!
//! Everything is read in the caller's read transaction and within the caller's bounds of time; memory is bounded by the schema, one row
//! and the answer. Two databases of one schema order their rows alike. What must stay true: the runs of an answer leave no row out and hold
//! none twice, so that their digests add up to the table's.
//!
//! Knows nothing of logs and of who asks.

mod rows;
mod table;
mod values;

use synddb_protocol::contents::{
    Contents, OBJECTS_MAX, Rows, RowsQuery, SQL_SHOWN_MAX, SchemaObject, TableContents,
};
use synddb_protocol::state::{StateHead, TableHash, Value};
use synddb_protocol::submission::ObjectKind;

use crate::connection::{Connection, SqliteError};
use crate::schema::{Layout, Objects, SchemaError, from_text};
use crate::state::{RunningState, StateError};
use table::Table;
pub use values::owned;

/// Why a question about contents has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The database cannot be read, or its schema cannot be replicated.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no such table that stores rows.
    #[error("there is no table of this name that stores rows. table=`{table}`")]
    NoTable {
        /// The table.
        table: String,
    },
    /// A key that no row of the table can have.
    #[error(
        "a key has one value for each column that orders the rows, and none is NULL. columns=`{columns}`"
    )]
    Key {
        /// How many columns order the rows.
        columns: usize,
    },
    /// There is too much to be told.
    #[error("the answer would be too large: {what}. limit=`{limit}`")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

impl ContentsError {
    /// Whether the time was over, or whoever asked has gone.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::State(StateError::Sqlite(error)) if error.primary() == rusqlite::ffi::SQLITE_INTERRUPT)
    }
}

impl From<SqliteError> for ContentsError {
    fn from(error: SqliteError) -> Self {
        Self::State(error.into())
    }
}

impl From<SchemaError> for ContentsError {
    fn from(error: SchemaError) -> Self {
        Self::State(error.into())
    }
}

/// What a database holds, by a scan of every row.
///
/// # Errors
/// [`ContentsError`] when it cannot be read.
pub fn contents(connection: &Connection) -> Result<Contents, ContentsError> {
    let mut state = RunningState::of_schema(connection)?;
    let mut tables = Vec::new();
    let layouts: Vec<Layout> = state.layouts().values().cloned().collect();
    for layout in &layouts {
        let (rows, hash) = Table::of(connection, layout)?.fold(connection)?;
        tables.push(TableContents { name: layout.name.clone(), rows, digest: hash.digest() });
        *state.table(&layout.name) = hash;
    }
    let (encoding, user_version, application_id) =
        (state.encoding(), state.user_version(), state.application_id());
    let objects = state.objects().iter().map(|object| &object.row);
    let head = StateHead::new(objects, encoding, user_version, application_id).hash([]);
    Ok(Contents { state: state.hash(), head, encoding, user_version, application_id, tables })
}

/// The schema of a database: tables, indexes, views, triggers, each kind by name.
///
/// # Errors
/// [`ContentsError`] when it cannot be read, or there are too many objects.
pub fn schema(connection: &Connection) -> Result<Vec<SchemaObject>, ContentsError> {
    let objects = Objects::read(connection)?;
    if objects.iter().count() > OBJECTS_MAX {
        return Err(ContentsError::TooLarge { what: "objects of the schema", limit: OBJECTS_MAX });
    }
    let told = objects.iter().map(|object| {
        let mut whole = TableHash::default();
        whole.add(None, [object.row.sql.as_deref().map_or(Value::Null, Value::Text)]);
        SchemaObject {
            kind: object.row.kind,
            name: object.name.clone(),
            table: object.table.clone(),
            sql: object.sql.as_ref().map(|sql| sql.chars().take(SQL_SHOWN_MAX).collect()),
            digest: whole.digest(),
        }
    });
    Ok(told.collect())
}

/// The rows that a query asks about: few are listed, many are cut into runs.
///
/// # Errors
/// [`ContentsError`] when there is no such table, a key is none of it, or it cannot be read.
pub fn rows(connection: &Connection, query: &RowsQuery) -> Result<Rows, ContentsError> {
    let objects = Objects::read(connection)?;
    let name = from_text(&query.table, connection.encoding());
    let object = objects.get(ObjectKind::Table, &name).filter(|object| object.stores_rows());
    let object = object.ok_or_else(|| ContentsError::NoTable { table: query.table.clone() })?;
    let layout = Layout::of(object, connection.encoding())?;
    let table = Table::of(connection, &layout)?;
    rows::answer(connection, &table, query)
}
