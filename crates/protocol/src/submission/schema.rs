//! Schema changes: the DDL effect of one commit, as rows of `sqlite_schema`.
//!
//! Names and SQL are bytes as the file stores them, in its text encoding.

use serde::{Deserialize, Serialize};

use crate::encoding::cbor::{Reader, Writer};
use crate::encoding::{Canonical, DecodeError};
use crate::limits::{NAME_BYTES_MAX, SQL_BYTES_MAX};

/// The text encoding of a database file (SQLite file format, section 1.3.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TextEncoding {
    /// UTF-8, number 1 in the file header.
    Utf8,
    /// UTF-16 little-endian, number 2.
    Utf16Le,
    /// UTF-16 big-endian, number 3.
    Utf16Be,
}

impl TextEncoding {
    /// The number in the file header.
    pub const fn code(self) -> u8 {
        match self {
            Self::Utf8 => 1,
            Self::Utf16Le => 2,
            Self::Utf16Be => 3,
        }
    }
}

impl Canonical for TextEncoding {
    const WHAT: &'static str = "text encoding";
    const BYTES_MAX: usize = 1;

    fn write(&self, writer: &mut Writer) {
        writer.uint(self.code());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.uint(Self::WHAT)? {
            1 => Ok(Self::Utf8),
            2 => Ok(Self::Utf16Le),
            3 => Ok(Self::Utf16Be),
            _ => Err(DecodeError::Invalid { what: Self::WHAT, why: "it is 1, 2 or 3" }),
        }
    }
}

/// What a row of `sqlite_schema` describes: its `type` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A table, also a virtual one.
    Table,
    /// An index.
    Index,
    /// A view.
    View,
    /// A trigger.
    Trigger,
}

impl Canonical for ObjectKind {
    const WHAT: &'static str = "kind of schema object";
    const BYTES_MAX: usize = 1;

    fn write(&self, writer: &mut Writer) {
        writer.uint(match self {
            Self::Table => 0u8,
            Self::Index => 1,
            Self::View => 2,
            Self::Trigger => 3,
        });
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.uint(Self::WHAT)? {
            0 => Ok(Self::Table),
            1 => Ok(Self::Index),
            2 => Ok(Self::View),
            3 => Ok(Self::Trigger),
            _ => Err(DecodeError::Invalid { what: Self::WHAT, why: "it is 0 to 3" }),
        }
    }
}

/// One row of `sqlite_schema`, without its root page, which differs from file to file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaRow {
    /// The `type` column.
    pub kind: ObjectKind,
    /// The `name` column.
    pub name: Vec<u8>,
    /// The `tbl_name` column.
    pub table: Vec<u8>,
    /// The `sql` column; `None` is NULL, as an index has that SQLite made by itself.
    pub sql: Option<Vec<u8>>,
}

impl Canonical for SchemaRow {
    const WHAT: &'static str = "schema row";
    const BYTES_MAX: usize = 2 * NAME_BYTES_MAX + SQL_BYTES_MAX + 32;

    fn write(&self, writer: &mut Writer) {
        writer.array(4);
        self.kind.write(writer);
        writer.bytes(&self.name);
        writer.bytes(&self.table);
        match &self.sql {
            Some(sql) => writer.bytes(sql),
            None => writer.null(),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.array_exact(Self::WHAT, 4)?;
        let kind = ObjectKind::read(reader)?;
        let name = reader.bytes("name", NAME_BYTES_MAX)?.to_vec();
        let table = reader.bytes("table name", NAME_BYTES_MAX)?.to_vec();
        let sql = if reader.at_null() {
            reader.null("sql")?;
            None
        } else {
            Some(reader.bytes("sql", SQL_BYTES_MAX)?.to_vec())
        };
        Ok(Self { kind, name, table, sql })
    }
}

/// One change of the schema. A commit's schema changes stand in the order in which they apply.
///
/// `place` is the rowid of the object's row in `sqlite_schema`: it decides in which order a dump lists the objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SchemaChange {
    /// The object is gone.
    Drop {
        /// What it was.
        kind: ObjectKind,
        /// Its name.
        name: Vec<u8>,
    },
    /// The object is new.
    Create {
        /// Its row.
        row: SchemaRow,
        /// The rowid of its row.
        place: i64,
    },
    /// The row changed, what the object stores did not: ADD COLUMN, RENAME, a row moved by VACUUM.
    Amend {
        /// The name before.
        name: Vec<u8>,
        /// The row after.
        row: SchemaRow,
        /// The rowid of its row.
        place: i64,
    },
    /// The table's rows were rewritten: they all travel with this commit.
    Rebuild {
        /// The name before.
        name: Vec<u8>,
        /// The row after.
        row: SchemaRow,
        /// The rowid of its row.
        place: i64,
    },
}

impl Canonical for SchemaChange {
    const WHAT: &'static str = "schema change";
    const BYTES_MAX: usize = SchemaRow::BYTES_MAX + NAME_BYTES_MAX + 32;

    fn write(&self, writer: &mut Writer) {
        let mut head = |count: usize, code: u8| {
            writer.array(count);
            writer.uint(code);
        };
        match self {
            Self::Drop { kind, name } => {
                head(3, 0);
                kind.write(writer);
                writer.bytes(name);
            }
            Self::Create { row, place } => {
                head(3, 1);
                row.write(writer);
                writer.int(*place);
            }
            Self::Amend { name, row, place } => {
                head(4, 2);
                writer.bytes(name);
                row.write(writer);
                writer.int(*place);
            }
            Self::Rebuild { name, row, place } => {
                head(4, 3);
                writer.bytes(name);
                row.write(writer);
                writer.int(*place);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.array(Self::WHAT, 4)?;
        let code = reader.uint(Self::WHAT)?;
        if (code, count) == (0, 3) {
            return Ok(Self::Drop { kind: ObjectKind::read(reader)?, name: read_name(reader)? });
        }
        let name = match (code, count) {
            (1, 3) => None,
            (2 | 3, 4) => Some(read_name(reader)?),
            _ => return Err(DecodeError::Invalid { what: Self::WHAT, why: "it is no known kind of change" }),
        };
        let row = SchemaRow::read(reader)?;
        let place = reader.int("place in the schema")?;
        Ok(match name {
            None => Self::Create { row, place },
            Some(name) if code == 2 => Self::Amend { name, row, place },
            Some(name) => Self::Rebuild { name, row, place },
        })
    }
}

fn read_name(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    Ok(reader.bytes("name", NAME_BYTES_MAX)?.to_vec())
}
