//! The values of rows and parameters as JSON says them.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Value, json};
use synddb_protocol::http::Reason;
use synddb_service::http::Refusal;
use synddb_sqlite::query::{Cell, PARAMETERS_MAX};
use utoipa::ToSchema;

/// Largest integer that every reader of JSON takes exactly.
const INTEGER_MAX: u64 = 1 << 53;

/// A value: a number, a string, null, or an object for what JSON cannot say.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it says what `Parameter` and `written` do, to the document")]
pub(super) enum QueryValue {
    Null,
    Number(f64),
    Text(String),
    Written(WrittenValue),
}

/// What JSON cannot say: an integer beyond 2^53, an infinite real number, text that is not UTF-8 and bytes in hex.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it says what `Parameter` and `written` do, to the document")]
pub(super) enum WrittenValue {
    Integer(String),
    Real(String),
    Text(String),
    Blob(String),
}

/// The parameters of a query.
///
/// A small body can list very many, each of which takes more memory than text. No more are kept than a query may have, and nothing of those that
/// are too many: the body is held while a query waits, and so is what was read of it.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    cells: Vec<Cell>,
    are_too_many: bool,
}

impl Parameters {
    /// All of them, unless there are more than a query may have.
    pub(super) fn all(self) -> Result<Vec<Cell>, Refusal> {
        if self.are_too_many {
            let detail = format!("the query has too many parameters. limit=`{PARAMETERS_MAX}`");
            return Err(Refusal::new(Reason::TooLarge { limit: PARAMETERS_MAX as u64 }, detail));
        }
        Ok(self.cells)
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ParametersVisitor)
    }
}

struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = Parameters;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of parameters")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::default();
        while parameters.cells.len() < PARAMETERS_MAX {
            let Some(Parameter(cell)) = list.next_element()? else { return Ok(parameters) };
            parameters.cells.push(cell);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            parameters.are_too_many = true;
        }
        Ok(parameters)
    }
}

/// A parameter from JSON, in the forms that an answer has.
#[derive(Debug)]
struct Parameter(Cell);

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParameterVisitor).map(Self)
    }
}

struct ParameterVisitor;

impl<'de> Visitor<'de> for ParameterVisitor {
    type Value = Cell;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a parameter: a number, a string, null, or an object like {\"blob\": \"00ff\"}")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cell, E> {
        Ok(Cell::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Cell, E> {
        i64::try_from(value).map(Cell::Integer).map_err(|_| E::custom("an integer has at most 64 bits"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cell, E> {
        Ok(Cell::Real(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell, E> {
        Ok(Cell::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Cell, E> {
        Ok(Cell::Text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut form: A) -> Result<Cell, A::Error> {
        let refuse = || de::Error::invalid_value(Unexpected::Map, &self);
        let Some((name, text)) = form.next_entry::<String, String>()? else { return Err(refuse()) };
        if form.next_key::<IgnoredAny>()?.is_some() {
            return Err(refuse());
        }
        match name.as_str() {
            "blob" => hex::decode(text).map(Cell::Blob).map_err(|_| refuse()),
            "text" => hex::decode(text).map(Cell::Bytes).map_err(|_| refuse()),
            "integer" => text.parse().map(Cell::Integer).map_err(|_| refuse()),
            "real" => text.parse().map(Cell::Real).map_err(|_| refuse()),
            _ => Err(refuse()),
        }
    }
}

/// A value as JSON says it.
pub fn written(cell: Cell) -> Value {
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
            let Parameter(read) = serde_json::from_str(&text).unwrap();
            assert_eq!(read, cell, "{text}");
        }
        assert_eq!(serde_json::to_string(&written(Cell::Integer(1 << 53))).unwrap(), "9007199254740992");
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for text in [
            "true",
            "[1]",
            r#"{"blob":"","text":""}"#,
            "{}",
            r#"{"blob":"0"}"#,
            r#"{"blob":"zz"}"#,
            r#"{"blob":1}"#,
            "18446744073709551615",
        ] {
            let refused = serde_json::from_str::<Parameter>(text).unwrap_err();
            assert!(refused.is_data(), "{text}: {refused}");
        }
    }

    #[test]
    fn of_very_many_parameters_no_more_are_kept_than_a_query_may_have() {
        let list = |count: usize| format!("[{}]", vec![r#"{"blob":""}"#; count].join(","));
        let whole: Parameters = serde_json::from_str(&list(PARAMETERS_MAX)).unwrap();
        assert_eq!(whole.all().unwrap().len(), PARAMETERS_MAX);
        for count in [PARAMETERS_MAX + 1, (1 << 20) / 12] {
            let read: Parameters = serde_json::from_str(&list(count)).unwrap();
            assert!(read.cells.capacity() < 2 * PARAMETERS_MAX, "{}", read.cells.capacity());
            let refused = read.all().unwrap_err();
            assert_eq!(refused.reason(), &Reason::TooLarge { limit: PARAMETERS_MAX as u64 });
        }
    }
}
