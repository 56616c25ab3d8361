//! Request bodies, read whole within a bound that stands in the type.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use synddb_protocol::http::Reason;

use super::Refusal;

/// A request body of at most `MAX` bytes. A longer one is refused with 413 and the bound, without reading on.
#[derive(Debug, Clone)]
pub struct Payload<const MAX: usize>(pub Bytes);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for Payload<MAX> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        read::<MAX>(request.into_body()).await.map(Self)
    }
}

async fn read<const MAX: usize>(body: Body) -> Result<Bytes, Refusal> {
    match Limited::new(body, MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::new(Reason::TooLarge { limit: MAX as u64 }, format!("at most {MAX} bytes fit here")))
        }
        Err(_) => Err(Refusal::new(Reason::Malformed, "the body ended early")),
    }
}
