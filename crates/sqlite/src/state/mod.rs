//! What the state hash of one database covers, kept up to date as rows and schema change.
//!
//! The one slow part, a scan of every row, is done once. From then on a row costs two passes of BLAKE3 at most, and a hash the
//! digests of the tables that changed since the last one.
//!
//! - Everything a hash covers is here: two running states with the same content hash alike, however they came about.
//! - Changes can be taken back: what a save point has seen is kept until it is released.
//!
//! Knows nothing of commits, and does not check that what it is told happened.

pub(crate) mod hashing;
mod scan;
mod undo;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use synddb_protocol::hash::{StateHash, TableDigest};
use synddb_protocol::state::{StateHead, TableHash, Value};
use synddb_protocol::submission::TextEncoding;

use crate::connection::{Connection, SqliteError};
use crate::schema::{Identity, Layout, Objects, SchemaError};
pub(crate) use scan::table as scan_table;
use undo::Saved;

/// Why a database's state hash cannot be computed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StateError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The schema cannot be replicated.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A row without the identity that its table's layout promises, which no SQLite writes.
    #[error("a row has no rowid; run `PRAGMA integrity_check`. table=`{table}`")]
    NoRowid {
        /// The table.
        table: String,
    },
}

/// What the state hash of one database covers, kept up to date as rows and schema change.
#[derive(Debug, Clone)]
pub struct RunningState {
    encoding: TextEncoding,
    user_version: i32,
    application_id: i32,
    schema: Arc<Schema>,
    tables: BTreeMap<String, Rows>,
    head: OnceCell<StateHead>,
    saved: Vec<Saved>,
    serial: u64,
}

/// Schema and layouts, which change together.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) objects: Objects,
    pub(crate) layouts: BTreeMap<String, Layout>,
    /// The tables by the bytes of their names as stored, which is the order that the hash lists them in.
    order: BTreeMap<Vec<u8>, String>,
}

/// The accumulated rows of one table.
#[derive(Debug, Clone, Default)]
struct Rows {
    hash: TableHash,
    digest: OnceCell<TableDigest>,
    /// The save point that has seen this table last.
    seen: u64,
}

impl RunningState {
    /// By a full scan through SQLite, in the caller's read transaction.
    ///
    /// # Errors
    /// [`StateError`] when the database cannot be read, or its schema cannot be replicated.
    pub fn scan(connection: &Connection) -> Result<Self, StateError> {
        let mut state = Self::of_schema(connection)?;
        state.scan_rows(connection)?;
        Ok(state)
    }

    /// With the schema of a database, and no row.
    pub(crate) fn of_schema(connection: &Connection) -> Result<Self, StateError> {
        let objects = Objects::read(connection)?;
        let user_version = scan::number(connection, "user_version")?;
        let application_id = scan::number(connection, "application_id")?;
        Self::of_objects(objects, connection.encoding(), user_version, application_id)
    }

    /// With this schema, and no row.
    pub(crate) fn of_objects(
        objects: Objects,
        encoding: TextEncoding,
        user_version: i32,
        application_id: i32,
    ) -> Result<Self, StateError> {
        let mut layouts = BTreeMap::new();
        for table in objects.tables() {
            layouts.insert(table.name.clone(), Layout::of(table, encoding)?);
        }
        Ok(Self {
            encoding,
            user_version,
            application_id,
            schema: Arc::new(Schema::new(objects, layouts)),
            tables: BTreeMap::new(),
            head: OnceCell::new(),
            saved: Vec::new(),
            serial: 0,
        })
    }

    /// Accumulates the rows of every table.
    pub(crate) fn scan_rows(&mut self, connection: &Connection) -> Result<(), StateError> {
        let names: Vec<String> = self.schema.layouts.keys().cloned().collect();
        names.iter().try_for_each(|name| self.rescan_table(connection, name))
    }

    /// The state hash. Digests of tables that did not change since the last call are cached.
    pub fn hash(&self) -> StateHash {
        let head = self.head.get_or_init(|| {
            let rows = self.schema.objects.iter().map(|object| &object.row);
            StateHead::new(rows, self.encoding, self.user_version, self.application_id)
        });
        let empty = Rows::default();
        head.hash(self.schema.order.iter().map(|(stored, name)| {
            let rows = self.tables.get(name).unwrap_or(&empty);
            (stored.as_slice(), *rows.digest.get_or_init(|| rows.hash.digest()))
        }))
    }

    /// The name and the digest of each table that stores rows, in the order of their names' bytes. Cached as for [`RunningState::hash`].
    pub fn table_digests(&self) -> Vec<(String, TableDigest)> {
        let empty = Rows::default();
        let digest = |name: &String| {
            let rows = self.tables.get(name).unwrap_or(&empty);
            *rows.digest.get_or_init(|| rows.hash.digest())
        };
        self.schema.order.values().map(|name| (name.clone(), digest(name))).collect()
    }

    /// The text encoding of the database.
    pub fn encoding(&self) -> TextEncoding {
        self.encoding
    }

    /// The schema.
    pub fn objects(&self) -> &Objects {
        &self.schema.objects
    }

    /// Schema and layouts as they are now; they never change, they are replaced.
    pub(crate) fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema)
    }

    /// How a table (by UTF-8 name) lays out its rows.
    pub fn layout(&self, table: &str) -> Option<&Layout> {
        self.schema.layouts.get(table)
    }

    /// All layouts by UTF-8 table name.
    pub fn layouts(&self) -> &BTreeMap<String, Layout> {
        &self.schema.layouts
    }

    /// How every table of another schema lays out its rows. Only texts that are not the same here are asked about.
    ///
    /// # Errors
    /// [`SchemaError`] when a table cannot be replicated.
    pub(crate) fn layouts_of(&self, objects: &Objects) -> Result<BTreeMap<String, Layout>, SchemaError> {
        let mut layouts = BTreeMap::new();
        for object in objects.tables() {
            let here = self.objects().get(object.row.kind, &object.row.name);
            let is_known = here.is_some_and(|here| here.sql == object.sql);
            let layout = match self.layout(&object.name).filter(|_| is_known) {
                Some(layout) => layout.clone(),
                None => Layout::of(object, self.encoding)?,
            };
            layouts.insert(object.name.clone(), layout);
        }
        Ok(layouts)
    }

    /// The accumulated rows of a table, to be changed; made empty when the table is new.
    pub fn table(&mut self, table: &str) -> &mut TableHash {
        self.see(table);
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), Rows::default());
        }
        let rows = self.tables.get_mut(table).expect("it was just made");
        rows.digest.take();
        rows.seen = self.serial;
        &mut rows.hash
    }

    /// Replaces schema and layouts. Accumulated rows stay with tables whose name stays; those of names that are gone go.
    pub fn set_schema(&mut self, objects: Objects, layouts: BTreeMap<String, Layout>) {
        let gone: Vec<String> =
            self.tables.keys().filter(|name| !layouts.contains_key(*name)).cloned().collect();
        for name in gone {
            self.clear_table(&name);
        }
        self.schema = Arc::new(Schema::new(objects, layouts));
        self.head.take();
    }

    /// Tables got other names (old, new): their rows go with them, also when two tables swapped their names. Call it before
    /// `set_schema`, and once for all renames of a commit.
    pub fn rename_tables(&mut self, renames: &[(String, String)]) {
        let mut moved = Vec::new();
        for (old, new) in renames {
            self.see(old);
            self.see(new);
            moved.push((new, self.tables.remove(old)));
        }
        for (new, rows) in moved {
            if let Some(rows) = rows {
                self.tables.insert(new.clone(), rows);
            }
        }
    }

    /// Forgets the accumulated rows of a table (before a rebuild or rehash).
    pub fn clear_table(&mut self, table: &str) {
        self.see(table);
        self.tables.remove(table);
    }

    /// Accumulates a table's rows anew, by scanning it.
    ///
    /// # Errors
    /// [`StateError`] when the table cannot be read. A table without a layout has no rows.
    pub fn rescan_table(&mut self, connection: &Connection, table: &str) -> Result<(), StateError> {
        let Some(layout) = self.schema.layouts.get(table) else { return Ok(()) };
        let hash = scan::table(connection, layout)?;
        *self.table(table) = hash;
        Ok(())
    }

    /// `PRAGMA user_version`.
    pub fn user_version(&self) -> i32 {
        self.user_version
    }

    /// Sets what `PRAGMA user_version` is.
    pub fn set_user_version(&mut self, value: i32) {
        self.user_version = value;
        self.head.take();
    }

    /// `PRAGMA application_id`.
    pub fn application_id(&self) -> i32 {
        self.application_id
    }

    /// Sets what `PRAGMA application_id` is.
    pub fn set_application_id(&mut self, value: i32) {
        self.application_id = value;
        self.head.take();
    }
}

impl Schema {
    fn new(objects: Objects, layouts: BTreeMap<String, Layout>) -> Self {
        let order = objects.tables().map(|table| (table.row.name.clone(), table.name.clone())).collect();
        Self { objects, layouts, order }
    }
}

/// The rowid that is part of a row's element, given all the values of a changeset row, and the columns' values.
///
/// `None` when the value in the rowid's place is no integer.
pub(crate) fn element<'s, 'v>(
    layout: &Layout,
    values: &'s [Value<'v>],
) -> Option<(Option<i64>, &'s [Value<'v>])> {
    let (rowid, columns) = match layout.identity {
        Identity::Key { .. } => return Some((None, values)),
        Identity::Rowid { .. } => values.split_first()?,
        Identity::IntegerKey { column } => (values.get(column)?, values),
    };
    match rowid {
        Value::Integer(rowid) => Some((Some(*rowid), columns)),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    }
}
