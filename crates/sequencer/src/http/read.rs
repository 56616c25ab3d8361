//! The paths that read. Batches come from the store alone, so nothing is shown that could still be taken back.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use synddb_protocol::http::{Reason, StreamStatus};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::BATCH_MESSAGES_MAX;
use synddb_service::axum::Json;
use synddb_service::axum::body::Body;
use synddb_service::axum::extract::{Query, State};
use synddb_service::axum::http::header;
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::{Refusal, WAIT_MAX};

use super::Front;
use super::deliver::unavailable;
use super::extract::{Last, Named, busy};
use crate::stored;
use crate::stream::Handle;

/// How long a reader waits for others that read.
const READS_PATIENCE: Duration = Duration::from_secs(10);

const CBOR: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/cbor")];

/// `GET /streams`
pub(super) async fn streams(State(front): State<Front>) -> Json<Vec<StreamId>> {
    Json(front.0.registry.all())
}

/// `GET /status`
pub(super) async fn status(
    State(front): State<Front>,
    Named(stream): Named,
) -> Result<Json<StreamStatus>, Refusal> {
    let status = front.handle(stream)?.view.borrow().status.clone();
    let opening =
        || Refusal::new(Reason::NotLeading, "the stream is being opened").retry_after(Duration::from_secs(1));
    status.map(Json).ok_or_else(opening)
}

/// What `GET /checkpoint` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    at_least: Option<Sequence>,
    #[serde(default)]
    wait_ms: u64,
}

/// `GET /checkpoint`
pub(super) async fn checkpoint(
    State(front): State<Front>,
    Named(stream): Named,
    wait: Result<Query<Wait>, synddb_service::axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Wait { at_least, wait_ms }) =
        wait.map_err(|error| Refusal::new(Reason::Malformed, error.body_text()))?;
    let mut view = front.handle(stream)?.view;
    let time = Duration::from_millis(wait_ms).min(WAIT_MAX);
    if let Some(at_least) = at_least.filter(|_| !time.is_zero()) {
        let is_stored = view.wait_for(|view| view.stored.as_ref().is_some_and(|(last, _)| *last >= at_least));
        tokio::select! {
            _ = is_stored => {}
            () = tokio::time::sleep(time) => {}
            () = front.0.shutdown.asked() => {}
        }
    }
    let stored = view.borrow().stored.clone();
    match stored {
        Some((_, checkpoint)) => Ok((CBOR, checkpoint).into_response()),
        None => Err(Refusal::new(Reason::NotFound, "nothing is stored yet")),
    }
}

/// `GET /batches/{start}_{end}`
pub(super) async fn batches(
    State(front): State<Front>,
    Named(stream): Named,
    Last(range): Last,
) -> Result<Response, Refusal> {
    let (start, end) = parse_range(&range)?;
    let stored = front.handle(stream)?.view.borrow().stored.as_ref().map(|(last, _)| *last);
    let Some(stored) = stored.filter(|stored| start <= *stored) else {
        return Err(Refusal::new(Reason::NotFound, "this is past the last stored message"));
    };
    let permit = tokio::time::timeout(READS_PATIENCE, front.0.reads.clone().acquire_owned()).await;
    let permit = permit.map_err(|_| busy())?.map_err(|_| busy())?;
    let batches = stored::batches(&*front.0.store, stream, start, end.min(stored)).await;
    let batches = batches.map_err(|error| unavailable(&error))?;
    let pieces: Vec<Bytes> = batches.into_iter().flat_map(|batch| [head(batch.len()), batch]).collect();
    // The permit goes when the answer is sent, or the reader is gone.
    let answer = stream::iter(pieces).map(move |piece| {
        let _reading = &permit;
        Ok::<Bytes, Infallible>(piece)
    });
    Ok((CBOR, Body::from_stream(answer)).into_response())
}

/// The head of a CBOR byte string of this length (RFC 8949, section 3).
fn head(length: usize) -> Bytes {
    const BYTE_STRING: u8 = 0x40;
    let digits = (length as u64).to_be_bytes();
    // The shortest of the forms that hold the number: in the first byte, or in 1, 2, 4 or 8 more.
    let (first, width) = match length {
        0..=23 => return Bytes::copy_from_slice(&[BYTE_STRING | digits[7]]),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    let mut head = vec![BYTE_STRING | first];
    head.extend_from_slice(&digits[8 - width..]);
    Bytes::from(head)
}

fn parse_range(text: &str) -> Result<(Sequence, Sequence), Refusal> {
    let parse = |text: &str| text.parse::<Sequence>().ok();
    let range = text.split_once('_').and_then(|(start, end)| Some((parse(start)?, parse(end)?)));
    let Some((start, end)) = range else {
        return Err(Refusal::new(Reason::NotFound, "a range is two sequences with `_` between them"));
    };
    if start > end || end.get() - start.get() >= BATCH_MESSAGES_MAX as u64 {
        let detail = format!("a range runs forwards, over at most {BATCH_MESSAGES_MAX} messages");
        return Err(Refusal::new(Reason::Range, detail));
    }
    Ok((start, end))
}

impl Front {
    fn handle(&self, stream: StreamId) -> Result<Handle, Refusal> {
        let handle = self.0.registry.get(stream);
        handle.ok_or_else(|| Refusal::new(Reason::NotFound, "the stream is not led here"))
    }
}

#[cfg(test)]
mod tests {
    use synddb_protocol::encoding::cbor::Writer;

    use super::*;

    #[test]
    fn heads_are_those_of_byte_strings() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            let mut whole = Writer::default();
            whole.bytes(&vec![7; length]);
            let whole = whole.into_bytes();
            assert_eq!(head(length), whole[..whole.len() - length]);
        }
    }
}
