//! The schema of a database: its objects as `sqlite_schema` has them, and how the tables lay out their rows.
//!
//! Knows nothing of commits and pages. No SQL is parsed here: what a text means is asked of SQLite, in a scratch database in
//! memory.

mod change;
mod layout;
mod objects;
mod text;

pub use change::{SchemaDifference, TableFate, difference};
pub use layout::{Affinity, Column, Identity, Layout, check_indexes};
pub use objects::{Object, Objects, is_outside};
pub use text::{from_text, to_text};

use crate::connection::SqliteError;

/// Why a schema cannot be replicated.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SchemaError {
    /// SQLite could not do what was asked.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// SQLite does not understand the text by itself: it needs a function, collation or module that is not built in.
    #[error(
        "sqlite cannot read a schema text without the application's extensions; remove what it names. object=`{name}`"
    )]
    Foreign {
        /// The object.
        name: String,
        /// What SQLite said.
        source: SqliteError,
    },
    /// The name is one that SyndDB keeps for itself.
    #[error("names that begin with `_synddb` are reserved; rename the object. object=`{name}`")]
    Reserved {
        /// The object.
        name: String,
    },
    /// The table's columns take all three names of the rowid, so that no statement can name it.
    #[error(
        "a table without INTEGER PRIMARY KEY must leave one of rowid, oid, _rowid_ unused; rename a column. table=`{name}`"
    )]
    HiddenRowid {
        /// The table.
        name: String,
    },
    /// The table has as many columns as a result may have, so that its rows cannot be read together with their rowids.
    #[error(
        "a table without INTEGER PRIMARY KEY must have fewer columns than SQLite reads at once; remove one, or give it that key. \
         table=`{name}` columns_max=`{}`",
        layout::COLUMNS_MAX - 1
    )]
    TooWide {
        /// The table.
        name: String,
    },
    /// A row of `sqlite_schema` that no SQLite writes.
    #[error("sqlite_schema is damaged; run `PRAGMA integrity_check`. what=`{what}`")]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
}
