//! Media types: what a client says that its body is, and what it asks for.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use synddb_protocol::http::Reason;

use super::Refusal;

/// A media type that bodies have.
pub trait MediaType {
    /// Its name, in lower case.
    const NAME: &'static str;
}

/// CBOR (RFC 8949).
#[derive(Debug, Clone, Copy)]
pub struct Cbor;

/// Bytes that mean nothing to HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Octets;

/// JSON (RFC 8259).
#[derive(Debug, Clone, Copy)]
pub struct JsonText;

impl MediaType for Cbor {
    const NAME: &'static str = "application/cbor";
}

impl MediaType for Octets {
    const NAME: &'static str = "application/octet-stream";
}

impl MediaType for JsonText {
    const NAME: &'static str = "application/json";
}

/// The body of a request is of this type, as far as its client says: another one is refused with 415 before anything of it is read.
/// Who says nothing is believed to mean it (RFC 9110, section 8.3).
#[derive(Debug, Clone, Copy)]
pub struct Declared<M>(PhantomData<M>);

impl<S: Send + Sync, M: MediaType> FromRequestParts<S> for Declared<M> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(named) = parts.headers.get(CONTENT_TYPE) else { return Ok(Self(PhantomData)) };
        if named.to_str().is_ok_and(|named| is(named, M::NAME)) {
            return Ok(Self(PhantomData));
        }
        let detail = format!("send the body with `Content-Type: {}`", M::NAME);
        Err(Refusal::new(Reason::UnsupportedMediaType, detail))
    }
}

/// Whether a client asks for this media type by name.
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    ranges.flat_map(|ranges| ranges.split(',')).any(|named| is(named, media_type))
}

/// Whether a media type, with parameters or without, is this one.
fn is(named: &str, media_type: &str) -> bool {
    named.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type))
}
