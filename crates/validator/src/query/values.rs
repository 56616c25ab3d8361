//! The values of rows and parameters as JSON says them.

use serde_json::{Value, json};
use synddb_service::http::Refusal;
use synddb_sqlite::query::Cell;
use utoipa::ToSchema;

use super::malformed;

/// Largest integer that every reader of JSON takes exactly.
const INTEGER_MAX: u64 = 1 << 53;

/// A value: a number, a string, null, or an object for what JSON cannot say.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it says what `parameter` and `written` do, to the document")]
pub(super) enum QueryValue {
    Null,
    Number(f64),
    Text(String),
    Written(WrittenValue),
}

/// What JSON cannot say: an integer beyond 2^53, an infinite real number, text that is not UTF-8 and bytes in hex.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it says what `parameter` and `written` do, to the document")]
pub(super) enum WrittenValue {
    Integer(String),
    Real(String),
    Text(String),
    Blob(String),
}

/// A parameter from JSON, in the forms that an answer has.
pub(super) fn parameter(value: &Value) -> Result<Cell, Refusal> {
    let refuse =
        || malformed("a parameter is a number, a string, null, or an object like {\"blob\": \"00ff\"}");
    match value {
        Value::Null => Ok(Cell::Null),
        Value::String(text) => Ok(Cell::Text(text.clone())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(Cell::Integer(integer)),
            (None, Some(real)) if number.is_f64() => Ok(Cell::Real(real)),
            _ => Err(malformed("an integer has at most 64 bits")),
        },
        Value::Object(form) if form.len() == 1 => {
            let Some((name, Value::String(text))) = form.iter().next() else { return Err(refuse()) };
            match name.as_str() {
                "blob" => hex::decode(text).map(Cell::Blob).map_err(|_| refuse()),
                "text" => hex::decode(text).map(Cell::Bytes).map_err(|_| refuse()),
                "integer" => text.parse().map(Cell::Integer).map_err(|_| refuse()),
                "real" => text.parse().map(Cell::Real).map_err(|_| refuse()),
                _ => Err(refuse()),
            }
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(refuse()),
    }
}

/// A value as JSON says it.
pub(crate) fn written(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(value) if value.unsigned_abs() <= INTEGER_MAX => value.into(),
        Cell::Integer(value) => json!({ "integer": value.to_string() }),
        // JSON has no infinity, and SQLite has no NaN.
        Cell::Real(value) if value.is_finite() => value.into(),
        Cell::Real(value) => json!({ "real": value.to_string() }),
        Cell::Text(text) => text.into(),
        Cell::Bytes(bytes) => json!({ "text": hex::encode(bytes) }),
        Cell::Blob(bytes) => json!({ "blob": hex::encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::http::Reason;

    use super::*;

    #[test]
    fn every_value_comes_back_from_its_form() {
        let cells = [
            Cell::Null,
            Cell::Integer(0),
            Cell::Integer(-(1 << 53)),
            Cell::Integer((1 << 53) + 1),
            Cell::Integer(i64::MIN),
            Cell::Real(0.5),
            Cell::Real(1.0),
            Cell::Real(f64::INFINITY),
            Cell::Real(f64::NEG_INFINITY),
            Cell::Text("né".to_owned()),
            Cell::Bytes(vec![0xff, 0]),
            Cell::Blob(vec![0, 0x0f, 0xf0]),
        ];
        for cell in cells {
            let text = serde_json::to_string(&written(cell.clone())).unwrap();
            let read = parameter(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(read, cell, "{text}");
        }
        assert_eq!(serde_json::to_string(&written(Cell::Integer(1 << 53))).unwrap(), "9007199254740992");
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for text in [
            "true",
            "[1]",
            "{}",
            r#"{"blob":"0"}"#,
            r#"{"blob":"zz"}"#,
            r#"{"blob":1}"#,
            "18446744073709551615",
        ] {
            let refused = parameter(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert_eq!(refused.reason(), &Reason::Malformed, "{text}");
        }
    }
}
