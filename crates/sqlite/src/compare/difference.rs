//! A difference between two databases, in words.

use std::fmt;

use synddb_protocol::state::Value;
use synddb_protocol::submission::{ObjectKind, TextEncoding};

use crate::schema::to_text;
use crate::value::OwnedValue;

/// Most bytes of a value that are shown.
const SHOWN_MAX: usize = 64;

/// Most characters of a schema text that are shown.
const SQL_SHOWN_MAX: usize = 160;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// What identifies a row: its rowid, or the columns of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowIdentity {
    /// Columns and their values.
    pub columns: Vec<(String, OwnedValue)>,
    /// The encoding of texts in this row, and in the difference that it is part of.
    pub encoding: TextEncoding,
}

/// The first thing in which two databases differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The text encoding.
    Encoding {
        /// In the first file.
        first: TextEncoding,
        /// In the second file.
        second: TextEncoding,
    },
    /// `PRAGMA user_version`.
    UserVersion {
        /// In the first file.
        first: i32,
        /// In the second file.
        second: i32,
    },
    /// `PRAGMA application_id`.
    ApplicationId {
        /// In the first file.
        first: i32,
        /// In the second file.
        second: i32,
    },
    /// An object of the schema that the other file lacks.
    Object {
        /// What it is.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// The file that has it.
        only_in: Side,
    },
    /// An object belongs to another table.
    ObjectTable {
        /// What it is.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// The table in the first file.
        first: String,
        /// The table in the second file.
        second: String,
    },
    /// The SQL text of an object.
    Sql {
        /// What it is.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// The text in the first file.
        first: Option<String>,
        /// The text in the second file.
        second: Option<String>,
    },
    /// A row that the other file lacks.
    Row {
        /// The table.
        table: String,
        /// The row.
        identity: RowIdentity,
        /// The file that has it.
        only_in: Side,
    },
    /// A value of a row that both have. A column of the key when both keys compare equal in SQL and are not the same.
    Value {
        /// The table.
        table: String,
        /// The row, as the first file has it.
        identity: RowIdentity,
        /// The column.
        column: String,
        /// The value in the first file.
        first: OwnedValue,
        /// The value in the second file.
        second: OwnedValue,
    },
    /// The order of objects in `sqlite_schema`, where everything else is equal.
    Place {
        /// What the first file has at the first place that differs.
        first: String,
        /// What the second file has there.
        second: String,
    },
}

/// A difference in the words of a report: the first file is what is expected, the second what was found. Values are cut when they are long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What differs: `table t`, `index i`, `user_version`.
    pub object: String,
    /// The table that holds the row.
    pub table: Option<String>,
    /// What identifies the row.
    pub row: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// What the first file has.
    pub expected: String,
    /// What the second file has.
    pub found: String,
}

impl Difference {
    /// The difference in the words of a report.
    pub fn told(&self) -> Told {
        let of = |object: String, expected: String, found: String| Told {
            object,
            table: None,
            row: None,
            column: None,
            expected,
            found,
        };
        let named = |kind: ObjectKind, name: &str| format!("{} {name}", word(kind));
        let sql = |text: &Option<String>, other: &Option<String>| {
            let (text, other) = (text.as_deref().unwrap_or("(none)"), other.as_deref().unwrap_or("(none)"));
            excerpt(text, text.chars().zip(other.chars()).take_while(|(one, other)| one == other).count())
        };
        match self {
            Self::Encoding { first, second } => {
                of("encoding".to_owned(), encoding(*first).to_owned(), encoding(*second).to_owned())
            }
            Self::UserVersion { first, second } => {
                of("user_version".to_owned(), first.to_string(), second.to_string())
            }
            Self::ApplicationId { first, second } => {
                of("application_id".to_owned(), first.to_string(), second.to_string())
            }
            Self::Object { kind, name, only_in } => {
                let (expected, found) = only_in.told(word(*kind));
                of(named(*kind, name), expected, found)
            }
            Self::ObjectTable { kind, name, first, second } => {
                of(named(*kind, name), format!("on table {first}"), format!("on table {second}"))
            }
            Self::Sql { kind, name, first, second } => {
                of(named(*kind, name), sql(first, second), sql(second, first))
            }
            Self::Row { table, identity, only_in } => {
                let (expected, found) = only_in.told("row");
                let told = of(format!("table {table}"), expected, found);
                Told { table: Some(table.clone()), row: Some(identity.to_string()), ..told }
            }
            Self::Value { table, identity, column, first, second } => {
                let shown = |value: &OwnedValue| {
                    Shown { value: value.borrow(), encoding: identity.encoding }.to_string()
                };
                Told {
                    object: format!("table {table}"),
                    table: Some(table.clone()),
                    row: Some(identity.to_string()),
                    column: Some(column.clone()),
                    expected: shown(first),
                    found: shown(second),
                }
            }
            Self::Place { first, second } => {
                of("order of sqlite_schema".to_owned(), first.clone(), second.clone())
            }
        }
    }
}

impl Side {
    /// What is expected and what was found, of something that one file has.
    fn told(self, what: &str) -> (String, String) {
        let article = if what.starts_with('i') { "an" } else { "a" };
        match self {
            Self::First => (format!("{article} {what}"), format!("no {what}")),
            Self::Second => (format!("no {what}"), format!("{article} {what}")),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding { first, second } => {
                write!(f, "text encoding: {} against {}", encoding(*first), encoding(*second))
            }
            Self::UserVersion { first, second } => write!(f, "user_version: {first} against {second}"),
            Self::ApplicationId { first, second } => write!(f, "application_id: {first} against {second}"),
            Self::Object { kind, name, only_in } => {
                write!(f, "{} {name}: only in the {only_in} database", word(*kind))
            }
            Self::ObjectTable { kind, name, first, second } => {
                write!(f, "{} {name}: on table {first} against {second}", word(*kind))
            }
            Self::Sql { kind, name, first, second } => {
                let first = first.as_deref().unwrap_or("(none)");
                let second = second.as_deref().unwrap_or("(none)");
                let same = first.chars().zip(second.chars()).take_while(|(one, other)| one == other).count();
                let (first, second) = (excerpt(first, same), excerpt(second, same));
                write!(f, "{} {name}, sql: {first}\n  against {second}", word(*kind))
            }
            Self::Row { table, identity, only_in } => {
                write!(f, "table {table}, row {identity}: only in the {only_in} database")
            }
            Self::Value { table, identity, column, first, second } => {
                let shown = |value| Shown { value, encoding: identity.encoding };
                let (one, other) = (shown(first.borrow()), shown(second.borrow()));
                write!(f, "table {table}, row {identity}, column {column}: {one}\n  against {other}")?;
                match differs_at(first.borrow(), second.borrow()) {
                    Some(byte) => write!(f, ", from byte {byte} on"),
                    None => Ok(()),
                }
            }
            Self::Place { first, second } => {
                write!(f, "order of sqlite_schema: {first} against {second} at the first place that differs")
            }
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Second => "second",
        })
    }
}

impl fmt::Display for RowIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.columns.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let value = Shown { value: value.borrow(), encoding: self.encoding };
            write!(f, "{separator}{name}={value}")?;
        }
        Ok(())
    }
}

/// A value with its storage class, cut when it is long.
pub(crate) struct Shown<'v> {
    pub(crate) value: Value<'v>,
    pub(crate) encoding: TextEncoding,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Value::Null => f.write_str("NULL"),
            Value::Integer(value) => write!(f, "{value} (integer)"),
            Value::Real(value) => write!(f, "{value:?} (real)"),
            Value::Text(bytes) => match to_text(bytes, self.encoding) {
                Ok(text) => {
                    let shown: String = text.chars().take(SHOWN_MAX).collect();
                    let cut = if shown.len() < text.len() { "..." } else { "" };
                    // Line ends and the like are escaped, quotes as SQL does.
                    let shown = shown.replace('\'', "''");
                    let shown: String = shown.chars().map(escaped).collect();
                    write!(f, "'{shown}{cut}' (text{})", Length { bytes, cut: !cut.is_empty() })
                }
                Err(_) => {
                    let (encoding, length) = (encoding(self.encoding), Length { bytes, cut: true });
                    write!(f, "{} (text, no valid {encoding}{length})", Hex(bytes))
                }
            },
            Value::Blob(bytes) => {
                write!(f, "{} (blob{})", Hex(bytes), Length { bytes, cut: bytes.len() > SHOWN_MAX })
            }
        }
    }
}

/// A text on one line, and when it is long only what surrounds a character.
fn excerpt(text: &str, character: usize) -> String {
    let length = text.chars().count();
    let from = if length > SQL_SHOWN_MAX { character.saturating_sub(SQL_SHOWN_MAX / 2) } else { 0 };
    let shown = text.chars().skip(from).take(SQL_SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c });
    let before = if from > 0 { "..." } else { "" };
    let after = if from + SQL_SHOWN_MAX < length { "..." } else { "" };
    format!("{before}{}{after}", shown.collect::<String>())
}

fn escaped(character: char) -> String {
    if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
}

struct Hex<'v>(&'v [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("x'")?;
        for byte in self.0.iter().take(SHOWN_MAX) {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(if self.0.len() > SHOWN_MAX { "...'" } else { "'" })
    }
}

struct Length<'v> {
    bytes: &'v [u8],
    cut: bool,
}

impl fmt::Display for Length<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut { write!(f, ", {} bytes", self.bytes.len()) } else { Ok(()) }
    }
}

/// The byte from which on two long values of one class differ, where what is shown may not tell.
fn differs_at(first: Value<'_>, second: Value<'_>) -> Option<usize> {
    let (first, second) = match (first, second) {
        (Value::Text(one), Value::Text(other)) | (Value::Blob(one), Value::Blob(other)) => (one, other),
        (Value::Null | Value::Integer(_) | Value::Real(_) | Value::Text(_) | Value::Blob(_), _) => {
            return None;
        }
    };
    let same = first.iter().zip(second).take_while(|(one, other)| one == other).count();
    (first.len().max(second.len()) > SHOWN_MAX).then_some(same)
}

fn encoding(encoding: TextEncoding) -> &'static str {
    match encoding {
        TextEncoding::Utf8 => "UTF-8",
        TextEncoding::Utf16Le => "UTF-16le",
        TextEncoding::Utf16Be => "UTF-16be",
    }
}

fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "table",
        ObjectKind::Index => "index",
        ObjectKind::View => "view",
        ObjectKind::Trigger => "trigger",
    }
}
