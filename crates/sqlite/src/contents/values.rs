//! Values between SQLite and JSON, byte for byte.

use synddb_protocol::contents::{SHOWN_BYTES_MAX, Scalar, Shown, Whole};
use synddb_protocol::state::{TableHash, Value};
use synddb_protocol::submission::TextEncoding;

use crate::schema::{from_text, to_text};
use crate::value::OwnedValue;

/// The value that JSON said, as a database with this encoding stores it.
pub fn owned(scalar: &Scalar, encoding: TextEncoding) -> OwnedValue {
    match scalar {
        Scalar::Null => OwnedValue::NULL,
        Scalar::Integer(value) => Value::Integer(*value).into(),
        Scalar::Real(value) => Value::Real(*value).into(),
        Scalar::Text(text) => Value::Text(&from_text(text, encoding)).into(),
        Scalar::Bytes(bytes) => Value::Text(bytes).into(),
        Scalar::Blob(bytes) => Value::Blob(bytes).into(),
    }
}

/// What JSON says of a stored value.
pub(super) fn scalar(value: Value<'_>, encoding: TextEncoding) -> Scalar {
    match value {
        Value::Null => Scalar::Null,
        Value::Integer(value) => Scalar::Integer(value),
        Value::Real(value) => Scalar::Real(value),
        Value::Text(bytes) => {
            to_text(bytes, encoding).map_or_else(|_| Scalar::Bytes(bytes.to_vec()), Scalar::Text)
        }
        Value::Blob(bytes) => Scalar::Blob(bytes.to_vec()),
    }
}

/// The same, cut when it is long.
pub(super) fn shown(value: Value<'_>, encoding: TextEncoding) -> Shown {
    let length = length(value);
    if length <= SHOWN_BYTES_MAX {
        return Shown { value: scalar(value, encoding), whole: None };
    }
    let mut alone = TableHash::default();
    alone.add(None, [value]);
    let beginning = match value {
        Value::Text(bytes) => Value::Text(beginning(bytes, encoding)),
        Value::Blob(bytes) => Value::Blob(&bytes[..SHOWN_BYTES_MAX]),
        Value::Null | Value::Integer(_) | Value::Real(_) => value,
    };
    let whole = Whole { bytes: length as u64, digest: alone.digest() };
    Shown { value: scalar(beginning, encoding), whole: Some(whole) }
}

/// How many bytes text or a blob has; 0 for everything else.
pub(super) const fn length(value: Value<'_>) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
    }
}

/// As much of a long text as is shown, with no character cut in two where it is text at all.
fn beginning(bytes: &[u8], encoding: TextEncoding) -> &[u8] {
    let fits = |end: &usize| to_text(&bytes[..*end], encoding).is_ok();
    let end = (SHOWN_BYTES_MAX - 3..=SHOWN_BYTES_MAX).rev().find(fits);
    &bytes[..end.unwrap_or(SHOWN_BYTES_MAX)]
}
