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
use super::yielding::Yielding;
use crate::admission::{Admission, Room};

/// All bodies together that are read by [`Payload`] in this process, in bytes.
const PAYLOADS_BYTES: usize = 128 << 20;

/// Bodies that announce at most so many bytes have room of their own, in which who holds its body back makes room for who comes: who
/// asks little is kept out neither by who sends much nor by who sends slowly.
const SMALL_BYTES: usize = 16 << 10;

/// All of them together, in bytes.
const SMALL_PAYLOADS_BYTES: usize = 64 << 20;

static PAYLOADS: LazyLock<Admission> = LazyLock::new(|| Admission::new(PAYLOADS_BYTES));

static SMALL_PAYLOADS: LazyLock<Yielding> = LazyLock::new(|| Yielding::new(SMALL_PAYLOADS_BYTES));

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
        let (bytes, room) = if is_small {
            read_small(request, MAX, &SMALL_PAYLOADS).await?
        } else {
            read_body(request, MAX, &PAYLOADS).await?
        };
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
    let announced = within(&request, bytes_max)?;
    if !admission.fits(announced.unwrap_or(0)) {
        return Err(busy());
    }
    let mut room = admission.take(0).ok_or_else(busy)?;
    let bytes = collect(request, announced, bytes_max, |bytes| room.grow(bytes)).await?;
    Ok((bytes, room))
}

/// Reads a small body in the same way, but one that is held back loses its room to those that come later, and is refused with 429.
async fn read_small(request: Request, bytes_max: usize, room: &Yielding) -> Result<(Bytes, Room), Refusal> {
    let announced = within(&request, bytes_max)?;
    let reading = room.begin().ok_or_else(busy)?;
    let bytes = tokio::select! {
        biased;
        () = reading.ended() => return Err(busy()),
        bytes = collect(request, announced, bytes_max, |bytes| reading.grow(bytes)) => bytes?,
    };
    Ok((bytes, reading.finish().ok_or_else(busy)?))
}

/// How many bytes are announced, if any are, where they fit.
fn within(request: &Request, bytes_max: usize) -> Result<Option<usize>, Refusal> {
    match announced(request) {
        Some(announced) if announced > bytes_max => Err(too_large(bytes_max)),
        announced => Ok(announced),
    }
}

/// Reads a body while `grow` finds room for so many bytes of it.
async fn collect(
    request: Request,
    announced: Option<usize>,
    bytes_max: usize,
    mut grow: impl FnMut(usize) -> bool,
) -> Result<Bytes, Refusal> {
    let mut body = request.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(unread)?;
        let Ok(piece) = frame.into_data() else { continue };
        let bytes = read.len() + piece.len();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        if !grow(bytes) {
            return Err(busy());
        }
        if read.is_empty() && Some(piece.len()) == announced {
            // It came in one piece.
            return Ok(piece);
        }
        append(&mut read, &piece, announced.unwrap_or(bytes_max));
    }
    Ok(Bytes::from(read))
}

/// Appends a piece to what will have at most `bytes_max` bytes. It doubles what it holds when that is full, so that many small pieces are
/// copied no more often than few large ones, and does not go beyond the most.
fn append(read: &mut Vec<u8>, piece: &[u8], bytes_max: usize) {
    let bytes = read.len() + piece.len();
    if bytes > read.capacity() {
        let wanted = (2 * bytes).min(bytes_max.max(bytes));
        read.reserve_exact(wanted - read.len());
    }
    read.extend_from_slice(piece);
}

fn too_large(bytes_max: usize) -> Refusal {
    let reason = Reason::TooLarge { limit: bytes_max as u64 };
    Refusal::new(reason, format!("at most {bytes_max} bytes fit here"))
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

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    /// A body that announces so many bytes, and sends these.
    fn request(announced: usize, body: Body) -> Request {
        Request::post("/").header(CONTENT_LENGTH, announced).body(body).unwrap()
    }

    /// One that sends all but its last byte, and then nothing more.
    fn held_back(announced: usize) -> Body {
        use futures::StreamExt as _;
        let sent = Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; announced - 1]));
        Body::from_stream(futures::stream::iter([sent]).chain(futures::stream::pending()))
    }

    #[tokio::test]
    async fn small_bodies_that_are_held_back_keep_no_small_one_out() {
        const HELD_BACK: usize = 16;
        let room = Yielding::new(HELD_BACK * SMALL_BYTES);
        let mut held: Vec<_> = (0..HELD_BACK)
            .map(|_| Box::pin(read_small(request(SMALL_BYTES, held_back(SMALL_BYTES)), SMALL_BYTES, &room)))
            .collect();
        for reading in &mut held {
            assert!(futures::poll!(reading).is_pending(), "it waits for its last byte");
        }
        let whole = read_small(request(SMALL_BYTES, Body::from(vec![7; SMALL_BYTES])), SMALL_BYTES, &room);
        let (bytes, _room) = whole.await.unwrap();
        assert_eq!(bytes.len(), SMALL_BYTES);
        let mut refused = 0;
        for (number, reading) in held.iter_mut().enumerate() {
            if let std::task::Poll::Ready(read) = futures::poll!(reading) {
                assert_eq!(*read.unwrap_err().reason(), Reason::Busy);
                assert_eq!(number, refused, "those who held theirs back for longest go");
                refused += 1;
            }
        }
        assert!((1..=2).contains(&refused), "{refused} were refused for one");
    }

    #[test]
    fn a_body_in_pieces_of_a_byte_is_copied_a_few_times_and_takes_no_more_than_its_bound() {
        const MOST: usize = 100_000;
        let mut read = Vec::new();
        let mut copied = 0;
        for number in 0..MOST {
            let before = read.capacity();
            append(&mut read, &[u8::try_from(number % 251).unwrap()], MOST);
            copied += u32::from(read.capacity() != before);
        }
        assert!(copied <= MOST.ilog2() + 1, "{copied} times");
        assert_eq!(read.capacity(), MOST);
        assert!(read.iter().enumerate().all(|(number, byte)| usize::from(*byte) == number % 251));
    }
}
