//! Values that outlive what they were read from. The borrowed form is `synddb_protocol::state::Value`.

use synddb_protocol::state::Value;

/// A stored value: its storage class and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedValue(Inner);

#[derive(Debug, Clone)]
enum Inner {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl PartialEq for Inner {
    fn eq(&self, other: &Self) -> bool {
        self.borrow() == other.borrow()
    }
}

impl Eq for Inner {}

impl Inner {
    fn borrow(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Integer(*value),
            Self::Real(value) => Value::Real(*value),
            Self::Text(bytes) => Value::Text(bytes),
            Self::Blob(bytes) => Value::Blob(bytes),
        }
    }
}

impl OwnedValue {
    /// NULL.
    pub const NULL: Self = Self(Inner::Null);

    /// How many bytes text or a blob has; 0 for everything else.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Inner::Null | Inner::Integer(_) | Inner::Real(_) => 0,
            Inner::Text(bytes) | Inner::Blob(bytes) => bytes.len(),
        }
    }

    /// The value, borrowed.
    pub fn borrow(&self) -> Value<'_> {
        self.0.borrow()
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        Self(match value {
            Value::Null => Inner::Null,
            Value::Integer(value) => Inner::Integer(value),
            Value::Real(value) => Inner::Real(value),
            Value::Text(bytes) => Inner::Text(bytes.to_vec()),
            Value::Blob(bytes) => Inner::Blob(bytes.to_vec()),
        })
    }
}
