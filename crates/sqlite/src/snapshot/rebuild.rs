//! What SQLite does to a restored file before anybody uses it.
//!
//! The file may be made to harm: no trigger runs, no view is read, no virtual table is opened, functions in its schema are held
//! to the harmless ones, and to none at all until its state is the one that is claimed, and cell sizes are checked as pages are read.

use std::path::Path;
use std::sync::Arc;

use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;
use synddb_protocol::hash::StateHash;
use synddb_protocol::state::Value;
use synddb_protocol::submission::ObjectKind;

use super::inert::make_inert;
use super::marks::{self, Root};
use super::pages::Geometry;
use super::source::FilePages;
use super::{RestoreError, SnapshotError, clean};
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Object, Objects, SchemaError, from_text, is_outside};
use crate::state::{RunningState, StateError};

/// Whether whoever asked for something does not want it any more.
pub(super) type IsOver = Arc<dyn Fn() -> bool + Send + Sync>;

/// Instructions of SQLite's machine between two looks at whether it is over. One of them may be a function call over a whole value.
const INSTRUCTIONS: i32 = 100;

/// Drops what is outside of what is replicated and finds out whether the rest is the state that is claimed. The schema is part of the state:
/// nothing that it says is computed before.
///
/// Rows are read from the trees of their tables, which no index can stand in for.
pub(super) fn prove(
    path: &Path,
    pages: &mut FilePages<'_>,
    geometry: Geometry,
    expected: StateHash,
    is_over: &IsOver,
) -> Result<RunningState, RestoreError> {
    // SQLite reads a page for every pointer to it. A small file in which many lead to one would keep it busy for as long as its maker likes.
    // The schema's own tree is looked at before SQLite reads it.
    marks::walk(pages, geometry, &[]).map_err(refused)?;
    let connection = open(path, Schema::Unproven, is_over)?;
    if computes_in_own_tables(&connection)? {
        return Err(RestoreError::Invalid {
            what: "one of SQLite's own tables has an index or computes a column",
        });
    }
    let roots = clean::roots(&connection).map_err(refused)?;
    let roots: Vec<Root> = roots.into_iter().map(|root| Root { outside: false, ..root }).collect();
    marks::walk(pages, geometry, &roots).map_err(refused)?;
    connection.execute(NO_JOURNAL)?;
    drop_outside(&connection)?;
    if !outside(&connection)?.is_empty() {
        // The hash does not cover it, and it would be there when indexes are rebuilt.
        return Err(RestoreError::Invalid { what: "something of its schema cannot be dropped" });
    }
    drop(connection);
    let state = scan(path, Schema::Unproven, is_over)?;
    let found = state.hash();
    if found == expected { Ok(state) } else { Err(RestoreError::State { expected, found }) }
}

/// Rebuilds every index of a file whose state is proven, and has SQLite check the whole of it.
///
/// The rows stay those that were hashed: rebuilding writes into pages of indexes and free ones, and where one of those is also a table's, the
/// check finds that two places name it.
pub(super) fn rebuild(path: &Path, is_over: &IsOver) -> Result<(), RestoreError> {
    let connection = open(path, Schema::Proven, is_over)?;
    connection.execute(NO_JOURNAL)?;
    reindex(&connection)?;
    check(&connection)?.map_or(Ok(()), |found| Err(RestoreError::Damaged { found }))
}

/// A failure removes the file.
const NO_JOURNAL: &str = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF";

/// What a look at a whole file found.
#[derive(Debug)]
pub struct Examined {
    /// Its state, by a full scan.
    pub state: RunningState,
    /// What `PRAGMA integrity_check` found first; `None` when it found nothing.
    pub damage: Option<String>,
}

/// Has SQLite check a whole database that nobody else has open, and scans its state, through connections that remember nothing of it. Its rows
/// and pages may be made to harm, as those of one that is restored; its schema is one that somebody vouched for, since the check computes what it
/// says. It is in rollback-journal mode, and is as before afterwards.
///
/// # Errors
/// [`RestoreError::Sqlite`] and [`RestoreError::Scan`] when it cannot be read.
pub fn examine(path: &Path) -> Result<Examined, RestoreError> {
    let is_over: IsOver = Arc::new(|| false);
    let damage = check(&open(path, Schema::Proven, &is_over)?)?;
    Ok(Examined { state: scan(path, Schema::Proven, &is_over)?, damage })
}

/// Why a file cannot be restored whose pages cannot be walked.
pub(super) fn refused(error: SnapshotError) -> RestoreError {
    match error {
        SnapshotError::Sqlite(error) => error.into(),
        SnapshotError::Schema(error) => error.into(),
        SnapshotError::Damaged { what, .. } => RestoreError::Invalid { what },
        SnapshotError::NoTransaction
        | SnapshotError::Moved
        | SnapshotError::TooLarge { .. }
        | SnapshotError::Chunk(_) => RestoreError::Invalid { what: "its pages cannot be read" },
    }
}

/// The state of the file, by a full scan.
fn scan(path: &Path, schema: Schema, is_over: &IsOver) -> Result<RunningState, RestoreError> {
    // Another connection than the one that wrote: what it hashes is what the file says, not what the other one remembers.
    let connection = open(path, schema, is_over)?;
    connection
        .sqlite()
        .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
        .map_err(SqliteError::from)?;
    connection.execute("PRAGMA query_only = ON; BEGIN").map_err(StateError::from)?;
    let state = RunningState::scan(&connection)?;
    connection.execute("COMMIT")?;
    Ok(state)
}

/// Whether somebody vouches for a file's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    Unproven,
    Proven,
}

fn open(path: &Path, schema: Schema, is_over: &IsOver) -> Result<Connection, SqliteError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut sqlite = rusqlite::Connection::open_with_flags(path, flags)?;
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
    ] {
        sqlite.set_db_config(option, on)?;
    }
    let is_over = Arc::clone(is_over);
    sqlite.progress_handler(INSTRUCTIONS, Some(move || is_over()))?;
    if schema == Schema::Unproven {
        make_inert(&sqlite)?;
    }
    // Rows that break a CHECK constraint are the application's, as are those that break a foreign key.
    sqlite.execute_batch("PRAGMA cell_size_check = ON; PRAGMA ignore_check_constraints = ON")?;
    Connection::over(sqlite)
}

/// Drops `sqlite_stat*` and `_synddb*`, whose content no snapshot has.
fn drop_outside(connection: &Connection) -> Result<(), RestoreError> {
    let outside = outside(connection)?;
    // A virtual table cannot be dropped without its module, so that only its row goes; its shadow tables have the same prefix.
    if outside.iter().any(Object::is_virtual) {
        connection.execute("PRAGMA writable_schema = ON")?;
        let sql = "DELETE FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND (rootpage IS NULL OR rootpage = 0)";
        for object in outside.iter().filter(|object| object.is_virtual()) {
            let name = from_text(&object.name, connection.encoding());
            connection.prepare(sql)?.execute(&[Value::Text(&name)])?;
        }
        connection.execute("PRAGMA writable_schema = RESET")?;
    }
    for (kind, word) in [
        (ObjectKind::Trigger, "TRIGGER"),
        (ObjectKind::View, "VIEW"),
        (ObjectKind::Index, "INDEX"),
        (ObjectKind::Table, "TABLE"),
    ] {
        // An index without SQL is its table's and goes with it.
        let droppable = |object: &&Object| object.row.kind == kind && object.sql.is_some();
        for object in outside.iter().filter(droppable).filter(|object| !object.is_virtual()) {
            connection.execute(&format!("DROP {word} IF EXISTS main.{}", quoted(&object.name)))?;
        }
    }
    Ok(())
}

/// Whether a table that SQLite writes by itself when something is dropped has an index or computes a column, which no SQLite makes. It would be
/// computed with SQLite's own functions whatever stands in their place, and an index of the schema would say what the schema is.
fn computes_in_own_tables(connection: &Connection) -> Result<bool, SqliteError> {
    const OWN: [&str; 6] =
        ["sqlite_schema", "sqlite_sequence", "sqlite_stat1", "sqlite_stat2", "sqlite_stat3", "sqlite_stat4"];
    for table in OWN {
        let sqlite = connection.sqlite();
        if sqlite.prepare(&format!("PRAGMA main.index_list({table})"))?.exists([])? {
            return Ok(true);
        }
        let mut columns = sqlite.prepare(&format!("PRAGMA main.table_xinfo({table})"))?;
        let mut columns = columns.query([])?;
        while let Some(column) = columns.next()? {
            if column.get::<_, i64>("hidden")? != 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn outside(connection: &Connection) -> Result<Vec<Object>, SchemaError> {
    let mut outside = Vec::new();
    let sql = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema";
    connection.prepare(sql)?.query::<SchemaError>(&[], |row| {
        let object = Object::from_columns(0, &row.values(), connection.encoding())?;
        if is_outside(&object.name) || is_outside(&object.table) {
            outside.push(object);
        }
        Ok(())
    })?;
    Ok(outside)
}

/// Rebuilds every index from the rows, so that no index of whoever made the snapshot answers a query.
fn reindex(connection: &Connection) -> Result<(), RestoreError> {
    let objects = Objects::read(connection)?;
    for index in objects.iter().filter(|object| object.row.kind == ObjectKind::Index) {
        // With the schema's name in front, so that an index called like a collation is not taken for it.
        let rebuilt = connection.execute(&format!("REINDEX main.{}", quoted(&index.name)));
        rebuilt.map_err(|source| RestoreError::Index { name: index.name.clone(), source })?;
    }
    Ok(())
}

/// What `PRAGMA integrity_check` finds first, if anything. It would open virtual tables: their rows in the
/// schema are taken away while it runs.
fn check(connection: &Connection) -> Result<Option<String>, SqliteError> {
    // The journal is what gives the rows back.
    connection.execute("PRAGMA journal_mode = MEMORY; BEGIN IMMEDIATE; PRAGMA writable_schema = ON")?;
    connection.execute("DELETE FROM sqlite_schema WHERE type = 'table' AND ifnull(rootpage, 0) = 0")?;
    connection.execute("PRAGMA writable_schema = RESET")?;
    let found: Result<String, _> =
        connection.sqlite().query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    let found = found.map_err(SqliteError::from)?;
    connection.execute("ROLLBACK")?;
    Ok((found != "ok").then_some(found))
}
