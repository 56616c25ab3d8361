//! What handlers take from a request: the credential, the stream, a bounded body with the room that it takes.

use bytes::Bytes;
use synddb_protocol::http::Reason;
use synddb_protocol::id::StreamId;
use synddb_service::axum::extract::rejection::RawPathParamsRejection;
use synddb_service::axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use synddb_service::axum::http::request::Parts;
pub(super) use synddb_service::http::{BUSY_RETRY, busy};
use synddb_service::http::{Refusal, read_body};

use super::Front;
use crate::admission::Room;
use crate::metrics;

/// The stream that the path names, or the only one, which whoever sends this may write.
pub(super) struct Writing(pub(super) StreamId);

impl FromRequestParts<Front> for Writing {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, front: &Front) -> Result<Self, Refusal> {
        let admitted = async {
            let holder = front.0.gate.admit(parts).await?;
            let Named(stream) = Named::from_request_parts(parts, front).await?;
            if holder.may_write(stream) {
                return Ok((stream, holder));
            }
            let detail = format!(
                "this credential is for other streams; have the stream listed for it. credential=`{}` stream=`{stream}`",
                holder.name
            );
            Err(Refusal::new(Reason::Forbidden, detail))
        };
        let (stream, holder) = admitted.await.inspect_err(|refusal| metrics::refused(refusal.reason()))?;
        metrics::admitted(&holder.name);
        Ok(Self(stream))
    }
}

/// The stream that the path names, or the only one.
pub(super) struct Named(pub(super) StreamId);

impl FromRequestParts<Front> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, front: &Front) -> Result<Self, Refusal> {
        let detail = "no stream has this name; without one, exactly one stream must be led here";
        let named = parameter(parts, "stream").await?;
        let stream = match named {
            Some(text) => StreamId::from_key(&text).or_else(|_| text.parse()).ok(),
            None => front.0.registry.only(),
        };
        stream.map(Self).ok_or_else(|| Refusal::new(Reason::NotFound, detail))
    }
}

/// The last segment of the path.
pub(super) struct Last(pub(super) String);

impl FromRequestParts<Front> for Last {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Front) -> Result<Self, Refusal> {
        let (hash, range) = (parameter(parts, "hash").await?, parameter(parts, "range").await?);
        hash.or(range).map(Self).ok_or_else(nothing_here)
    }
}

/// The nonce that the path names.
pub(super) struct Nonce(pub(super) u64);

impl FromRequestParts<Front> for Nonce {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Front) -> Result<Self, Refusal> {
        let named = parameter(parts, "id").await?;
        let is_number =
            |text: &String| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        named.filter(is_number).and_then(|text| text.parse().ok()).map(Self).ok_or_else(nothing_here)
    }
}

/// What a path has under this name, if it has such a part. One that is no text names nothing, and never means what is meant without it.
async fn parameter(parts: &mut Parts, name: &str) -> Result<Option<String>, Refusal> {
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(parameters) => {
            Ok(parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()))
        }
        Err(RawPathParamsRejection::MissingPathParams(_)) => Ok(None),
        Err(_) => Err(nothing_here()),
    }
}

fn nothing_here() -> Refusal {
    Refusal::new(Reason::NotFound, "no resource has this path")
}

/// A body of at most `MAX` bytes, with the room that it takes in memory.
pub(super) struct Admitted<const MAX: usize> {
    pub(super) bytes: Bytes,
    pub(super) room: Room,
}

impl<const MAX: usize> FromRequest<Front> for Admitted<MAX> {
    type Rejection = Refusal;

    async fn from_request(request: Request, front: &Front) -> Result<Self, Refusal> {
        let (bytes, room) = read_body(request, MAX, &front.0.bodies).await?;
        Ok(Self { bytes, room })
    }
}
