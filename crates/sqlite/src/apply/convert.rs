//! What SQLite may make of a value that is put into a column: the affinity of the column decides (SQLite, "Datatypes", section 3).

use synddb_protocol::state::Value;
use synddb_protocol::submission::TextEncoding;

/// What a column may make of a value that is put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    /// Nothing.
    None,
    /// Text of a number.
    ToText,
    /// A number of a text that is one, and an integer of a real without fraction.
    ToNumber,
    /// A real of a text that is a number, and of an integer.
    ToReal,
}

impl Conversion {
    /// What a column of this declared type may make of values (SQLite, "Datatypes", sections 3 and 3.1).
    pub(super) fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        if has("INT") {
            Self::ToNumber
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::ToText
        } else if has("BLOB") || declared.is_empty() {
            Self::None
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::ToReal
        } else {
            Self::ToNumber
        }
    }

    /// Whether the value may be read otherwise than it was put in. May be wrong by saying yes, which costs a read.
    pub(super) fn may_change(self, value: Value<'_>, encoding: TextEncoding) -> bool {
        match (self, value) {
            (_, Value::Null | Value::Blob(_)) => false,
            // SQLite cuts half a unit off.
            (_, Value::Text(bytes)) if encoding != TextEncoding::Utf8 && bytes.len() % 2 != 0 => true,
            (Self::None, _) | (Self::ToText, Value::Text(_)) | (Self::ToNumber, Value::Integer(_)) => false,
            (Self::ToText, Value::Integer(_) | Value::Real(_)) | (Self::ToReal, Value::Integer(_)) => true,
            (Self::ToNumber, Value::Real(value)) => value.fract() == 0.0,
            // A real without fraction is stored as an integer, which has no negative zero.
            (Self::ToReal, Value::Real(value)) => value == 0.0 && value.is_sign_negative(),
            (Self::ToNumber | Self::ToReal, Value::Text(bytes)) => {
                encoding != TextEncoding::Utf8 || bytes.first().is_some_and(|first| starts_number(*first))
            }
        }
    }
}

/// Whether a text that begins like this can be a number.
fn starts_number(first: u8) -> bool {
    first.is_ascii_digit() || first.is_ascii_whitespace() || matches!(first, b'+' | b'-' | b'.' | 0x0b)
}
