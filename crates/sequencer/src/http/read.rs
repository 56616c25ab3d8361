//! The paths that read. Batches come from the store alone, so nothing is shown that could still be taken back.

#![allow(unused_qualifications, reason = "what utoipa writes of `IntoParams` names types in full")]

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use synddb_protocol::http::{Reason, StreamStatus};
use synddb_protocol::id::{Sequence, StreamId};
use synddb_protocol::limits::{BATCH_MESSAGES_MAX, CHECKPOINT_BYTES_MAX};
use synddb_service::axum::Json;
use synddb_service::axum::extract::State;
use synddb_service::axum::http::header;
use synddb_service::axum::response::{IntoResponse as _, Response};
use synddb_service::http::answer::{self, Patience};
use synddb_service::http::{Query, Refusal, WAIT_MAX, leave_to_wait};
use synddb_service::{binary, refusals};
use utoipa::IntoParams;

use super::deliver::{being_opened, not_leading, unavailable};
use super::extract::{Last, Named, busy};
use super::{Front, leave};
use crate::stored;
use crate::stream::Handle;

pub(super) const CBOR: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/cbor")];

refusals! {
    /// Nothing but what any request can meet.
    OfAny:
}

refusals! {
    /// Of what is told of a stream that is led.
    OfStatus: "not_found", "not_leading"
}

refusals! {
    /// Of what waits for it.
    OfCheckpoint: "malformed", "not_found", "not_leading"
}

refusals! {
    /// Of what reads a range of the log.
    OfRange: "range", "not_found", "busy", "not_leading"
}

binary! {
    /// A checkpoint.
    Checkpoint: Some(CHECKPOINT_BYTES_MAX), "The bytes of a signed checkpoint, a COSE_Sign1 (`spec/signing.md`)."
}

binary! {
    /// Batches.
    Batches: None, "A CBOR sequence (RFC 8742) of byte strings, each a batch as stored (`spec/wire.md`), in order."
}

/// List the streams that are led here
///
/// In no order that means anything; at most 64.
#[utoipa::path(
    get, path = "/streams", tag = "read", operation_id = "streams",
    responses((status = 200, description = "The streams.", body = Vec<StreamId>), OfAny),
)]
pub(super) async fn streams(State(front): State<Front>) -> Json<Vec<StreamId>> {
    Json(front.0.registry.all())
}

/// What the sequencer says of the stream
///
/// 503 `not_leading` while an epoch is being claimed, while the sequencer stands by, or when the stream ended in trouble.
#[utoipa::path(
    get, path = "/status", tag = "read", operation_id = "status",
    responses((status = 200, description = "The status.", body = StreamStatus), OfStatus),
)]
pub(super) async fn status(
    State(front): State<Front>,
    Named(stream): Named,
) -> Result<Json<StreamStatus>, Refusal> {
    let view = front.handle(stream)?.view.borrow().clone();
    view.status.map(Json).ok_or_else(|| not_leading(being_opened(view.trouble)))
}

/// What `GET /checkpoint` takes.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Wait until this sequence is stored.
    at_least: Option<Sequence>,
    /// How long, in milliseconds; more than 30,000 is 30,000.
    #[serde(default)]
    wait_ms: u64,
}

/// The checkpoint of the newest stored batch
///
/// With `at_least` and `wait_ms` the answer waits, and is the newest one whatever its size when the time is up.
#[utoipa::path(
    get, path = "/checkpoint", tag = "read", operation_id = "checkpoint", params(Wait),
    responses(
        (status = 200, description = "The checkpoint.", body = inline(Checkpoint), content_type = "application/cbor"),
        OfCheckpoint
    ),
)]
pub(super) async fn checkpoint(
    State(front): State<Front>,
    Named(stream): Named,
    Query(Wait { at_least, wait_ms }): Query<Wait>,
) -> Result<Response, Refusal> {
    let mut view = front.handle(stream)?.view;
    let time = Duration::from_millis(wait_ms).min(WAIT_MAX);
    if let Some(at_least) = at_least.filter(|_| !time.is_zero())
        && let Some(_leave) = leave_to_wait()
    {
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

/// The stored batches that cover a range
///
/// Whole batches, of at most 64 MiB together, and at least one: who got less asks again behind the last one.
#[utoipa::path(
    get, path = "/batches/{range}", tag = "read", operation_id = "batches",
    params(("range" = String, Path, description = "The first and the last sequence, with `_` between them: at most 4096 messages. A last one past what is stored means up to it.", pattern = "^[1-9][0-9]{0,11}_[1-9][0-9]{0,11}$", example = "1_64")),
    responses(
        (status = 200, description = "The batches.", body = inline(Batches), content_type = "application/cbor"),
        OfRange
    ),
)]
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
    let reading = leave(&front.0.reads).await?;
    let batches = stored::batches(&*front.0.store, stream, start, end.min(stored)).await;
    let batches = batches.map_err(|error| unavailable(&error))?;
    let bytes = batches.iter().map(Bytes::len).sum();
    let room = front.0.answers.take(bytes).ok_or_else(busy)?;
    // Who reads the store does not wait for who reads the answers.
    drop(reading);
    let pieces = batches.into_iter().flat_map(|batch| [head(batch.len()), batch]).collect();
    Ok((CBOR, answer::body(pieces, room, Patience::READER)).into_response())
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

pub(super) fn parse_range(text: &str) -> Result<(Sequence, Sequence), Refusal> {
    let range = text.split_once('_').and_then(|(start, end)| Some((decimal(start)?, decimal(end)?)));
    let Some((start, end)) = range else {
        return Err(Refusal::new(Reason::NotFound, "a range is two sequences with `_` between them"));
    };
    if start > end || end - start >= BATCH_MESSAGES_MAX as u64 {
        let detail = format!("a range runs forwards, over at most {BATCH_MESSAGES_MAX} messages");
        return Err(Refusal::new(Reason::Range, detail));
    }
    let Ok(start) = Sequence::new(start) else {
        return Err(Refusal::new(Reason::NotFound, "this is past the last message that any log can have"));
    };
    Ok((start, Sequence::new(end.min(Sequence::MAX)).unwrap_or(start)))
}

/// A number from 1 on, as exactly one text has it. One that is larger than any sequence may come out as another such.
fn decimal(text: &str) -> Option<u64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_shortest = !text.is_empty() && !text.starts_with('0');
    (is_decimal && is_shortest).then(|| text.parse().unwrap_or(u64::MAX))
}

impl Front {
    pub(super) fn handle(&self, stream: StreamId) -> Result<Handle, Refusal> {
        let registry = &self.0.registry;
        registry.get(stream).ok_or_else(|| match registry.ended_for(stream) {
            Some(why) => not_leading(format!("the stream ended here: {why}; see the log of the service")),
            None if registry.is_watched(stream) => not_leading("this sequencer stands by for the stream"),
            None => Refusal::new(Reason::NotFound, "the stream is not led here"),
        })
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
