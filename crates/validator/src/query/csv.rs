//! Answers as CSV (RFC 4180): a line of column names, then the rows, each line ended by CR LF.
//!
//! CSV has text and nothing else. NULL is an empty field, as an empty text is; a blob, a text that is no UTF-8 and an infinite number are
//! written as SQL writes them. Who has to tell more apart asks for JSON, or for `typeof`.

use csv::{Error, Terminator, WriterBuilder};
use synddb_sqlite::query::Cell;

/// What is asked for.
pub(super) const MEDIA_TYPE: &str = "text/csv";
/// What is answered (RFC 7111, section 5.1).
pub(super) const CONTENT_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// The columns and rows of an answer.
pub(super) fn written(columns: &[String], rows: Vec<Vec<Cell>>) -> Result<Vec<u8>, Error> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(columns)?;
    for row in rows {
        for cell in row {
            match cell {
                Cell::Null => writer.write_field(""),
                Cell::Integer(value) => writer.write_field(value.to_string()),
                Cell::Real(value) => writer.write_field(real(value)),
                Cell::Text(text) => writer.write_field(text),
                Cell::Bytes(bytes) => writer.write_field(format!("CAST(x'{}' AS TEXT)", hex::encode(bytes))),
                Cell::Blob(bytes) => writer.write_field(format!("x'{}'", hex::encode(bytes))),
            }?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// The shortest decimal form that reads back the same. SQLite has no NaN, and reads 9e999 as infinity.
fn real(value: f64) -> String {
    match value {
        f64::INFINITY => "9e999".to_owned(),
        f64::NEG_INFINITY => "-9e999".to_owned(),
        value => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_written_as_is_said() {
        let columns = ["a,b".to_owned(), "c".to_owned()];
        let rows = vec![
            vec![Cell::Null, Cell::Text(String::new())],
            vec![Cell::Integer(i64::MIN), Cell::Real(1.0)],
            vec![Cell::Real(f64::NEG_INFINITY), Cell::Real(1e300)],
            vec![Cell::Text("say \"né\",\r\nthen".to_owned()), Cell::Text(" x ".to_owned())],
            vec![Cell::Bytes(vec![0xff, 0x41]), Cell::Blob(vec![0, 0xff])],
        ];
        let expected = concat!(
            "\"a,b\",c\r\n",
            ",\r\n",
            "-9223372036854775808,1.0\r\n",
            "-9e999,1e300\r\n",
            "\"say \"\"né\"\",\r\nthen\", x \r\n",
            "CAST(x'ff41' AS TEXT),x'00ff'\r\n",
        );
        assert_eq!(String::from_utf8(written(&columns, rows).unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_line_of_one_empty_field_is_still_a_line() {
        let columns = ["a".to_owned()];
        let written = written(&columns, vec![vec![Cell::Null], vec![Cell::Integer(1)]]).unwrap();
        assert_eq!(written, b"a\r\n\"\"\r\n1\r\n");
        assert_eq!(csv::Reader::from_reader(&written[..]).records().count(), 2);
    }
}
