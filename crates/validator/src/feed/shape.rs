//! Rows as JSON, by the names of their columns. Pure.
//!
//! Of a row no more than [`ROW_BYTES_MAX`] is shown, of a value [`VALUE_BYTES_MAX`]; what is left out is named.

use serde_json::{Value as Json, json};
use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;
use synddb_sqlite::changeset::{RowChange, Table};
use synddb_sqlite::query::{Cell, VALUE_BYTES_MAX};

use super::history::Columns;
use crate::query::values::written;

/// Values of one row that are shown, in bytes as stored; what comes behind is said to be left out.
const ROW_BYTES_MAX: usize = 4 << 20;

const _: () = assert!(VALUE_BYTES_MAX <= ROW_BYTES_MAX);

/// What the rows of one table look like.
pub(super) struct Shape {
    /// `"table":...,"key":[...]`, and the columns that SQLite computes if there are any.
    head: Vec<u8>,
    /// Names as JSON has them.
    names: Vec<String>,
    key: Vec<bool>,
    encoding: TextEncoding,
}

impl Shape {
    pub(super) fn of(table: &Table, columns: &Columns) -> Self {
        let key: Vec<&String> =
            columns.names.iter().zip(&table.key).filter(|(_, key)| **key).map(|(name, _)| name).collect();
        let mut head = format!("\"table\":{},\"key\":{}", json!(table.name), json!(key));
        if !columns.generated.is_empty() {
            head.push_str(&format!(",\"generated\":{}", json!(columns.generated)));
        }
        let names = columns.names.iter().map(|name| json!(name).to_string()).collect();
        Self { head: head.into_bytes(), names, key: table.key.clone(), encoding: columns.encoding }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, row: &RowChange<'_>) {
        let mut left = ROW_BYTES_MAX;
        out.extend_from_slice(if out.is_empty() { b"{" } else { b",{" });
        out.extend_from_slice(&self.head);
        match row {
            RowChange::Insert { new } => {
                out.extend_from_slice(b",\"op\":\"insert\",\"before\":null,\"after\":");
                self.object(out, new.iter().map(|value| Some(*value)), &mut left);
            }
            RowChange::Delete { old } => {
                out.extend_from_slice(b",\"op\":\"delete\",\"before\":");
                self.object(out, old.iter().map(|value| Some(*value)), &mut left);
                out.extend_from_slice(b",\"after\":null");
            }
            RowChange::Update { old, new } => {
                out.extend_from_slice(b",\"op\":\"update\",\"before\":");
                self.object(out, old.iter().copied(), &mut left);
                out.extend_from_slice(b",\"after\":");
                // The identity stays what it was.
                let after = old.iter().zip(new).zip(&self.key);
                self.object(out, after.map(|((old, new), key)| if *key { *old } else { *new }), &mut left);
            }
        }
        out.push(b'}');
    }

    fn object<'v>(
        &self,
        out: &mut Vec<u8>,
        values: impl Iterator<Item = Option<Value<'v>>>,
        left: &mut usize,
    ) {
        out.push(b'{');
        let mut is_first = true;
        for (name, value) in self.names.iter().zip(values) {
            let Some(value) = value else { continue };
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            out.extend_from_slice(value_of(value, self.encoding, left).to_string().as_bytes());
        }
        out.push(b'}');
    }
}

/// A value in the form that queries answer; one that is too long is said to be left out.
fn value_of(value: Value<'_>, encoding: TextEncoding, left: &mut usize) -> Json {
    let (class, bytes) = match value {
        Value::Text(bytes) => ("text", bytes.len()),
        Value::Blob(bytes) => ("blob", bytes.len()),
        Value::Null | Value::Integer(_) | Value::Real(_) => ("", 0),
    };
    if bytes > VALUE_BYTES_MAX || bytes > *left {
        return json!({ "omitted": { "class": class, "bytes": bytes } });
    }
    *left -= bytes;
    written(Cell::of(value, encoding))
}

#[cfg(test)]
mod tests {
    use synddb_sqlite::schema::from_text;

    use super::*;

    #[test]
    fn what_is_too_long_is_named_and_left_out_and_what_comes_behind_it_is_shown() {
        let table = Table { name: "t".to_owned(), key: vec![true, false, false] };
        let names = ["id", "first", "second"].map(str::to_owned).to_vec();
        let encoding = TextEncoding::Utf16Le;
        let shape = Shape::of(&table, &Columns { names, generated: Vec::new(), encoding });
        let (long, text) = (vec![7; VALUE_BYTES_MAX + 1], from_text("né", encoding));
        let mut out = Vec::new();
        let new = vec![Value::Integer(1), Value::Blob(&long), Value::Text(&text)];
        shape.write(&mut out, &RowChange::Insert { new });
        // Half of a character is no text.
        let (old, new) = (
            vec![Some(Value::Integer(1)), None, Some(Value::Text(&text))],
            vec![None, None, Some(Value::Text(&text[..3]))],
        );
        shape.write(&mut out, &RowChange::Update { old, new });
        let rows: Json = serde_json::from_slice(&[b"[", &out[..], b"]"].concat()).unwrap();
        let omitted = json!({"omitted": {"class": "blob", "bytes": VALUE_BYTES_MAX + 1}});
        assert_eq!(rows[0]["after"], json!({"id": 1, "first": omitted, "second": "né"}));
        assert_eq!(rows[1]["before"], json!({"id": 1, "second": "né"}));
        assert_eq!(rows[1]["after"], json!({"id": 1, "second": {"text": "6e00e9"}}));
        // Of a row, no more than so much is shown.
        let value = vec![7; VALUE_BYTES_MAX];
        let mut left = ROW_BYTES_MAX;
        let shown = (0..6).map(|_| value_of(Value::Blob(&value), encoding, &mut left).get("blob").is_some());
        assert_eq!(shown.collect::<Vec<_>>(), [true, true, true, true, false, false]);
    }
}
