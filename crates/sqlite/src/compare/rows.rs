//! The rows of one table in two files, side by side.

use synddb_protocol::state::Value;

use super::open::Database;
use super::{CompareError, Difference, RowIdentity, Side};
use crate::connection::{SqliteError, quoted};
use crate::schema::{Identity, Layout, Object};
use crate::statement::{Row, Statement};
use crate::value::OwnedValue;

/// The first row in which two tables of one schema differ, in the order of their identity.
pub(super) fn first_difference(
    table: &Object,
    first: &Database,
    second: &Database,
) -> Result<Option<Difference>, CompareError> {
    let layout = Layout::of(table, first.connection.encoding())
        .map_err(|source| CompareError::Schema { path: first.path().to_owned(), source })?;
    let mut table = Table::of(&layout);
    let failed = |database: &Database, source| CompareError::Table {
        path: database.path().to_owned(),
        table: layout.name.clone(),
        source,
    };
    if matches!(layout.identity, Identity::Key { .. }) {
        table.order = Some(key_order(first, &layout.name).map_err(|source| failed(first, source))?);
    }
    let prepare = |database: &Database| {
        database.connection.prepare(&table.scan()).map_err(|source| failed(database, source))
    };
    let (mut scan_one, mut scan_other) = (prepare(first)?, prepare(second)?);
    let (mut rows_one, mut rows_other) = (scan_one.rows(), scan_other.rows());
    loop {
        let one = rows_one.next_row().map_err(|source| failed(first, source))?;
        let other = rows_other.next_row().map_err(|source| failed(second, source))?;
        let only = |row: &Row<'_>, side| Difference::Row {
            table: layout.name.clone(),
            identity: table.identity(row, first),
            only_in: side,
        };
        match (one, other) {
            (None, None) => return Ok(None),
            (Some(row), None) => return Ok(Some(only(&row, Side::First))),
            (None, Some(row)) => return Ok(Some(only(&row, Side::Second))),
            (Some(one), Some(other)) => {
                let Some(column) = (0..one.len()).find(|at| one.value(*at) != other.value(*at)) else {
                    continue;
                };
                if table.same_identity(&one, &other) {
                    return Ok(Some(table.value(&one, &other, column, first)));
                }
                let met = table.look_up(&one, second).map_err(|source| failed(second, source))?;
                return Ok(Some(match met {
                    Meeting::None => only(&one, Side::First),
                    // The same row is further on, so what stands here is one more.
                    Meeting::Same => only(&other, Side::Second),
                    Meeting::Alike(key) => table.key(&one, &key, first),
                }));
            }
        }
    }
}

/// The key of a WITHOUT ROWID table as it orders the table's rows. Without it SQLite may take the rows from an index, and another one in
/// each file, according to their statistics.
fn key_order(database: &Database, table: &str) -> Result<String, SqliteError> {
    let sql = "SELECT x.name, x.coll, x.\"desc\" FROM pragma_index_list(?1) l, pragma_index_xinfo(l.name) x \
               WHERE l.origin = 'pk' AND x.key ORDER BY x.seqno";
    let mut statement = database.connection.sqlite().prepare(sql)?;
    let terms = statement.query_map([table], |row| {
        let (name, collation, descending): (String, String, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let direction = if descending { " DESC" } else { "" };
        Ok(format!("{} COLLATE {}{direction}", quoted(&name), quoted(&collation)))
    })?;
    Ok(terms.collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// What the other file has under the identity of a row.
enum Meeting {
    None,
    Same,
    /// A row whose key compares equal in SQL and has other bytes.
    Alike(Vec<OwnedValue>),
}

/// What is read of a table: the names of the columns, as people and as SQL know them, and which identify a row.
struct Table<'l> {
    name: &'l str,
    columns: Vec<String>,
    key: Vec<usize>,
    /// What orders the scan.
    order: Option<String>,
}

impl<'l> Table<'l> {
    fn of(layout: &'l Layout) -> Self {
        let mut columns: Vec<String> = layout.columns.iter().map(|column| column.name.clone()).collect();
        let (key, order) = match &layout.identity {
            Identity::Rowid { name } => {
                columns.insert(0, (*name).to_owned());
                (vec![0], Some(quoted(name)))
            }
            Identity::IntegerKey { column } => (vec![*column], Some(quoted(&columns[*column]))),
            Identity::Key { columns } => (columns.clone(), None),
        };
        Self { name: &layout.name, columns, key, order }
    }

    /// NOT INDEXED: the table itself is read, and not what an index remembers of it.
    fn scan(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|name| quoted(name)).collect();
        let sql = format!("SELECT {} FROM main.{} NOT INDEXED", columns.join(", "), quoted(self.name));
        match &self.order {
            Some(order) => format!("{sql} ORDER BY {order}"),
            None => sql,
        }
    }

    fn same_identity(&self, one: &Row<'_>, other: &Row<'_>) -> bool {
        self.key.iter().all(|at| one.value(*at) == other.value(*at))
    }

    /// Looks for the row's identity in the other file.
    fn look_up(&self, row: &Row<'_>, database: &Database) -> Result<Meeting, SqliteError> {
        let names: Vec<String> = self.key.iter().map(|at| quoted(&self.columns[*at])).collect();
        let terms: Vec<String> = (1..).zip(&names).map(|(at, name)| format!("{name} IS ?{at}")).collect();
        let (names, terms) = (names.join(", "), terms.join(" AND "));
        let sql = format!("SELECT {names} FROM main.{} NOT INDEXED WHERE {terms}", quoted(self.name));
        let mut statement: Statement = database.connection.prepare(&sql)?;
        let key: Vec<Value<'_>> = self.key.iter().map(|at| row.value(*at)).collect();
        let mut meeting = Meeting::None;
        statement.query::<SqliteError>(&key, |found| {
            let found = found.values();
            meeting = if found == key {
                Meeting::Same
            } else {
                Meeting::Alike(found.into_iter().map(OwnedValue::from).collect())
            };
            Ok(())
        })?;
        Ok(meeting)
    }

    fn identity(&self, row: &Row<'_>, database: &Database) -> RowIdentity {
        let column = |at: &usize| (self.columns[*at].clone(), OwnedValue::from(row.value(*at)));
        RowIdentity {
            columns: self.key.iter().map(column).collect(),
            encoding: database.connection.encoding(),
        }
    }

    fn value(&self, one: &Row<'_>, other: &Row<'_>, column: usize, database: &Database) -> Difference {
        Difference::Value {
            table: self.name.to_owned(),
            identity: self.identity(one, database),
            column: self.columns[column].clone(),
            first: one.value(column).into(),
            second: other.value(column).into(),
        }
    }

    /// A difference in the first column of the key whose bytes differ.
    fn key(&self, one: &Row<'_>, key: &[OwnedValue], database: &Database) -> Difference {
        let differs = |(at, other): &(&usize, &OwnedValue)| one.value(**at) != other.borrow();
        let differing = self.key.iter().zip(key).find(differs);
        let (column, second) = differing.map_or((self.key[0], OwnedValue::NULL), |(at, v)| (*at, v.clone()));
        Difference::Value {
            table: self.name.to_owned(),
            identity: self.identity(one, database),
            column: self.columns[column].clone(),
            first: one.value(column).into(),
            second,
        }
    }
}
