//! An answer of many bytes on its way to a reader that may be slow, or never read.
//!
//! The bytes belong to a task with a deadline, not to the connection: a connection holds copies of a few pieces, and what waits on
//! other people's networks gives its memory back in bounded time. A reader that is cut off sees its answer end in an error.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::mpsc;

use super::busy;
use crate::admission::{Admission, Room};

/// Bytes that are handed to a connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Answers that a connection may hold whole, in bytes.
const AT_ONCE_BYTES: usize = 16 << 10;

/// All longer answers together that were made whole and are on their way, in bytes.
const ANSWERS_BYTES: usize = 128 << 20;

static ANSWERS: LazyLock<Admission> = LazyLock::new(|| Admission::new(ANSWERS_BYTES));

/// Has an answer that is whole and long wait in a task of its own, within the bound of all of them. Those that come piece by piece look
/// after themselves.
pub(super) async fn held(response: Response) -> Response {
    let length = response.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let Some(length) = length.filter(|length| *length > AT_ONCE_BYTES) else { return response };
    // What is longer than all may be together goes alone.
    let Some(room) = ANSWERS.take(length.min(ANSWERS_BYTES - 1)) else { return busy().into_response() };
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(whole) => Response::from_parts(head, self::body(vec![whole.to_bytes()], room, Patience::READER)),
        Err(error) => {
            tracing::error!(error = synddb_protocol::chain(&error), "an answer that is whole cannot be read");
            busy().into_response()
        }
    }
}

/// How patient an answer is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long one piece may wait until it is taken.
    pub stall: Duration,
    /// How slowly the whole may be taken, in bytes a second.
    pub rate_min: u64,
}

impl Patience {
    /// For readers over networks.
    pub const READER: Self = Self { stall: Duration::from_secs(10), rate_min: 256 << 10 };
}

/// A body of these bytes, one after the other. The room is given back when they are taken, or the reader is too slow.
pub fn body(parts: Vec<Bytes>, room: Room, patience: Patience) -> Body {
    let total: usize = parts.iter().map(Bytes::len).sum();
    let (pieces, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        let deadline = patience.stall + Duration::from_secs(total as u64 / patience.rate_min);
        let sent = tokio::time::timeout(deadline, send(&parts, &pieces, patience.stall)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!(bytes = total, "a reader did not take its answer in time, or is gone");
        }
        drop(room);
    });
    Body::from_stream(stream::unfold((taken, total), |(mut taken, left)| async move {
        let piece: Option<Bytes> = taken.recv().await;
        match piece {
            Some(piece) => {
                let left = left.saturating_sub(piece.len());
                Some((Ok(piece), (taken, left)))
            }
            None if left > 0 => Some((Err(io::Error::from(io::ErrorKind::TimedOut)), (taken, 0))),
            None => None,
        }
    }))
}

/// That the reader stalls, or is gone.
struct NotTaken;

async fn send(parts: &[Bytes], pieces: &mpsc::Sender<Bytes>, stall: Duration) -> Result<(), NotTaken> {
    for piece in parts.iter().flat_map(|part| part.chunks(PIECE_BYTES)) {
        // A copy: a slice would keep its whole part in memory for as long as the connection has it.
        let sent = pieces.send_timeout(Bytes::copy_from_slice(piece), stall).await;
        sent.map_err(|_| NotTaken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;
    const IMPATIENT: Patience = Patience { stall: Duration::from_millis(20), rate_min: 1 << 40 };

    #[tokio::test]
    async fn an_answer_that_nobody_takes_gives_its_room_back_and_ends_in_an_error() {
        let admission = Admission::new(300 << 10);
        let parts = vec![Bytes::from(vec![7; 100 << 10]), Bytes::from(vec![8; 100 << 10])];
        let room = admission.take(200 << 10).unwrap();
        let answer = body(parts, room, IMPATIENT);
        assert!(admission.take(200 << 10).is_none());
        while admission.take(200 << 10).is_none() {
            tokio::task::yield_now().await;
        }
        let mut answer = answer.into_data_stream();
        // The one piece that was ready is all that is left of it.
        assert_eq!(answer.next().await.unwrap().unwrap().len(), PIECE_BYTES);
        assert!(answer.next().await.unwrap().is_err());
        assert!(answer.next().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_is_taken_is_whole() {
        let admission = Admission::new(1 << 20);
        let parts = vec![Bytes::from(vec![7; 100 << 10]), Bytes::new(), Bytes::from_static(b"end")];
        let room = admission.take(1).unwrap();
        let mut answer = body(parts.clone(), room, Patience::READER).into_data_stream();
        let mut whole = Vec::new();
        while let Some(piece) = answer.next().await {
            whole.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(whole, parts.concat());
    }
}
