//! Whether two database files hold the same database, and where they first differ: the oracle behind `synddb diff`.
//!
//! Compared are, in this order: text encoding, `user_version`, `application_id`, the rows of `sqlite_schema` that are
//! replicated, the rows of every table that stores rows, and last the order in which the objects stand in `sqlite_schema`. Values
//! are equal when storage class and bytes are. Of a virtual table only its schema row counts; its shadow tables are tables.
//!
//! Shares no code with the state hash and the changesets but how a table is laid out, so that it can judge both. Knows nothing of
//! pages: where a row stands in its file is no difference.

mod difference;
mod open;
mod rows;

pub(crate) use difference::Shown;
pub use difference::{Difference, RowIdentity, Side, Told};

use std::path::{Path, PathBuf};

use crate::connection::SqliteError;
use crate::schema::{Object, Objects, SchemaError};
use open::Database;

/// Why two files cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Both paths lead to one file.
    #[error("both paths lead to the same file; name two. path=`{}`", path.display())]
    SameFile {
        /// The second path.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("cannot open the file. path=`{}`", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite cannot read the file.
    #[error("cannot read the database. path=`{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: SqliteError,
    },
    /// The schema cannot be read, or names what SQLite does not have by itself.
    #[error("cannot read the schema. path=`{}`", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SchemaError,
    },
    /// The rows of a table cannot be read.
    #[error("cannot read a table. path=`{}` table=`{table}`", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
        /// What SQLite said.
        source: SqliteError,
    },
}

/// The first difference between two database files, each read in one read transaction, or `None` when they are equal.
///
/// Both files may be in use. Neither is changed, and none is created where there is none. Memory is bounded by the schemas and two
/// rows.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use synddb_sqlite::compare;
/// assert_eq!(compare::first_difference("app.db".as_ref(), "replica.db".as_ref())?, None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`CompareError`] when one is no readable database, or both are one file.
pub fn first_difference(first: &Path, second: &Path) -> Result<Option<Difference>, CompareError> {
    open::check_two_files(first, second)?;
    let (first, second) = (Database::open(first)?, Database::open(second)?);
    if let Some(difference) = header(&first, &second)? {
        return Ok(Some(difference));
    }
    let (objects, others) = (first.objects()?, second.objects()?);
    if let Some(difference) = schema(&objects, &others) {
        return Ok(Some(difference));
    }
    for table in objects.tables() {
        if let Some(difference) = rows::first_difference(table, &first, &second)? {
            return Ok(Some(difference));
        }
    }
    Ok(places(&objects, &others))
}

fn header(first: &Database, second: &Database) -> Result<Option<Difference>, CompareError> {
    let (one, other) = (first.connection.encoding(), second.connection.encoding());
    if one != other {
        return Ok(Some(Difference::Encoding { first: one, second: other }));
    }
    let (one, other) = (first.number("user_version")?, second.number("user_version")?);
    if one != other {
        return Ok(Some(Difference::UserVersion { first: one, second: other }));
    }
    let (one, other) = (first.number("application_id")?, second.number("application_id")?);
    if one != other {
        return Ok(Some(Difference::ApplicationId { first: one, second: other }));
    }
    Ok(None)
}

fn schema(first: &Objects, second: &Objects) -> Option<Difference> {
    let lacks = |objects: &Objects, object: &Object| objects.get(object.row.kind, &object.row.name).is_none();
    let missing = |object: &Object, side| Difference::Object {
        kind: object.row.kind,
        name: object.name.clone(),
        only_in: side,
    };
    for object in first.iter() {
        let Some(other) = second.get(object.row.kind, &object.row.name) else {
            return Some(missing(object, Side::First));
        };
        let (kind, name) = (object.row.kind, object.name.clone());
        if object.row.table != other.row.table {
            let (first, second) = (object.table.clone(), other.table.clone());
            return Some(Difference::ObjectTable { kind, name, first, second });
        }
        if object.row.sql != other.row.sql {
            let (first, second) = (object.sql.clone(), other.sql.clone());
            return Some(Difference::Sql { kind, name, first, second });
        }
    }
    second.iter().find(|object| lacks(first, object)).map(|object| missing(object, Side::Second))
}

/// Whether both list the same objects in the same order. The rowids themselves may differ: objects that are outside of what is
/// replicated take some.
fn places(first: &Objects, second: &Objects) -> Option<Difference> {
    let ordered = |objects: &Objects| {
        let mut ordered: Vec<_> = objects.iter().map(|object| (object.place, object.name.clone())).collect();
        ordered.sort_unstable();
        ordered
    };
    let (first, second) = (ordered(first), ordered(second));
    let differs = |((_, one), (_, other)): &((i64, String), (i64, String))| one != other;
    let ((_, first), (_, second)) = first.into_iter().zip(second).find(differs)?;
    Some(Difference::Place { first, second })
}
