//! How the types of this crate that JSON holds are described in an OpenAPI document. Only with the feature `openapi`.
//!
//! Structs and enums derive their schema, so that it cannot part from their fields; what is written and read by hand is described here.

use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::contents::{Form, Scalar};

/// A number with its bounds.
pub(crate) fn number(what: &str, minimum: u64, maximum: u64) -> RefOr<Schema> {
    let bound = |bound| usize::try_from(bound).ok();
    integer(what).minimum(bound(minimum)).maximum(bound(maximum)).into()
}

fn integer(what: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer)).description(Some(capital(what)))
}

/// Bytes as lower-case hex behind `0x`.
pub(crate) fn hex(what: &str, bytes: usize) -> RefOr<Schema> {
    text(what).pattern(Some(format!("^0x[0-9a-f]{{{}}}$", 2 * bytes))).into()
}

fn text(what: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).description(Some(capital(what)))
}

fn capital(what: &str) -> String {
    let mut letters = what.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Describes a number that is read within bounds.
macro_rules! impl_number {
    ($name:ident, $what:expr, $minimum:expr, $maximum:expr) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::openapi::number($what, $minimum, u64::from($maximum))
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use impl_number;

/// Describes bytes that are hex in JSON.
macro_rules! impl_hex {
    ($name:ident, $length:expr, $what:expr) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::openapi::hex($what, $length)
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use impl_hex;

impl PartialSchema for Scalar {
    fn schema() -> RefOr<Schema> {
        Form::schema()
    }
}

impl ToSchema for Scalar {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Form::schemas(schemas);
    }
}
