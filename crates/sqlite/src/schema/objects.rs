//! The rows of `sqlite_schema`.

use std::collections::BTreeMap;

use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, SchemaRow, TextEncoding};

use super::{SchemaError, to_text};
use crate::connection::Connection;

/// One row of `sqlite_schema` as one file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What the row says, the same in every copy of the database.
    pub row: SchemaRow,
    /// Its rowid in `sqlite_schema`: where a dump lists the object.
    pub place: i64,
    /// The root page in this file; 0 for what has no tree.
    pub root: u32,
    /// The name in UTF-8.
    pub name: String,
    /// The name of the table it belongs to, in UTF-8.
    pub table: String,
    /// The SQL in UTF-8; `None` for an index that SQLite made by itself.
    pub sql: Option<String>,
}

impl Object {
    /// The object that a row of `sqlite_schema` describes, from its columns `type, name, tbl_name, rootpage, sql`.
    ///
    /// # Errors
    /// [`SchemaError::Damaged`] when no SQLite writes such a row.
    pub fn from_columns(
        place: i64,
        columns: &[Value<'_>],
        encoding: TextEncoding,
    ) -> Result<Self, SchemaError> {
        const DAMAGED: SchemaError = SchemaError::Damaged { what: "a row of sqlite_schema has no such form" };
        let [Value::Text(kind), Value::Text(name), Value::Text(table), root, sql] = *columns else {
            return Err(DAMAGED);
        };
        let kind = match to_text(kind, encoding)?.as_str() {
            "table" => ObjectKind::Table,
            "index" => ObjectKind::Index,
            "view" => ObjectKind::View,
            "trigger" => ObjectKind::Trigger,
            _ => return Err(DAMAGED),
        };
        let root = match root {
            Value::Null => 0,
            Value::Integer(page) => u32::try_from(page).map_err(|_| DAMAGED)?,
            Value::Real(_) | Value::Text(_) | Value::Blob(_) => return Err(DAMAGED),
        };
        let sql = match sql {
            Value::Null => None,
            Value::Text(sql) => Some(sql.to_vec()),
            Value::Integer(_) | Value::Real(_) | Value::Blob(_) => return Err(DAMAGED),
        };
        let row = SchemaRow { kind, name: name.to_vec(), table: table.to_vec(), sql };
        Self::new(row, place, root, encoding)
    }

    /// The object that a schema row describes.
    ///
    /// # Errors
    /// [`SchemaError::Damaged`] when its names or text are not in this encoding.
    pub fn new(row: SchemaRow, place: i64, root: u32, encoding: TextEncoding) -> Result<Self, SchemaError> {
        let name = to_text(&row.name, encoding)?;
        let table = to_text(&row.table, encoding)?;
        let sql = row.sql.as_deref().map(|sql| to_text(sql, encoding)).transpose()?;
        Ok(Self { row, place, root, name, table, sql })
    }

    /// Whether it is a virtual table, whose rows are its module's business.
    pub fn is_virtual(&self) -> bool {
        const START: &str = "CREATE VIRTUAL TABLE";
        let start = self.sql.as_deref().and_then(|sql| sql.get(..START.len()));
        self.row.kind == ObjectKind::Table && start.is_some_and(|start| start.eq_ignore_ascii_case(START))
    }

    /// Whether it is a table that stores rows of its own.
    pub fn stores_rows(&self) -> bool {
        self.row.kind == ObjectKind::Table && !self.is_virtual()
    }
}

/// Whether an object is outside of what is replicated: `sqlite_stat*` describes one file's statistics, `_synddb*` is ours.
pub fn is_outside(name: &str) -> bool {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts("sqlite_stat") || starts("_synddb")
}

/// Every object that is replicated, by kind and name.
///
/// Objects of a table that is outside (its indexes and triggers) are outside with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    objects: BTreeMap<(u8, Vec<u8>), Object>,
}

impl Objects {
    /// Collects objects and leaves out what is outside.
    pub fn new(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut collected = Self::default();
        for object in objects {
            collected.insert(object);
        }
        collected
    }

    /// Reads `sqlite_schema` through SQLite.
    ///
    /// # Errors
    /// [`SchemaError`] when it cannot be read, or holds what no SQLite writes.
    pub fn read(connection: &Connection) -> Result<Self, SchemaError> {
        let mut objects = Self::default();
        let sql = "SELECT rowid, type, name, tbl_name, rootpage, sql FROM sqlite_schema";
        connection.prepare(sql)?.query(&[], |row| {
            let Value::Integer(place) = row.value(0) else {
                return Err(SchemaError::Damaged { what: "a rowid is no integer" });
            };
            objects.insert(Object::from_columns(place, &row.values()[1..], connection.encoding())?);
            Ok(())
        })?;
        Ok(objects)
    }

    /// Adds an object, in place of one of the same kind and name. One that is outside is ignored.
    pub fn insert(&mut self, object: Object) {
        if !is_outside(&object.name) && !is_outside(&object.table) {
            self.objects.insert((rank(object.row.kind), object.row.name.clone()), object);
        }
    }

    /// Takes an object out.
    pub fn remove(&mut self, kind: ObjectKind, name: &[u8]) -> Option<Object> {
        self.objects.remove(&(rank(kind), name.to_vec()))
    }

    /// The object of this kind and name.
    pub fn get(&self, kind: ObjectKind, name: &[u8]) -> Option<&Object> {
        self.objects.get(&(rank(kind), name.to_vec()))
    }

    /// All objects: tables, indexes, views, triggers, each kind by name.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// The tables that store rows, by name.
    pub fn tables(&self) -> impl Iterator<Item = &Object> {
        self.iter().filter(|object| object.stores_rows())
    }

    /// What the objects say, without where this file keeps them.
    pub fn rows(&self) -> Vec<SchemaRow> {
        self.iter().map(|object| object.row.clone()).collect()
    }
}

/// The order in which kinds can be created: each refers to earlier ones only.
pub(super) fn rank(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::Table => 0,
        ObjectKind::Index => 1,
        ObjectKind::View => 2,
        ObjectKind::Trigger => 3,
    }
}
