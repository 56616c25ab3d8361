//! A source database and its replica, and a difference of two images of the source to carry commits from one to the other.
//!
//! The difference reads every row through SQLite, and so depends on nothing that the capture does.

use std::collections::{BTreeMap, BTreeSet};

use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, SchemaChange, TextEncoding};
use synddb_sqlite::apply::{Applier, ApplyError, CommitChanges};
use synddb_sqlite::changeset::{self, Table};
use synddb_sqlite::connection::{Connection, quoted};
use synddb_sqlite::rusqlite;
use synddb_sqlite::schema::{Identity, Layout, Object, Objects};
use synddb_sqlite::state::RunningState;
use synddb_sqlite::value::OwnedValue;

pub(crate) type Row = Vec<OwnedValue>;

/// Everything a database holds, read through SQLite.
pub(crate) struct Image {
    pub(crate) objects: Objects,
    pub(crate) layouts: BTreeMap<String, Layout>,
    /// The rows of each table in the form of a changeset.
    pub(crate) rows: BTreeMap<String, Vec<Row>>,
    pub(crate) user_version: i32,
    pub(crate) application_id: i32,
}

/// One captured commit.
#[derive(Default, Clone)]
pub(crate) struct Captured {
    pub(crate) schema: Vec<SchemaChange>,
    pub(crate) rows: Vec<u8>,
    pub(crate) user_version: Option<i32>,
    pub(crate) application_id: Option<i32>,
}

impl Captured {
    pub(crate) fn changes(&self) -> CommitChanges<'_, &[u8]> {
        CommitChanges {
            schema: &self.schema,
            rows: &self.rows,
            user_version: self.user_version,
            application_id: self.application_id,
        }
    }
}

pub(crate) fn key(layout: &Layout) -> Vec<bool> {
    match &layout.identity {
        Identity::Rowid { .. } => std::iter::once(true).chain(layout.columns.iter().map(|_| false)).collect(),
        Identity::IntegerKey { column } => (0..layout.columns.len()).map(|at| at == *column).collect(),
        Identity::Key { columns } => (0..layout.columns.len()).map(|at| columns.contains(&at)).collect(),
    }
}

impl Image {
    pub(crate) fn of(connection: &Connection) -> Self {
        let objects = Objects::read(connection).unwrap();
        let layouts: BTreeMap<_, _> = objects
            .tables()
            .map(|table| (table.name.clone(), Layout::of(table, connection.encoding()).unwrap()))
            .collect();
        let rows = layouts.iter().map(|(name, layout)| (name.clone(), rows(connection, layout))).collect();
        let number =
            |name: &str| connection.sqlite().pragma_query_value(None, name, |row| row.get(0)).unwrap();
        Self {
            objects,
            layouts,
            rows,
            user_version: number("user_version"),
            application_id: number("application_id"),
        }
    }

    /// The commit that leads from this image to another. `renames` names tables (old, new).
    pub(crate) fn commit_to(&self, new: &Self, renames: &[(&str, &str)]) -> Captured {
        let mut captured = Captured::default();
        let mut before = BTreeMap::new();
        let mut done: BTreeSet<(ObjectKindOrder, Vec<u8>)> = BTreeSet::new();
        for object in new.objects.iter() {
            let old_name = renames.iter().find(|(_, to)| object.stores_rows() && *to == object.name);
            let is_source = renames.iter().any(|(from, _)| object.stores_rows() && *from == object.name);
            let old = match old_name {
                Some((from, _)) => self.objects.iter().find(|old| old.stores_rows() && old.name == *from),
                None if is_source => None,
                None => self.objects.get(object.row.kind, &object.row.name),
            };
            let (row, place) = (object.row.clone(), object.place);
            let Some(old) = old else {
                captured.schema.push(SchemaChange::Create { row, place });
                continue;
            };
            done.insert((order(old.row.kind), old.row.name.clone()));
            let keeps = !object.stores_rows()
                || (old.stores_rows() && new.layouts[&object.name].keeps_rows_of(&self.layouts[&old.name]));
            let name = old.row.name.clone();
            if !keeps {
                captured.schema.push(SchemaChange::Rebuild { name, row, place });
                before.insert(object.name.clone(), Vec::new());
                continue;
            }
            if old.row != object.row || old.place != object.place {
                captured.schema.push(SchemaChange::Amend { name, row, place });
            }
            if object.stores_rows() {
                before
                    .insert(object.name.clone(), widened(&self.rows[&old.name], &new.layouts[&object.name]));
            }
        }
        for object in self.objects.iter() {
            if !done.contains(&(order(object.row.kind), object.row.name.clone())) {
                let (kind, name) = (object.row.kind, object.row.name.clone());
                captured.schema.insert(0, SchemaChange::Drop { kind, name });
            }
        }
        for (name, layout) in &new.layouts {
            let none = Vec::new();
            write_rows(&mut captured.rows, layout, before.get(name).unwrap_or(&none), &new.rows[name]);
        }
        captured.user_version = (self.user_version != new.user_version).then_some(new.user_version);
        captured.application_id = (self.application_id != new.application_id).then_some(new.application_id);
        captured
    }
}

/// The tables that have another name in the new image, by their root pages: good where nothing moves or reuses pages.
pub(crate) fn renames(old: &Image, new: &Image) -> Vec<(String, String)> {
    let mut renames = Vec::new();
    for table in new.objects.tables() {
        let before = old.objects.tables().find(|before| before.root == table.root);
        if let Some(before) = before
            && before.name != table.name
            && new.layouts[&table.name].keeps_rows_of(&old.layouts[&before.name])
        {
            renames.push((before.name.clone(), table.name.clone()));
        }
    }
    renames
}

type ObjectKindOrder = u8;

fn order(kind: ObjectKind) -> ObjectKindOrder {
    match kind {
        ObjectKind::Table => 0,
        ObjectKind::Index => 1,
        ObjectKind::View => 2,
        ObjectKind::Trigger => 3,
    }
}

/// Old rows as a table with more columns reads them.
fn widened(rows: &[Row], layout: &Layout) -> Vec<Row> {
    let hidden = usize::from(layout.has_hidden_rowid());
    let widen = |row: &Row| {
        let defaults = layout.columns.iter().skip(row.len() - hidden).map(|column| column.default.clone());
        row.iter().cloned().chain(defaults).collect()
    };
    rows.iter().map(widen).collect()
}

fn rows(connection: &Connection, layout: &Layout) -> Vec<Row> {
    let rowid = match layout.identity {
        Identity::Rowid { name } => Some(name.to_owned()),
        Identity::IntegerKey { .. } | Identity::Key { .. } => None,
    };
    let columns = rowid.into_iter().chain(layout.columns.iter().map(|column| quoted(&column.name)));
    let columns: Vec<_> = columns.collect();
    let sql = format!("SELECT {} FROM {} NOT INDEXED", columns.join(", "), quoted(&layout.name));
    let mut rows = Vec::new();
    let mut statement = connection.prepare(&sql).unwrap();
    statement
        .query::<synddb_sqlite::connection::SqliteError>(&[], |row| {
            rows.push(row.values().into_iter().map(Into::into).collect());
            Ok(())
        })
        .unwrap();
    rows
}

fn borrowed(row: &Row) -> Vec<Value<'_>> {
    row.iter().map(OwnedValue::borrow).collect()
}

/// Inserts come first on purpose: nothing promises an order.
pub(crate) fn write_rows(out: &mut Vec<u8>, layout: &Layout, old: &[Row], new: &[Row]) {
    let key = key(layout);
    let identity = |row: &Row| -> Vec<String> {
        let parts = row.iter().zip(&key).filter(|(_, key)| **key);
        parts.map(|(value, _)| format!("{value:?}")).collect()
    };
    let old_rows: BTreeMap<_, _> = old.iter().map(|row| (identity(row), row)).collect();
    let new_rows: BTreeMap<_, _> = new.iter().map(|row| (identity(row), row)).collect();
    let mut changes = Vec::new();
    for (identity, new) in &new_rows {
        match old_rows.get(identity) {
            None => changeset::write_insert(&mut changes, &borrowed(new)),
            Some(old) => changeset::write_update(&mut changes, &key, &borrowed(old), &borrowed(new)),
        }
    }
    for (_, old) in old_rows.iter().filter(|(identity, _)| !new_rows.contains_key(*identity)) {
        changeset::write_delete(&mut changes, &borrowed(old));
    }
    if !changes.is_empty() {
        changeset::write_table(out, &Table { name: layout.name.clone(), key: key.clone() });
        out.extend(changes);
    }
}

/// A source and its replica.
pub(crate) struct Pair {
    pub(crate) source: Connection,
    pub(crate) applier: Applier,
    directory: tempfile::TempDir,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with_encoding(TextEncoding::Utf8)
    }

    pub(crate) fn with_encoding(encoding: TextEncoding) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let name = match encoding {
            TextEncoding::Utf8 => "UTF-8",
            TextEncoding::Utf16Le => "UTF-16le",
            TextEncoding::Utf16Be => "UTF-16be",
        };
        let pragma = format!("PRAGMA encoding = '{name}'; PRAGMA foreign_keys = ON;");
        let source = rusqlite::Connection::open(directory.path().join("source.db")).unwrap();
        source.execute_batch(&pragma).unwrap();
        source.execute_batch("CREATE TABLE scratch(a); DROP TABLE scratch").unwrap();
        let path = directory.path().join("replica.db");
        let replica = rusqlite::Connection::open(&path).unwrap();
        replica.execute_batch(&pragma).unwrap();
        // What a replica keeps for itself stands in the way of the first places.
        replica
            .execute_batch(
                "PRAGMA journal_mode = WAL; CREATE TABLE _synddb_position(a PRIMARY KEY, b);
                 CREATE INDEX _synddb_b ON _synddb_position(b);
                 INSERT INTO _synddb_position VALUES(1, 2)",
            )
            .unwrap();
        drop(replica);
        let source = Connection::over(source).unwrap();
        assert_eq!(source.encoding(), encoding);
        let applier = Applier::open(&path).unwrap();
        // No test here cuts the power.
        source.execute("PRAGMA synchronous = OFF").unwrap();
        applier.connection().execute("PRAGMA synchronous = OFF").unwrap();
        Self { source, applier, directory }
    }

    /// A connection of its own to the replica, as a reader has.
    pub(crate) fn replica(&self) -> Connection {
        Connection::open(&self.directory.path().join("replica.db")).unwrap()
    }

    /// Runs SQL on the source as one commit.
    pub(crate) fn capture(&self, sql: &str) -> Captured {
        self.capture_renamed(sql, &[])
    }

    pub(crate) fn capture_renamed(&self, sql: &str, renames: &[(&str, &str)]) -> Captured {
        let before = Image::of(&self.source);
        self.source.execute("BEGIN").unwrap();
        self.source.execute(sql).unwrap();
        self.source.execute("COMMIT").unwrap();
        before.commit_to(&Image::of(&self.source), renames)
    }

    /// Runs statements on the source as one commit, those that SQLite takes. Renames are found out.
    pub(crate) fn capture_some(&self, statements: &[String]) -> Captured {
        let before = Image::of(&self.source);
        self.source.execute("BEGIN").unwrap();
        for sql in statements {
            // A random statement may well be refused.
            let _refused = self.source.execute(sql);
        }
        // A rename may leave a table that SQLite itself no longer reads.
        let objects = Objects::read(&self.source).unwrap();
        let sound = objects.tables().all(|table| Layout::of(table, self.source.encoding()).is_ok());
        self.source.execute(if sound { "COMMIT" } else { "ROLLBACK" }).unwrap();
        let after = Image::of(&self.source);
        let renames = renames(&before, &after);
        let renames: Vec<_> = renames.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
        before.commit_to(&after, &renames)
    }

    pub(crate) fn apply(&mut self, captured: &Captured) -> Result<(), ApplyError> {
        self.applier.begin().unwrap();
        let result = self.applier.apply(captured.changes());
        self.applier.commit().unwrap();
        result
    }

    /// Runs SQL on the source as one commit, applies it, and compares everything.
    pub(crate) fn commit(&mut self, sql: &str) {
        self.commit_renamed(sql, &[]);
    }

    pub(crate) fn commit_renamed(&mut self, sql: &str, renames: &[(&str, &str)]) {
        let captured = self.capture_renamed(sql, renames);
        self.follow(&captured, sql);
    }

    /// Applies a commit of the source, and compares everything.
    pub(crate) fn follow(&mut self, captured: &Captured, sql: &str) {
        // First in a transaction that is given up: nothing of it may stay.
        let before = (self.applier.state().hash(), listing(&self.replica()));
        self.applier.begin().unwrap();
        self.applier.apply(captured.changes()).unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let after = self.applier.state().hash();
        self.applier.rollback().unwrap();
        assert_eq!(self.applier.state().hash(), before.0);
        assert_eq!(RunningState::scan(&self.replica()).unwrap().hash(), before.0);
        assert_eq!(listing(&self.replica()), before.1);
        self.apply(captured).unwrap();
        assert_eq!(self.applier.state().hash(), after);
        self.check();
    }

    /// Compares replica and source: state hash however it came about, rows, schema with its order, soundness of the file.
    pub(crate) fn check(&self) {
        let replica = self.replica();
        let (found, expected) = (Image::of(&replica), Image::of(&self.source));
        for (name, rows) in &expected.rows {
            assert_eq!(sorted(&found.rows[name]), sorted(rows), "rows of {name}");
        }
        assert_eq!(found.layouts, expected.layouts);
        assert_eq!(listing(&replica), listing(&self.source));
        let state = RunningState::scan(&self.source).unwrap().hash();
        assert_eq!(RunningState::scan(&replica).unwrap().hash(), state, "by scanning the replica");
        assert_eq!(self.applier.state().hash(), state, "row by row");
        // A CHECK that a row breaks is as broken in the source.
        replica.execute("PRAGMA ignore_check_constraints = ON").unwrap();
        let check: String =
            replica.sqlite().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let kept: i64 =
            replica.sqlite().query_row("SELECT b FROM _synddb_position", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 2, "what the replica keeps for itself");
    }
}

fn sorted(rows: &[Row]) -> Vec<String> {
    let mut rows: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
    rows.sort();
    rows
}

fn listing(connection: &Connection) -> Vec<(i64, String, Object)> {
    let mut listing: Vec<_> = Objects::read(connection)
        .unwrap()
        .iter()
        .map(|object| (object.place, object.name.clone(), Object { root: 0, ..object.clone() }))
        .collect();
    listing.sort_by_key(|(place, ..)| *place);
    listing
}
