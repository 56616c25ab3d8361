//! Reading every row of a table through SQLite.

use synddb_protocol::state::TableHash;

use super::{StateError, element};
use crate::connection::{Connection, SqliteError, quoted};
use crate::schema::{Identity, Layout};

/// The rows of a table, accumulated.
pub(crate) fn table(connection: &Connection, layout: &Layout) -> Result<TableHash, StateError> {
    let rowid = match layout.identity {
        Identity::Rowid { name } => Some(name.to_owned()),
        Identity::IntegerKey { .. } | Identity::Key { .. } => None,
    };
    // A name in quotes that no column has is text to SQLite, unless its table stands before it.
    let columns = rowid.into_iter().chain(layout.columns.iter().map(|column| quoted(&column.name)));
    let columns: Vec<String> = columns.map(|column| format!("t.{column}")).collect();
    // An index may hold other values than its table only when the file is damaged, and then the table is what counts.
    let sql = format!("SELECT {} FROM main.{} AS t NOT INDEXED", columns.join(", "), quoted(&layout.name));
    let mut rows = TableHash::default();
    connection.prepare(&sql)?.query::<StateError>(&[], |row| {
        let values = row.values();
        let (rowid, columns) =
            element(layout, &values).ok_or_else(|| StateError::NoRowid { table: layout.name.clone() })?;
        rows.add(rowid, columns.iter().copied());
        Ok(())
    })?;
    Ok(rows)
}

/// A number in the file's header that is read by a pragma.
pub(super) fn number(connection: &Connection, pragma: &str) -> Result<i32, SqliteError> {
    Ok(connection.sqlite().pragma_query_value(None, pragma, |row| row.get(0))?)
}
