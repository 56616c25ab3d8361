//! One table of the replica: the statements that read and change a row, each of them checked.
//!
//! STORED generated columns are computed by SQLite and compared with what was captured. Where that differs, the commit's rows are
//! written again, with the values given (stand_in.rs).

use std::collections::HashMap;

use synddb_protocol::state::Value;
use synddb_protocol::submission::ObjectKind;

use super::convert::Conversion;
use super::divergence::shown;
use super::rows::RowError;
use super::stand_in::StandIns;
use super::{ApplyError, Divergence};
use crate::compare::RowIdentity;
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout, from_text};
use crate::state::RunningState;
use crate::statement::Statement;
use crate::value::OwnedValue;

/// Most kinds of update, by the columns they set, whose statements are kept for one table.
const UPDATES_MAX: usize = 32;

/// A value of a changeset row.
struct Column {
    /// As SQL writes it.
    sql: String,
    name: String,
    conversion: Conversion,
    /// Whether SQLite computes it.
    generated: bool,
}

/// How the STORED generated columns of one table are written.
pub(super) enum Writes {
    /// There are none.
    Plain,
    /// SQLite computes them.
    Computed,
    /// They are given, by the stand-in text at this place.
    Given(usize),
}

/// One table of the replica.
pub(super) struct Table {
    connection: Connection,
    pub(super) layout: Layout,
    columns: Vec<Column>,
    writes: Writes,
    /// The places of the identity's columns.
    identity: Vec<usize>,
    /// The conditions that pick the row with an identity: each compares a column, given by its place, with a value bound for it.
    terms: Vec<(usize, String)>,
    /// Whether SQLite writes `sqlite_sequence` when a row is inserted.
    pub(super) autoincrement: bool,
    select: Statement,
    insert: Option<Statement>,
    delete: Option<Statement>,
    updates: HashMap<Vec<usize>, Statement>,
}

impl Writes {
    /// How a table is written now.
    ///
    /// # Errors
    /// [`SqliteError`] when the schema cannot be written.
    pub(super) fn of(
        connection: &Connection,
        state: &RunningState,
        layout: &Layout,
        stand_ins: &mut StandIns,
    ) -> Result<Self, SqliteError> {
        if !layout.columns.iter().any(|column| column.generated) {
            return Ok(Self::Plain);
        }
        let name = from_text(&layout.name, connection.encoding());
        match state.objects().get(ObjectKind::Table, &name) {
            Some(table) if stand_ins.is_giving() => {
                Ok(stand_ins.put(table, layout)?.map_or(Self::Computed, Self::Given))
            }
            Some(_) | None => Ok(Self::Computed),
        }
    }
}

impl Table {
    pub(super) fn new(connection: &Connection, layout: &Layout, writes: Writes) -> Result<Self, SqliteError> {
        let mut columns = Vec::new();
        let mut autoincrement = false;
        if let Identity::Rowid { name } = layout.identity {
            let (sql, name) = (name.to_owned(), name.to_owned());
            columns.push(Column { sql, name, conversion: Conversion::None, generated: false });
        }
        for column in &layout.columns {
            let (declared, _, _, _, counts) =
                connection.sqlite().column_metadata(Some("main"), &layout.name, &column.name)?;
            let declared = declared.map(|declared| declared.to_string_lossy()).unwrap_or_default();
            autoincrement |= counts;
            columns.push(Column {
                sql: quoted(&column.name),
                name: column.name.clone(),
                conversion: Conversion::of(&declared),
                generated: column.generated && matches!(writes, Writes::Computed),
            });
        }
        let identity = identity(layout);
        let terms = terms(connection, layout, &columns, &identity)?;
        let names: Vec<&str> = columns.iter().map(|column| column.sql.as_str()).collect();
        let table = quoted(&layout.name);
        let filter = filter(&terms, &identity, 1);
        let sql = format!("SELECT {} FROM main.{table} NOT INDEXED WHERE {filter}", names.join(", "));
        let select = connection.prepare(&sql)?;
        Ok(Self {
            connection: connection.clone(),
            layout: layout.clone(),
            columns,
            writes,
            identity,
            terms,
            autoincrement,
            select,
            insert: None,
            delete: None,
            updates: HashMap::new(),
        })
    }

    /// Reads the row with the identity of `values`, and checks what it holds where a value is expected.
    ///
    /// # Errors
    /// [`Divergence`] when there is none, or it holds something else.
    pub(super) fn read(&mut self, expected: &[Option<Value<'_>>]) -> Result<Vec<OwnedValue>, ApplyError> {
        let identity: Vec<Value<'_>> = self.identity_of(|at| expected[at]);
        let mut row = None;
        self.select.query::<SqliteError>(&identity, |found| {
            row = Some((0..found.len()).map(|at| found.value(at).into()).collect::<Vec<OwnedValue>>());
            Ok(())
        })?;
        let (table, encoding) = (self.layout.name.clone(), self.connection.encoding());
        let Some(row) = row else {
            let identity = self.identity_text(&identity);
            return Err(Divergence::Missing { table, identity }.into());
        };
        for ((expected, found), column) in expected.iter().zip(&row).zip(&self.columns) {
            if let Some(expected) = expected
                && *expected != found.borrow()
            {
                let identity = self.identity_text(&identity);
                let (expected, found) = (shown(*expected, encoding), shown(found.borrow(), encoding));
                let column = column.name.clone();
                return Err(Divergence::Value { table, identity, column, expected, found }.into());
            }
        }
        Ok(row)
    }

    /// Inserts a row.
    pub(super) fn insert(&mut self, row: &[Value<'_>], stand_ins: &mut StandIns) -> Result<(), RowError> {
        self.check_rowid(row)?;
        self.compute_virtuals(row, stand_ins)?;
        let given = |column: &&Column| !column.generated;
        if self.insert.is_none() {
            let names: Vec<&str> =
                self.columns.iter().filter(given).map(|column| column.sql.as_str()).collect();
            let marks: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
            let sql = format!(
                "INSERT OR ABORT INTO main.{}({}) VALUES({})",
                quoted(&self.layout.name),
                names.join(", "),
                marks.join(", ")
            );
            self.insert = Some(self.connection.prepare(&sql).map_err(ApplyError::from)?);
        }
        let values: Vec<Value<'_>> = row
            .iter()
            .zip(&self.columns)
            .filter(|(_, column)| given(column))
            .map(|(value, _)| *value)
            .collect();
        let result = match &mut self.insert {
            Some(insert) => insert.execute(&values),
            None => Ok(0),
        };
        self.done(result, row)?;
        self.check_stored(row)
    }

    /// Deletes the row with the identity of `row`, which was read before.
    pub(super) fn delete(&mut self, row: &[Value<'_>], stand_ins: &mut StandIns) -> Result<(), RowError> {
        self.compute_virtuals(row, stand_ins)?;
        if self.delete.is_none() {
            let filter = filter(&self.terms, &self.identity, 1);
            let sql = format!("DELETE FROM main.{} WHERE {filter}", quoted(&self.layout.name));
            self.delete = Some(self.connection.prepare(&sql).map_err(ApplyError::from)?);
        }
        let identity: Vec<Value<'_>> = self.identity.iter().map(|at| row[*at]).collect();
        let result = match &mut self.delete {
            Some(delete) => delete.execute(&identity),
            None => Ok(0),
        };
        self.done(result, row)
    }

    /// Sets the values of a row, which was read `before`. `row` is the whole row as it shall be.
    pub(super) fn update(
        &mut self,
        before: &[Value<'_>],
        row: &[Value<'_>],
        new: &[Option<Value<'_>>],
        stand_ins: &mut StandIns,
    ) -> Result<(), RowError> {
        if self.replaces(new) {
            self.delete(before, stand_ins)?;
            return self.insert(row, stand_ins);
        }
        let set = new.iter().zip(&self.columns).enumerate();
        let set = set.filter(|(_, (value, column))| value.is_some() && !column.generated);
        let set: Vec<usize> = set.map(|(at, _)| at).collect();
        if !set.is_empty() {
            if !self.updates.contains_key(&set) {
                if self.updates.len() >= UPDATES_MAX {
                    self.updates.clear();
                }
                let statement = self.connection.prepare(&self.update_sql(&set)).map_err(ApplyError::from)?;
                self.updates.insert(set.clone(), statement);
            }
            let values: Vec<Value<'_>> = set.iter().chain(&self.identity).map(|at| row[*at]).collect();
            let result = match self.updates.get_mut(&set) {
                Some(update) => update.execute(&values),
                None => Ok(0),
            };
            self.done(result, row)?;
        }
        self.check_stored(row)
    }

    /// Whether an update is a delete and an insert.
    ///
    /// An UPDATE computes every generated column anew, but only changes the entries of indexes on columns that depend on what is set.
    /// Where a stored value was not what this SQLite computes, an index would keep it. A delete takes what is stored out of
    /// every index.
    fn replaces(&self, new: &[Option<Value<'_>>]) -> bool {
        match self.writes {
            Writes::Plain => false,
            Writes::Computed => {
                self.columns.iter().zip(new).any(|(column, new)| column.generated && new.is_some())
            }
            Writes::Given(_) => true,
        }
    }

    /// Has SQLite know what the VIRTUAL columns of the row that is written next come to, if it cannot compute them.
    fn compute_virtuals(&self, row: &[Value<'_>], stand_ins: &mut StandIns) -> Result<(), ApplyError> {
        let Writes::Given(at) = self.writes else { return Ok(()) };
        stand_ins.compute_virtuals(at, row).map_err(|source| {
            let identity = self.identity_text(&self.identity_of(|at| Some(row[at])));
            Divergence::Refused { table: self.layout.name.clone(), identity, source }.into()
        })
    }

    fn update_sql(&self, set: &[usize]) -> String {
        let sets: Vec<String> =
            (1..).zip(set).map(|(mark, at)| format!("{} = ?{mark}", self.columns[*at].sql)).collect();
        let filter = filter(&self.terms, &self.identity, set.len() + 1);
        format!("UPDATE OR ABORT main.{} SET {} WHERE {filter}", quoted(&self.layout.name), sets.join(", "))
    }

    /// Reads a row that was written, if SQLite may have made something else of it.
    fn check_stored(&mut self, row: &[Value<'_>]) -> Result<(), RowError> {
        let encoding = self.connection.encoding();
        let may_differ = self
            .columns
            .iter()
            .zip(row)
            .any(|(column, value)| column.generated || column.conversion.may_change(*value, encoding));
        if !may_differ {
            return Ok(());
        }
        let expected: Vec<Option<Value<'_>>> = row.iter().map(|value| Some(*value)).collect();
        let Err(error) = self.read_again(&expected) else { return Ok(()) };
        if matches!(self.writes, Writes::Computed) {
            let given = expected.iter().zip(&self.columns);
            let given: Vec<_> = given.map(|(value, column)| value.filter(|_| !column.generated)).collect();
            self.read_again(&given)?;
            return Err(RowError::Computed(error));
        }
        Err(error.into())
    }

    /// Reads a row that was just written.
    fn read_again(&mut self, expected: &[Option<Value<'_>>]) -> Result<(), ApplyError> {
        match self.read(expected) {
            Ok(_) => Ok(()),
            Err(ApplyError::Divergence(divergence)) => {
                if let Divergence::Value { table, identity, column, expected, found } = *divergence {
                    return Err(Divergence::Altered { table, identity, column, expected, found }.into());
                }
                Err(ApplyError::Divergence(divergence))
            }
            Err(other) => Err(other),
        }
    }

    /// Refuses a rowid that is none: SQLite would make one up.
    fn check_rowid(&self, row: &[Value<'_>]) -> Result<(), ApplyError> {
        let is_rowid = |at: &usize| matches!(row[*at], Value::Integer(_));
        if self.layout.is_rowid_table() && !self.identity.iter().all(is_rowid) {
            let table = self.layout.name.clone();
            return Err(Divergence::Shape { table, why: "a rowid is an integer" }.into());
        }
        Ok(())
    }

    /// What became of a statement that had to change one row.
    fn done(&self, result: Result<usize, SqliteError>, row: &[Value<'_>]) -> Result<(), RowError> {
        use rusqlite::ffi::{
            SQLITE_CONSTRAINT, SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID,
            SQLITE_CONSTRAINT_UNIQUE, SQLITE_ERROR,
        };
        let computes = matches!(self.writes, Writes::Computed);
        let identity = |table: &Self| table.identity_text(&table.identity_of(|at| Some(row[at])));
        let source = match result {
            Ok(1) => return Ok(()),
            Ok(_) => {
                let (table, identity) = (self.layout.name.clone(), identity(self));
                return Err(Divergence::Missing { table, identity }.into());
            }
            Err(source) if source.primary() == SQLITE_CONSTRAINT => source,
            // What computes a column may fail in this SQLite.
            Err(error) if error.primary() == SQLITE_ERROR && computes => {
                return Err(RowError::Computed(error.into()));
            }
            Err(error) => return Err(ApplyError::from(error).into()),
        };
        let code = source.code();
        let refused =
            Divergence::Refused { table: self.layout.name.clone(), identity: identity(self), source };
        match code {
            SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_ROWID | SQLITE_CONSTRAINT_UNIQUE => {
                Err(RowError::Clash(Box::new(refused)))
            }
            _ if computes => Err(RowError::Computed(refused.into())),
            _ => Err(refused.into()),
        }
    }

    /// What a row that could not be inserted ran into, when no row of the commit can be the reason.
    pub(super) fn in_the_way(&mut self, row: &[Value<'_>], clash: Divergence) -> RowError {
        let error = self.found_in_the_way(row, clash);
        // A value that was computed may be the reason.
        if matches!(self.writes, Writes::Computed) { RowError::Computed(error) } else { error.into() }
    }

    fn found_in_the_way(&mut self, row: &[Value<'_>], clash: Divergence) -> ApplyError {
        let identity = self.identity_of(|at| Some(row[at]));
        let expected: Vec<Option<Value<'_>>> =
            (0..row.len()).map(|at| self.identity.contains(&at).then(|| row[at])).collect();
        match self.read(&expected) {
            Ok(_) => {
                let (table, identity) = (self.layout.name.clone(), self.identity_text(&identity));
                Divergence::Exists { table, identity }.into()
            }
            Err(ApplyError::Divergence(_)) => clash.into(),
            Err(error) => error,
        }
    }

    fn identity_of<'v>(&self, value: impl Fn(usize) -> Option<Value<'v>>) -> Vec<Value<'v>> {
        self.identity.iter().map(|at| value(*at).unwrap_or(Value::Null)).collect()
    }

    fn identity_text(&self, identity: &[Value<'_>]) -> String {
        let column =
            |(at, value): (&usize, &Value<'_>)| (self.columns[*at].name.clone(), OwnedValue::from(*value));
        let columns = self.identity.iter().zip(identity).map(column).collect();
        RowIdentity { columns, encoding: self.connection.encoding() }.to_string()
    }
}

/// The places of the identity in a changeset row.
pub(super) fn identity(layout: &Layout) -> Vec<usize> {
    match &layout.identity {
        Identity::Rowid { .. } => vec![0],
        Identity::IntegerKey { column } => vec![*column],
        Identity::Key { columns } => columns.clone(),
    }
}

/// The conditions that pick the row with an identity. A key is compared as its index compares it, which may be otherwise than its
/// column does: then at most one row is found, and by the index.
fn terms(
    connection: &Connection,
    layout: &Layout,
    columns: &[Column],
    identity: &[usize],
) -> Result<Vec<(usize, String)>, SqliteError> {
    if layout.is_rowid_table() {
        return Ok(identity.iter().map(|at| (*at, format!("{} =", columns[*at].sql))).collect());
    }
    let sql = "SELECT x.name, x.coll FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x \
               WHERE l.origin = 'pk' AND x.key ORDER BY x.seqno";
    let mut statement = connection.sqlite().prepare(sql)?;
    let key = statement.query_map([&layout.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let key: Vec<(String, String)> = key.collect::<Result<_, _>>()?;
    let mut terms = Vec::new();
    for (name, collation) in &key {
        if let Some(at) = identity.iter().find(|at| columns[**at].name == *name) {
            terms.push((*at, format!("{} COLLATE {} =", columns[*at].sql, quoted(collation))));
        }
    }
    Ok(terms)
}

/// The condition that picks the row with an identity, its values bound from `mark` on.
fn filter(terms: &[(usize, String)], identity: &[usize], mark: usize) -> String {
    let terms: Vec<String> = terms
        .iter()
        .filter_map(|(column, term)| {
            let value = identity.iter().position(|at| at == column)?;
            Some(format!("{term} ?{}", mark + value))
        })
        .collect();
    terms.join(" AND ")
}
