//! Request bodies, read whole within a bound that stands in the type.

use std::sync::LazyLock;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use synddb_protocol::http::Reason;

use super::Refusal;
use super::pace::TooSlow;
use super::refusal::busy;
use crate::admission::{Admission, Room};

/// All bodies together that are read by [`Payload`] in this process, in bytes.
const PAYLOADS_BYTES: usize = 128 << 20;

/// Bodies that announce at most so many bytes have room of their own: who asks little is not kept out by who sends much.
const SMALL_BYTES: usize = 16 << 10;

/// All of them together, in bytes.
const SMALL_PAYLOADS_BYTES: usize = 64 << 20;

static PAYLOADS: LazyLock<Admission> = LazyLock::new(|| Admission::new(PAYLOADS_BYTES));

static SMALL_PAYLOADS: LazyLock<Admission> = LazyLock::new(|| Admission::new(SMALL_PAYLOADS_BYTES));

/// A request body of at most `MAX` bytes. A longer one is refused with 413 and the bound, without reading on; one that finds no
/// room beside the others with 429.
#[derive(Debug)]
pub struct Payload<const MAX: usize> {
    /// The body.
    pub bytes: Bytes,
    /// Its room, which is to be kept for as long as the bytes or what was read from them.
    pub room: Room,
}

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for Payload<MAX> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let is_small = announced(&request).is_some_and(|bytes| bytes <= SMALL_BYTES);
        let admission = if is_small { &SMALL_PAYLOADS } else { &PAYLOADS };
        let (bytes, room) = read_body(request, MAX, admission).await?;
        Ok(Self { bytes, room })
    }
}

/// Reads a body of at most `bytes_max` bytes. It takes room as it comes, so that one that drips holds as little as it sent.
///
/// # Errors
/// 413 for a longer one, as soon as that is known; 429 where there is no room; 408 for one that comes too slowly, and 400 for one that
/// ends early.
pub async fn read_body(
    request: Request,
    bytes_max: usize,
    admission: &Admission,
) -> Result<(Bytes, Room), Refusal> {
    let too_large = || {
        let reason = Reason::TooLarge { limit: bytes_max as u64 };
        Refusal::new(reason, format!("at most {bytes_max} bytes fit here"))
    };
    let announced = announced(&request).unwrap_or(0);
    if announced > bytes_max {
        return Err(too_large());
    }
    if !admission.fits(announced) {
        return Err(busy());
    }
    let mut room = admission.take(0).ok_or_else(busy)?;
    let mut body = request.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(unread)?;
        let Ok(piece) = frame.into_data() else { continue };
        let bytes = read.len() + piece.len();
        if bytes > bytes_max {
            return Err(too_large());
        }
        if !room.grow(bytes) {
            return Err(busy());
        }
        if read.is_empty() && piece.len() == announced {
            // It came in one piece.
            return Ok((piece, room));
        }
        if bytes > read.capacity() {
            // It grows with what came, and not beyond what was announced.
            let wanted = (2 * bytes).min(announced.max(bytes));
            read.reserve_exact(wanted - read.len());
        }
        read.extend_from_slice(&piece);
    }
    Ok((Bytes::from(read), room))
}

/// How many bytes a request says that its body has.
fn announced(request: &Request) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unread(error: axum::Error) -> Refusal {
    let error = error.into_inner();
    match error.downcast_ref::<TooSlow>() {
        Some(slow) => Refusal::new(Reason::TooSlow, slow.to_string()),
        None => Refusal::new(Reason::Malformed, "the body ended early, or is no body"),
    }
}
