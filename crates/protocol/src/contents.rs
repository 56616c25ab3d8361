//! What a replica says of its contents, so that two of them find what they differ in without sending it all: digests of tables, of runs of
//! rows, and rows whose long values are cut.
//!
//! A run of rows is what stands behind one key and through another in the order of the table's identity: its rowid, or the key of a WITHOUT
//! ROWID table with the collations and directions that it was declared with. Both ends are optional. The digests of runs are those of
//! [`crate::state::TableHash`], which add up: the runs that make up a table have its digest between them.
//!
//! Whoever reads an answer believes none of it: it is what one peer says.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::hash::{StateHash, TableDigest};
use crate::id::{Sequence, StreamId};
use crate::submission::{ObjectKind, TextEncoding};

/// Most bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Most bytes of what is asked: as many keys as may be, of the longest, whatever JSON makes of a byte, and what stands around them.
pub const QUESTION_BYTES_MAX: usize = RUNS_MAX * KEY_BYTES_MAX * 6 + (1 << 19);
/// Most values of a key: no table has more columns.
pub const KEY_VALUES_MAX: usize = 2000;
/// Most runs that rows are cut into.
pub const RUNS_MAX: usize = 1024;
/// Most rows that are listed one by one.
pub const LISTED_MAX: usize = 256;
/// Most values that are listed one by one: of a table with many columns fewer rows are.
pub const VALUES_MAX: usize = 4096;
/// Longest key that a run ends at, in bytes of its text and blobs. A longer one is passed over for the next row's.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Longest value that is listed whole, and what is shown of a longer one, in bytes.
pub const SHOWN_BYTES_MAX: usize = 128;
/// Most objects of a schema that are listed.
pub const OBJECTS_MAX: usize = 4096;
/// How much of an object's SQL is listed, in characters.
pub const SQL_SHOWN_MAX: usize = 256;
/// Most states of an answer.
pub const STATES_MAX: usize = 4096;
/// States of messages so far behind the replica's position are forgotten.
pub const STATES_KEPT: u64 = 65_536;

const _: () =
    assert!(RUNS_MAX * KEY_BYTES_MAX * 6 < ANSWER_BYTES_MAX, "keys fit, whatever JSON makes of a byte");
const _: () =
    assert!(VALUES_MAX * SHOWN_BYTES_MAX * 6 < ANSWER_BYTES_MAX, "values fit, whatever JSON makes of a byte");

/// A stored value as JSON has it, exactly: numbers that a reader of JSON may round are text.
///
/// ```
/// use synddb_protocol::contents::Scalar;
/// let values = [Scalar::Null, Scalar::Integer(7), Scalar::Real(-0.0), Scalar::Text("né".into()), Scalar::Blob(vec![0, 255])];
/// let json = r#"[null,7,{"real":"-0.0"},"né",{"blob":"00ff"}]"#;
/// assert_eq!(serde_json::to_string(&values)?, json);
/// assert_eq!(serde_json::from_str::<Vec<Scalar>>(json)?, values);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub enum Scalar {
    /// NULL.
    Null,
    /// INTEGER.
    Integer(i64),
    /// REAL. Never a NaN, which SQLite does not store.
    Real(f64),
    /// TEXT.
    Text(String),
    /// TEXT that is none in the encoding of its database: as stored.
    Bytes(Vec<u8>),
    /// BLOB.
    Blob(Vec<u8>),
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(one), Self::Integer(two)) => one == two,
            (Self::Real(one), Self::Real(two)) => one.to_bits() == two.to_bits(),
            (Self::Text(one), Self::Text(two)) => one == two,
            (Self::Bytes(one), Self::Bytes(two)) | (Self::Blob(one), Self::Blob(two)) => one == two,
            (
                Self::Null
                | Self::Integer(_)
                | Self::Real(_)
                | Self::Text(_)
                | Self::Bytes(_)
                | Self::Blob(_),
                _,
            ) => false,
        }
    }
}

impl Eq for Scalar {}

/// Integers up to this are JSON numbers.
const INTEGER_MAX: u64 = 1 << 53;

/// A stored value. An integer beyond 2^53, every real number, bytes, and text that is none are objects.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub(crate) enum Form {
    Null,
    Integer(i64),
    Text(String),
    Written(Written),
}

#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Written {
    Integer(String),
    Real(String),
    Text(String),
    Blob(String),
}

impl From<Scalar> for Form {
    fn from(value: Scalar) -> Self {
        match value {
            Scalar::Null => Self::Null,
            Scalar::Integer(value) if value.unsigned_abs() <= INTEGER_MAX => Self::Integer(value),
            Scalar::Integer(value) => Self::Written(Written::Integer(value.to_string())),
            Scalar::Real(value) => Self::Written(Written::Real(format!("{value:?}"))),
            Scalar::Text(text) => Self::Text(text),
            Scalar::Bytes(bytes) => Self::Written(Written::Text(hex::encode(bytes))),
            Scalar::Blob(bytes) => Self::Written(Written::Blob(hex::encode(bytes))),
        }
    }
}

impl TryFrom<Form> for Scalar {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, Self::Error> {
        const NONE: &str = "a value is null, an integer, a string, or an object like {\"real\": \"0.5\"}";
        Ok(match form {
            Form::Null => Self::Null,
            Form::Integer(value) => Self::Integer(value),
            Form::Text(text) => Self::Text(text),
            Form::Written(Written::Integer(text)) => Self::Integer(text.parse().map_err(|_| NONE)?),
            Form::Written(Written::Real(text)) => match text.parse::<f64>() {
                Ok(value) if !value.is_nan() => Self::Real(value),
                Ok(_) | Err(_) => return Err(NONE),
            },
            Form::Written(Written::Text(text)) => Self::Bytes(hex::decode(text).map_err(|_| NONE)?),
            Form::Written(Written::Blob(text)) => Self::Blob(hex::decode(text).map_err(|_| NONE)?),
        })
    }
}

/// The values of the columns that order a table's rows, in the order of its key.
pub type Key = Vec<Scalar>;

/// Which committed state of which replica an answer is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct At {
    /// The log.
    pub stream: StreamId,
    /// The last message in the replica.
    pub sequence: Sequence,
    /// The state hash that the log claims there. Whether the file has it is another matter.
    pub state: StateHash,
}

/// An answer, and the state that it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Answer<T> {
    /// Which state.
    pub at: At,
    /// What was found in it.
    pub found: T,
}

/// What a database holds, by a full scan of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// The state hash that the scan comes to.
    pub state: StateHash,
    /// The same over schema and header values alone, as if there were no table.
    pub head: StateHash,
    /// The text encoding.
    pub encoding: TextEncoding,
    /// `PRAGMA user_version`.
    pub user_version: i32,
    /// `PRAGMA application_id`.
    pub application_id: i32,
    /// Every table that stores rows, by name.
    pub tables: Vec<TableContents>,
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TableContents {
    /// Its name.
    pub name: String,
    /// How many rows.
    pub rows: u64,
    /// Their digest.
    pub digest: TableDigest,
}

/// A row of `sqlite_schema`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SchemaObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The table that it belongs to.
    pub table: String,
    /// The beginning of its SQL; `None` for an index that SQLite made by itself.
    pub sql: Option<String>,
    /// The digest of one row that holds the whole SQL.
    pub digest: TableDigest,
}

/// Which rows are asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RowsQuery {
    /// The table.
    pub table: String,
    /// Only rows behind this key.
    #[serde(default, deserialize_with = "key", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Scalar>>))]
    pub after: Option<Key>,
    /// Only rows up to this key, with the one that has it.
    #[serde(default, deserialize_with = "key", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Scalar>>))]
    pub through: Option<Key>,
    /// How the answer cuts them.
    #[serde(default)]
    pub cut: Cut,
}

/// How rows are cut.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// As whoever answers likes: few rows are listed, many are cut into about equal runs.
    #[default]
    Freely,
    /// Into the runs that end at these keys, in this order, and what is left behind the last one.
    At(#[serde(deserialize_with = "keys")] Vec<Vec<Scalar>>),
    /// Not at all: the first rows are listed, as many as may be.
    Listed,
}

/// A list of which the first `MAX` are kept, and one more: whoever counts them refuses it, and memory holds no more of what a stranger sent.
struct AtMost<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kept<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Kept<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut kept = Vec::new();
                while kept.len() <= MAX {
                    let Some(next) = list.next_element()? else { return Ok(kept) };
                    kept.push(next);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(kept)
            }
        }

        deserializer.deserialize_seq(Kept::<T, MAX>(PhantomData)).map(Self)
    }
}

type AtMostKey = AtMost<Scalar, KEY_VALUES_MAX>;

fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Key>, D::Error> {
    Ok(Option::<AtMostKey>::deserialize(deserializer)?.map(|key| key.0))
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Key>, D::Error> {
    // With what is left behind the last key, they make up [`RUNS_MAX`] runs.
    let keys = AtMost::<AtMostKey, { RUNS_MAX - 1 }>::deserialize(deserializer)?;
    Ok(keys.0.into_iter().map(|key| key.0).collect())
}

/// What rows there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// The names of the columns in a listed row. The first may be the rowid.
    pub columns: Vec<String>,
    /// The places among them of the columns that identify a row.
    pub key: Vec<usize>,
    /// The rows.
    pub found: Found,
}

/// Rows, as far as they were asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Runs that follow each other and leave nothing out.
    Runs(Vec<Run>),
    /// Rows in their order.
    Listed {
        /// The rows.
        rows: Vec<ListedRow>,
        /// Whether there are more behind them.
        more: bool,
    },
}

/// A run of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The key that it ends at; `None` where it has no end.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Scalar>>))]
    pub through: Option<Key>,
    /// How many rows.
    pub rows: u64,
    /// Their digest.
    pub digest: TableDigest,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListedRow {
    /// Its digest, as that of a table with this row alone.
    pub digest: TableDigest,
    /// Its values.
    pub values: Vec<Shown>,
}

/// A value, cut when it is long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The value, or the beginning of it.
    pub value: Scalar,
    /// What was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
}

/// A value that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// How many bytes it has.
    pub bytes: u64,
    /// The digest of one row that holds it alone.
    pub digest: TableDigest,
}

/// A state that a replica was committed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", schema(as = CommittedState))]
pub struct State {
    /// The last message in the replica then.
    pub sequence: Sequence,
    /// Its state hash.
    pub state: StateHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_from_its_form() {
        let values = [
            Scalar::Integer(1 << 53),
            Scalar::Integer((1 << 53) + 1),
            Scalar::Integer(i64::MIN),
            Scalar::Real(0.1 + 0.2),
            Scalar::Real(1.0),
            Scalar::Real(5e-324),
            Scalar::Real(f64::MIN),
            Scalar::Real(f64::INFINITY),
            Scalar::Real(f64::NEG_INFINITY),
            Scalar::Text("\u{0}\u{202e}'".to_owned()),
            Scalar::Bytes(vec![0xff, 0xd8]),
            Scalar::Blob(Vec::new()),
        ];
        for value in values {
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Scalar>(&text).unwrap(), value, "{text}");
        }
        assert_ne!(Scalar::Real(0.0), Scalar::Real(-0.0));
        assert_ne!(Scalar::Real(1.0), Scalar::Integer(1));
    }

    #[test]
    fn of_a_question_no_more_is_kept_than_one_over_its_bounds() {
        let read = |values: usize, keys: usize| {
            let key = format!("[{}]", vec!["0"; values].join(","));
            let keys = vec!["[0]"; keys].join(",");
            let json =
                format!(r#"{{"table":"t","after":{key},"through":{key},"cut":{{"at":[{key},{keys}]}}}}"#);
            let query: RowsQuery = serde_json::from_str(&json).unwrap();
            let Cut::At(at) = query.cut else { unreachable!() };
            let kept = query.after.unwrap().len();
            assert_eq!((query.through.unwrap().len(), at[0].len()), (kept, kept));
            (kept, at.len())
        };
        assert_eq!(read(KEY_VALUES_MAX, RUNS_MAX - 2), (KEY_VALUES_MAX, RUNS_MAX - 1));
        assert_eq!(read(3 * KEY_VALUES_MAX, 3 * RUNS_MAX), (KEY_VALUES_MAX + 1, RUNS_MAX));
        assert!(serde_json::from_str::<RowsQuery>(r#"{"table":"t","after":{}}"#).is_err());
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "0.5",
            "true",
            "[1]",
            "{}",
            r#"{"blob":"0"}"#,
            r#"{"real":"NaN"}"#,
            r#"{"blob":"00","real":"1"}"#,
        ] {
            assert!(serde_json::from_str::<Scalar>(text).is_err(), "{text}");
        }
    }
}
