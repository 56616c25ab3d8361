//! Row changes as SQL, for people who look at them.
//!
//! A changeset names tables and not columns, so columns have pseudo names: `k1` is the first of the row's values and part of its
//! identity, `c2` the second and not. In a table whose identity is a rowid that is no column, the first value is that rowid.
//!
//! ```
//! use synddb_protocol::state::Value;
//! use synddb_sqlite::as_sql;
//! use synddb_sqlite::changeset::{RowChange, Table};
//!
//! let table = Table { name: "account".to_owned(), key: vec![true, false] };
//! let new = vec![Value::Integer(1), Value::Text(b"it's")];
//! let sql = as_sql::statement(&table, &RowChange::Insert { new }, 1000);
//! assert_eq!(sql, r#"INSERT INTO "account"(k1, c2) VALUES(1, 'it''s');"#);
//! ```
//!
//! Whatever the values are, the text holds no control character and nothing that changes the direction of writing: a terminal shows it, and
//! does nothing else. Values that are not cut mean to SQLite what was captured, but for the last digit of some REALs, which releases before
//! 3.43 read less exactly than they are written here.

use std::fmt::Write as _;

use synddb_protocol::state::Value;

use crate::changeset::{RowChange, Table};

/// Runs of characters that are joined by `||` in one value, at most; a value of more is written in hex. SQLite bounds how deep an expression is.
const RUNS_MAX: usize = 64;

/// One change as one statement, on one line. Of each text and blob at most `value_bytes_max` bytes are written; a comment says how many
/// more there are, and the statement then means another value.
pub fn statement(table: &Table, change: &RowChange<'_>, value_bytes_max: usize) -> String {
    let name = quoted(&table.name);
    let columns = columns(table);
    let shown = |value: &Value<'_>| value_text(*value, value_bytes_max);
    match change {
        RowChange::Insert { new } => {
            let values: Vec<String> = new.iter().map(shown).collect();
            format!("INSERT INTO {name}({}) VALUES({});", columns.join(", "), values.join(", "))
        }
        RowChange::Delete { old } => {
            let held =
                old.iter().zip(&columns).map(|(value, column)| format!("{column} IS {}", shown(value)));
            format!("DELETE FROM {name} WHERE {};", held.collect::<Vec<_>>().join(" AND "))
        }
        RowChange::Update { old, new } => {
            let pairs = |values: &[Option<Value<'_>>], between: &str| -> Vec<String> {
                let named = values.iter().zip(&columns);
                named
                    .filter_map(|(value, column)| {
                        value.as_ref().map(|value| format!("{column} {between} {}", shown(value)))
                    })
                    .collect()
            };
            let (set, held) = (pairs(new, "=").join(", "), pairs(old, "IS").join(" AND "));
            format!("UPDATE {name} SET {set} WHERE {held};")
        }
    }
}

fn columns(table: &Table) -> Vec<String> {
    let named = table.key.iter().enumerate();
    named.map(|(at, key)| format!("{}{}", if *key { 'k' } else { 'c' }, at + 1)).collect()
}

/// A name in quotes, with what no terminal should see escaped.
fn quoted(name: &str) -> String {
    format!("\"{}\"", shown(&name.replace('"', "\"\"")))
}

/// Whether a character may change what a terminal shows around it, or what a person reads.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Text with everything escaped that a terminal could obey, or that hides: `\u{1b}` for the escape character.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) { out.extend(character.escape_unicode()) } else { out.push(character) }
    }
    out
}

/// A value as SQL, of at most so many bytes of text or blob.
pub fn value_text(value: Value<'_>, bytes_max: usize) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => real(value),
        Value::Text(bytes) => {
            let kept = text_within(bytes, bytes_max);
            text(kept) + &cut(bytes.len() - kept.len())
        }
        Value::Blob(bytes) => {
            let kept = &bytes[..bytes.len().min(bytes_max)];
            format!("x'{}'{}", hex(kept), cut(bytes.len() - kept.len()))
        }
    }
}

fn cut(bytes: usize) -> String {
    if bytes == 0 { String::new() } else { format!(" /* and {bytes} bytes more */") }
}

/// The shortest digits that mean the number, with a point or an exponent so that it is no integer.
fn real(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "9e999" } else { "-9e999" }.to_owned();
    }
    format!("{value:?}")
}

/// The first bytes, cut at the end of a character where they are UTF-8.
fn text_within(bytes: &[u8], bytes_max: usize) -> &[u8] {
    if bytes.len() <= bytes_max {
        return bytes;
    }
    let begins = |at: &usize| bytes[*at] & 0xc0 != 0x80;
    let end = (bytes_max.saturating_sub(3)..=bytes_max).rev().find(begins).unwrap_or(bytes_max);
    &bytes[..end]
}

/// Text in quotes where it can be shown; characters that cannot are `char(…)`. What is no UTF-8, or has many such characters, is in hex.
fn text(bytes: &[u8]) -> String {
    let in_hex = || format!("CAST(x'{}' AS TEXT)", hex(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return in_hex() };
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut runs: Vec<(bool, String)> = Vec::new();
    for character in text.chars() {
        let hidden = is_hidden(character);
        if runs.last().is_none_or(|(last, _)| *last != hidden) {
            if runs.len() == RUNS_MAX {
                return in_hex();
            }
            runs.push((hidden, String::new()));
        }
        let Some((_, run)) = runs.last_mut() else { continue };
        match (hidden, character) {
            (true, character) => {
                let before = if run.is_empty() { "" } else { ", " };
                // Writing to a string cannot fail.
                write!(run, "{before}{}", u32::from(character)).ok();
            }
            (false, '\'') => run.push_str("''"),
            (false, character) => run.push(character),
        }
    }
    let written = runs
        .into_iter()
        .map(|(hidden, run)| if hidden { format!("char({run})") } else { format!("'{run}'") });
    written.collect::<Vec<_>>().join(" || ")
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        write!(out, "{byte:02x}").ok();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(value: Value<'_>) -> String {
        value_text(value, usize::MAX)
    }

    #[test]
    fn every_class_has_a_text() {
        assert_eq!(whole(Value::Null), "NULL");
        assert_eq!(whole(Value::Integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(whole(Value::Real(1.0)), "1.0");
        assert_eq!(whole(Value::Real(-0.0)), "-0.0");
        assert_eq!(whole(Value::Real(1e300)), "1e300");
        assert_eq!(whole(Value::Real(f64::NEG_INFINITY)), "-9e999");
        assert_eq!(whole(Value::Blob(b"\x00\xff")), "x'00ff'");
        assert_eq!(whole(Value::Text(b"")), "''");
    }

    #[test]
    fn no_text_moves_a_terminal() {
        let hostile = "a'\u{1b}]0;title\u{7}b\r\n\u{9b}2J\u{202e}c\0";
        let sql = whole(Value::Text(hostile.as_bytes()));
        assert_eq!(
            sql,
            "'a''' || char(27) || ']0;title' || char(7) || 'b' || char(13, 10, 155) || '2J' || char(8238) || 'c' || char(0)"
        );
        let table = Table { name: "t\u{1b}[2J\"".to_owned(), key: vec![true] };
        let sql = statement(&table, &RowChange::Delete { old: vec![Value::Integer(1)] }, 10);
        assert_eq!(sql, "DELETE FROM \"t\\u{1b}[2J\"\"\" WHERE k1 IS 1;");
        let many = "\u{1b}x".repeat(RUNS_MAX);
        assert!(whole(Value::Text(many.as_bytes())).starts_with("CAST(x'1b78"));
        assert_eq!(whole(Value::Text(b"\xff\x1b")), "CAST(x'ff1b' AS TEXT)");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(value_text(Value::Blob(b"abc"), 1), "x'61' /* and 2 bytes more */");
        assert_eq!(value_text(Value::Text("aé".as_bytes()), 2), "'a' /* and 2 bytes more */");
        assert_eq!(value_text(Value::Text("aé".as_bytes()), 3), "'aé'");
        assert_eq!(value_text(Value::Text(b"abc"), 0), "'' /* and 3 bytes more */");
    }

    #[test]
    fn an_update_names_what_was_and_what_is() {
        let table = Table { name: "t".to_owned(), key: vec![true, false, false] };
        let old = vec![Some(Value::Integer(5)), None, Some(Value::Null)];
        let new = vec![None, None, Some(Value::Real(0.5))];
        let sql = statement(&table, &RowChange::Update { old, new }, 10);
        assert_eq!(sql, "UPDATE \"t\" SET c3 = 0.5 WHERE k1 IS 5 AND c3 IS NULL;");
    }
}
