//! What of a schema cannot be followed, all of it, and which modules its virtual tables need.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use synddb_protocol::submission::ObjectKind;

use crate::connection::{Connection, SqliteError};
use crate::schema::{Layout, Object, Objects, SchemaError, check_indexes};

/// Most findings about one schema.
const FOUND_MAX: usize = 100;

/// A module of virtual tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// A table that is made of it.
    pub table: String,
    /// Its name; empty where the text does not compile.
    pub name: String,
    /// Whether our SQLite has it.
    pub is_known: bool,
}

/// Everything in a schema that following refuses, at most [`FOUND_MAX`] of it.
///
/// # Errors
/// [`SchemaError`] when the schema cannot be read at all.
pub fn cannot_follow(connection: &Connection) -> Result<Vec<SchemaError>, SchemaError> {
    let mut found = Vec::new();
    // What `Objects` leaves out, following refuses.
    let sql = "SELECT name FROM sqlite_schema WHERE lower(substr(name, 1, 7)) = '_synddb'";
    let mut reserved = connection.sqlite().prepare(sql).map_err(SqliteError::from)?;
    let names = reserved.query_map([], |row| row.get::<_, String>(0)).map_err(SqliteError::from)?;
    for name in names {
        found.push(SchemaError::Reserved { name: name.map_err(SqliteError::from)? });
    }
    let (objects, encoding) = (Objects::read(connection)?, connection.encoding());
    for table in objects.tables() {
        if let Err(error) = Layout::of(table, encoding) {
            found.push(error);
            continue;
        }
        // One at a time, since only the first one that does not compile is told.
        let indexes = objects
            .iter()
            .filter(|object| object.row.kind == ObjectKind::Index && object.row.table == table.row.name);
        for index in indexes {
            let alone = Objects::new([table.clone(), index.clone()]);
            found.extend(check_indexes(&alone, None, encoding).err());
        }
        if found.len() >= FOUND_MAX {
            break;
        }
    }
    found.truncate(FOUND_MAX);
    Ok(found)
}

/// The modules that the virtual tables of a schema need, each once.
///
/// # Errors
/// [`SchemaError`] when the schema cannot be read.
pub fn modules(connection: &Connection) -> Result<Vec<Module>, SchemaError> {
    let known: BTreeSet<String> = {
        let sqlite = connection.sqlite();
        let mut list = sqlite.prepare("PRAGMA module_list").map_err(SqliteError::from)?;
        let names = list.query_map([], |row| row.get::<_, String>(0)).map_err(SqliteError::from)?;
        names.collect::<Result<_, _>>().map_err(SqliteError::from)?
    };
    let mut modules: Vec<Module> = Vec::new();
    for table in Objects::read(connection)?.iter().filter(|object| object.is_virtual()) {
        let name = module_of(table)?.to_ascii_lowercase();
        if !modules.iter().any(|module| module.name == name) {
            let is_known = known.iter().any(|known| known.eq_ignore_ascii_case(&name));
            modules.push(Module { table: table.name.clone(), name, is_known });
        }
    }
    Ok(modules)
}

/// Asks SQLite which module a text names, by compiling it and never running it.
fn module_of(table: &Object) -> Result<String, SqliteError> {
    let mut scratch = rusqlite::Connection::open_in_memory()?;
    let named = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&named);
    let listen = move |context: AuthContext<'_>| {
        if let AuthAction::CreateVtable { module_name, .. } = context.action {
            module_name.clone_into(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Authorization::Allow
    };
    scratch.authorizer(Some(listen))?;
    // A text that does not compile names none.
    scratch.prepare(table.sql.as_deref().unwrap_or_default()).ok();
    let name = named.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(name)
}
