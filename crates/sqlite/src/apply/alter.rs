//! Carries a plan out: makes the replica's schema what the commit says it is.
//!
//! Tables and indexes are made by SQLite from their own text. Views, triggers and virtual tables are only rows of `sqlite_schema`
//! and are written there, so that none of their code is ever looked at. In the end the whole schema is compared.

use std::collections::BTreeSet;

use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, TextEncoding};

use super::places;
use super::schema::{Amended, Plan, SEQUENCE, require, unfit, word};
use super::{ApplyError, Divergence};
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Object, Objects, from_text};
use crate::state::RunningState;

/// A change of the schema on its way.
pub(super) struct Alteration {
    connection: Connection,
    plan: Plan,
}

impl Alteration {
    pub(super) fn new(connection: &Connection, plan: Plan) -> Self {
        Self { connection: connection.clone(), plan }
    }

    /// What has to happen before the commit's rows: afterwards every table is there as they need it, and the state has its
    /// schema.
    ///
    /// # Errors
    /// [`ApplyError`] when the schema cannot follow.
    pub(super) fn before_rows(&self, state: &mut RunningState) -> Result<(), ApplyError> {
        self.unlist()?;
        for index in &self.plan.indexes {
            self.run(index, &format!("DROP INDEX main.{}", quoted(index)))?;
        }
        let (sequence, tables): (Vec<_>, Vec<_>) =
            self.plan.dropped.iter().partition(|table| table.as_str() == SEQUENCE);
        for table in tables {
            self.run(table, &format!("DROP TABLE main.{}", quoted(table)))?;
        }
        // SQLite looks into it while it drops an AUTOINCREMENT table, so it goes last.
        if !sequence.is_empty() {
            self.drop_sequence()?;
        }
        self.amend()?;
        for table in &self.plan.created {
            self.create_table(table)?;
        }
        if !sequence.is_empty() {
            self.needs_no_sequence()?;
        }
        self.sequence()?;
        self.restore_texts()?;
        self.follow(state)
    }

    /// What can only happen after the commit's rows.
    ///
    /// # Errors
    /// [`ApplyError`] when the schema is not what the commit says in the end.
    pub(super) fn after_rows(self, state: &mut RunningState) -> Result<(), ApplyError> {
        let mut missing = self.missing()?;
        missing.sort_by_key(|object| object.place);
        for object in &missing {
            if object.row.kind == ObjectKind::Index && object.sql.is_some() {
                require(object, &["CREATE INDEX", "CREATE UNIQUE INDEX"])?;
                self.run(&object.name, object.sql.as_deref().unwrap_or_default())?;
            }
        }
        self.restore_texts()?;
        self.writable()?;
        for object in missing.iter().filter(|object| is_only_listed(object)) {
            require(object, &["CREATE VIEW", "CREATE TRIGGER", "CREATE VIRTUAL TABLE"])?;
            self.list(object)?;
        }
        places::settle(&self.connection, &self.plan.expected)?;
        let sqlite = self.connection.sqlite();
        // Other connections see by this number that the schema changed.
        let version: i32 =
            sqlite.pragma_query_value(None, "schema_version", |row| row.get(0)).map_err(SqliteError::from)?;
        sqlite.pragma_update(None, "schema_version", version.wrapping_add(1)).map_err(SqliteError::from)?;
        self.reload()?;
        let objects = self.read()?;
        places::check(&objects, &self.plan.expected)?;
        state.set_schema(objects, self.plan.layouts);
        Ok(())
    }

    /// Deletes the rows of views, triggers and virtual tables.
    fn unlist(&self) -> Result<(), ApplyError> {
        if self.plan.unlisted.is_empty() {
            return Ok(());
        }
        self.writable()?;
        let mut delete =
            self.connection.prepare("DELETE FROM main.sqlite_schema WHERE type = ?1 AND name = ?2")?;
        for (kind, name) in &self.plan.unlisted {
            let kind = from_text(kind, self.connection.encoding());
            delete.execute(&[Value::Text(&kind), Value::Text(name)])?;
        }
        self.reload()
    }

    /// Changes the rows of tables, and of the indexes that go with them, under their trees.
    fn amend(&self) -> Result<(), ApplyError> {
        if self.plan.amended.is_empty() {
            return Ok(());
        }
        let encoding = self.connection.encoding();
        // All old rows are found before any is changed: names may have been swapped.
        let mut updates = Vec::new();
        let listed = list(&self.connection)?;
        for Amended { old, new } in &self.plan.amended {
            for row in &listed {
                match row.row.kind {
                    ObjectKind::Table if row.row.name == old.row.name => {
                        updates.push((row.place, new.row.name.clone(), new));
                    }
                    ObjectKind::Index if row.row.table == old.row.name => {
                        updates.push((row.place, index_name(row, old, new, encoding), new));
                    }
                    ObjectKind::Table | ObjectKind::Index | ObjectKind::View | ObjectKind::Trigger => {}
                }
            }
        }
        self.writable()?;
        let mut rename = self
            .connection
            .prepare("UPDATE main.sqlite_schema SET name = ?2, tbl_name = ?3 WHERE rowid = ?1")?;
        let mut text = self
            .connection
            .prepare("UPDATE main.sqlite_schema SET sql = ?2 WHERE rowid = ?1 AND type = 'table'")?;
        for (place, name, table) in updates {
            let place = Value::Integer(place);
            rename.execute(&[place, Value::Text(&name), Value::Text(&table.row.name)])?;
            text.execute(&[place, stored_sql(table)])?;
        }
        self.reload()
    }

    /// Makes a table from its text.
    fn create_table(&self, table: &Object) -> Result<(), ApplyError> {
        if table.name == SEQUENCE {
            return Ok(());
        }
        require(table, &["CREATE TABLE"])?;
        self.run(&table.name, table.sql.as_deref().unwrap_or_default())
    }

    /// Drops `sqlite_sequence`, as VACUUM does when there is no AUTOINCREMENT table left. SQLite lets nobody drop it under its
    /// name.
    fn drop_sequence(&self) -> Result<(), ApplyError> {
        self.writable()?;
        self.connection.execute(
            "UPDATE main.sqlite_schema SET name = '_synddb_scratch', tbl_name = '_synddb_scratch', \
             sql = 'CREATE TABLE _synddb_scratch(name, seq)' WHERE type = 'table' AND name = 'sqlite_sequence'",
        )?;
        self.reload()?;
        self.run(SEQUENCE, "DROP TABLE main._synddb_scratch")
    }

    /// Checks that no table is left that SQLite would need `sqlite_sequence` for.
    fn needs_no_sequence(&self) -> Result<(), ApplyError> {
        for (table, layout) in &self.plan.layouts {
            let Identity::IntegerKey { column } = layout.identity else { continue };
            let column = layout.columns[column].name.as_str();
            let described = self.connection.sqlite().column_metadata(None, table.as_str(), column);
            let (.., counts) = described.map_err(SqliteError::from)?;
            if counts {
                let why = "its text says AUTOINCREMENT, and sqlite_sequence is dropped";
                return Err(Divergence::Schema { kind: "table", name: table.clone(), why }.into());
            }
        }
        Ok(())
    }

    /// Has SQLite make `sqlite_sequence`, which comes with the first AUTOINCREMENT table and stays until a VACUUM
    /// finds none.
    fn sequence(&self) -> Result<(), ApplyError> {
        let name = from_text(SEQUENCE, self.connection.encoding());
        if self.plan.expected.get(ObjectKind::Table, &name).is_none()
            || list(&self.connection)?.iter().any(|object| object.name == SEQUENCE)
        {
            return Ok(());
        }
        let scratch = "CREATE TABLE _synddb_scratch(a INTEGER PRIMARY KEY AUTOINCREMENT)";
        self.run(SEQUENCE, scratch)?;
        self.run(SEQUENCE, "DROP TABLE _synddb_scratch")
    }

    /// Gives objects that SQLite made the text that was captured, where SQLite writes it otherwise.
    fn restore_texts(&self) -> Result<(), ApplyError> {
        let mut differ = Vec::new();
        for found in list(&self.connection)? {
            if let Some(object) = self.plan.expected.get(found.row.kind, &found.row.name)
                && object.row.sql != found.row.sql
                && found.row.sql.is_some()
            {
                differ.push((found.place, object));
            }
        }
        if differ.is_empty() {
            return Ok(());
        }
        self.writable()?;
        let mut update =
            self.connection.prepare("UPDATE main.sqlite_schema SET sql = ?2 WHERE rowid = ?1")?;
        for (place, object) in differ {
            update.execute(&[Value::Integer(place), stored_sql(object)])?;
        }
        self.reload()
    }

    /// Lets the state follow: rows go with their tables, and new tables have none.
    fn follow(&self, state: &mut RunningState) -> Result<(), ApplyError> {
        for table in &self.plan.dropped {
            state.clear_table(table);
        }
        let renames = self.plan.amended.iter().filter(|table| table.old.name != table.new.name);
        let renames: Vec<_> = renames.map(|table| (table.old.name.clone(), table.new.name.clone())).collect();
        state.rename_tables(&renames);
        for table in &self.plan.created {
            state.clear_table(&table.name);
        }
        state.set_schema(self.plan.expected.clone(), self.plan.layouts.clone());
        for table in &self.plan.rescanned {
            state.rescan_table(&self.connection, table)?;
        }
        Ok(())
    }

    /// Writes the row of an object that is nothing but that row.
    fn list(&self, object: &Object) -> Result<(), ApplyError> {
        let sql =
            "INSERT INTO main.sqlite_schema(type, name, tbl_name, rootpage, sql) VALUES(?1, ?2, ?3, 0, ?4)";
        let kind = from_text(word(object.row.kind), self.connection.encoding());
        let row = &object.row;
        let values =
            [Value::Text(&kind), Value::Text(&row.name), Value::Text(&row.table), stored_sql(object)];
        self.connection.prepare(sql)?.execute(&values)?;
        Ok(())
    }

    /// What the expected schema has and the replica lacks.
    fn missing(&self) -> Result<Vec<Object>, ApplyError> {
        let found = list(&self.connection)?;
        let found: BTreeSet<_> =
            found.iter().map(|object| (word(object.row.kind), &object.row.name)).collect();
        let expected = self.plan.expected.iter();
        let missing =
            expected.filter(|object| !found.contains(&(word(object.row.kind), &object.row.name))).cloned();
        Ok(missing.collect())
    }

    /// Runs one statement of the schema. A text of several statements is cut after the first.
    fn run(&self, name: &str, sql: &str) -> Result<(), ApplyError> {
        let result = self.connection.prepare(sql).and_then(|mut statement| statement.execute(&[]));
        result.map(drop).map_err(|error| blame(name, error))
    }

    fn writable(&self) -> Result<(), SqliteError> {
        self.connection.execute("PRAGMA writable_schema = ON")
    }

    /// Has SQLite read the schema anew, which it refuses to when it does not understand a row.
    fn reload(&self) -> Result<(), ApplyError> {
        self.connection.execute("PRAGMA writable_schema = RESET")?;
        let result = self.connection.execute("SELECT 1 FROM main.sqlite_schema LIMIT 1");
        result.map_err(|error| blame("sqlite_schema", error))
    }

    fn read(&self) -> Result<Objects, ApplyError> {
        Ok(Objects::read(&self.connection)?)
    }
}

/// Every row of `sqlite_schema`, also of objects that are outside, in its order.
pub(super) fn list(connection: &Connection) -> Result<Vec<Object>, ApplyError> {
    let mut objects = Vec::new();
    let sql = "SELECT rowid, type, name, tbl_name, rootpage, sql FROM main.sqlite_schema ORDER BY rowid";
    connection.prepare(sql)?.query::<ApplyError>(&[], |row| {
        let values = row.values();
        if let [Value::Integer(place), columns @ ..] = values.as_slice() {
            objects.push(Object::from_columns(*place, columns, connection.encoding())?);
        }
        Ok(())
    })?;
    Ok(objects)
}

/// Whether an object is nothing but its row.
fn is_only_listed(object: &Object) -> bool {
    match object.row.kind {
        ObjectKind::Table => object.is_virtual(),
        ObjectKind::View | ObjectKind::Trigger => true,
        ObjectKind::Index => false,
    }
}

/// The name of an index after its table was renamed: SQLite names an index after the table if it made it by itself.
fn index_name(index: &Object, old: &Object, new: &Object, encoding: TextEncoding) -> Vec<u8> {
    let number = index.name.strip_prefix("sqlite_autoindex_").and_then(|name| name.strip_prefix(&old.name));
    match number {
        Some(number) if index.sql.is_none() => {
            from_text(&format!("sqlite_autoindex_{}{number}", new.name), encoding)
        }
        _ => index.row.name.clone(),
    }
}

fn stored_sql(object: &Object) -> Value<'_> {
    object.row.sql.as_deref().map_or(Value::Null, Value::Text)
}

/// Whose fault an error is: the commit's when SQLite does not take what it says, otherwise the machine's.
fn blame(name: &str, error: SqliteError) -> ApplyError {
    use rusqlite::ffi::{SQLITE_CONSTRAINT, SQLITE_CORRUPT, SQLITE_ERROR, SQLITE_MISMATCH, SQLITE_TOOBIG};
    match error.primary() {
        SQLITE_ERROR | SQLITE_CONSTRAINT | SQLITE_CORRUPT | SQLITE_MISMATCH | SQLITE_TOOBIG => {
            Divergence::Unreadable { name: name.to_owned(), source: error }.into()
        }
        _ => error.into(),
    }
}

/// A divergence for a place that no row can have.
pub(super) fn no_place(object: &Object) -> ApplyError {
    unfit(object, "its place leaves no room for the others")
}
