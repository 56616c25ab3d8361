//! The paths that write.

use bytes::Bytes;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::{Reason, Receipts};
use synddb_protocol::id::StreamId;
use synddb_protocol::limits::{BODY_BYTES_MAX, BODY_COMPRESSED_MAX, CHUNK_BYTES_MAX, CHUNK_STORED_MAX};
use synddb_protocol::log::{Body, Entry, MessageType};
use synddb_protocol::{Canonical as _, DecodeError};
use synddb_service::axum::extract::State;
use synddb_service::axum::http::StatusCode;
use synddb_service::axum::response::Response;
use synddb_service::http::{Cbor, Declared, Octets, Refusal};
use synddb_service::{binary, refusals};
use synddb_sqlite::killable::reached;
use synddb_storage::{Key, Put, PutError, missing_chunks};

use super::deliver::{say, unavailable};
use super::extract::{Admitted, Last, Writing, busy};
use super::{Front, leave};
use crate::admission::Room;
use crate::aside::aside;
use crate::metrics;

binary! {
    /// A message body.
    MessageBody: Some(BODY_COMPRESSED_MAX), "A message body as stored (`spec/wire.md`): canonical CBOR in one zstd frame."
}

binary! {
    /// A chunk.
    StoredChunk: Some(CHUNK_STORED_MAX), "A chunk as stored: one zstd frame that states at most 8 MiB."
}

binary! {
    /// Receipts.
    GivenReceipts: Some(Receipts::BYTES_MAX), "A CBOR array of receipts, each a byte string that holds a COSE_Sign1 (`spec/signing.md`)."
}

refusals! {
    /// Of what asks for a place in the log.
    OfSubmit: "malformed", "forbidden", "not_found", "too_slow", "gap", "not_begun", "content_mismatch", "incarnation_superseded", "too_large",
        "unsupported_media_type", "unprocessable", "upgrade_required", "busy", "not_leading", "disk_full"
}

refusals! {
    /// The same where chunks may be missing.
    OfSnapshot: "malformed", "forbidden", "not_found", "too_slow", "gap", "not_begun", "content_mismatch", "incarnation_superseded", "too_large",
        "unsupported_media_type", "unprocessable", "missing_chunks", "upgrade_required", "busy", "not_leading", "disk_full"
}

refusals! {
    /// Of what is put into the store.
    OfChunk: "malformed", "forbidden", "not_found", "too_slow", "too_large", "unsupported_media_type", "unprocessable", "busy"
}

/// Submit commits
///
/// 2xx means that the messages are durable on the sequencer's disk; receipts are provisional until their sequences are stored. What is
/// refused took no place. The stream in the body must be that of the path.
#[utoipa::path(
    post, path = "/submit", tag = "write", operation_id = "submit", security(("bearer" = []), ("certificate" = []), ("evidence" = [])),
    request_body(content = inline(MessageBody), content_type = "application/cbor", description = "A message body of type 0."),
    responses(
        (status = 201, description = "New: its receipt.", body = inline(GivenReceipts), content_type = "application/cbor"),
        (status = 200, description = "Every commit in it has a place already: the same receipts.", body = inline(GivenReceipts), content_type = "application/cbor"),
        OfSubmit
    ),
)]
pub(super) async fn submit(
    State(front): State<Front>,
    Writing(stream): Writing,
    _: Declared<Cbor>,
    Admitted { bytes, room }: Admitted<BODY_COMPRESSED_MAX>,
) -> Result<Response, Refusal> {
    counted(async {
        let (body, room) = open(&front, stream, MessageType::Submission, bytes, room).await?;
        front.deliver(stream, body, room).await
    })
    .await
}

/// Submit a snapshot
///
/// It begins a stream or an incarnation, or states the whole database again. Its chunks are put before, and must be in the store.
#[utoipa::path(
    post, path = "/snapshot", tag = "write", operation_id = "snapshot", security(("bearer" = []), ("certificate" = []), ("evidence" = [])),
    request_body(content = inline(MessageBody), content_type = "application/cbor", description = "A message body of type 2."),
    responses(
        (status = 201, description = "New: its receipt.", body = inline(GivenReceipts), content_type = "application/cbor"),
        (status = 200, description = "It has a place already: the same receipt.", body = inline(GivenReceipts), content_type = "application/cbor"),
        OfSnapshot
    ),
)]
pub(super) async fn snapshot(
    State(front): State<Front>,
    Writing(stream): Writing,
    _: Declared<Cbor>,
    Admitted { bytes, room }: Admitted<BODY_COMPRESSED_MAX>,
) -> Result<Response, Refusal> {
    counted(async {
        let (body, room) = open(&front, stream, MessageType::Snapshot, bytes, room).await?;
        front.check_admitted(stream)?;
        front.check_chunks(stream, body.entry()).await?;
        front.deliver(stream, body, room).await
    })
    .await
}

/// Put a chunk of a snapshot
///
/// 2xx means that it is in the store.
#[utoipa::path(
    put, path = "/snapshot/chunks/{hash}", tag = "write", operation_id = "chunk", security(("bearer" = []), ("certificate" = []), ("evidence" = [])),
    params(("hash" = String, Path, description = "SHA-256 of the chunk as stored, in hex.", pattern = "^[0-9a-f]{64}$")),
    request_body(content = inline(StoredChunk), content_type = "application/octet-stream", description = "The chunk."),
    responses(
        (status = 201, description = "It was put into the store."),
        (status = 200, description = "The store had it already."),
        OfChunk
    ),
)]
pub(super) async fn chunk(
    State(front): State<Front>,
    Writing(stream): Writing,
    _: Declared<Octets>,
    Last(name): Last,
    Admitted { bytes, room }: Admitted<CHUNK_STORED_MAX>,
) -> Result<StatusCode, Refusal> {
    counted(async {
        front.check_admitted(stream)?;
        let hash =
            ChunkHash::from_key(&name).map_err(|error| Refusal::new(Reason::NotFound, error.to_string()))?;
        let hashed = bytes.clone();
        let (found, is_chunk) = aside(move || (ChunkHash::of(&hashed), may_be_chunk(&hashed))).await;
        if found != hash {
            return Err(Refusal::new(Reason::Unprocessable, "the bytes hash to another name"));
        }
        if !is_chunk {
            let detail = format!("a chunk is one zstd frame that states at most {CHUNK_BYTES_MAX} bytes");
            return Err(Refusal::new(Reason::Unprocessable, detail));
        }
        // What waits for the store has a bound of its own: submissions, which do not wait for it, keep theirs.
        let waiting = front.0.chunks.take(bytes.len()).ok_or_else(busy)?;
        drop(room);
        let put = front.0.store.put(&Key::Chunk { stream, hash }, bytes).await;
        drop(waiting);
        reached("chunk stored");
        match put {
            Ok(Put::Created) => Ok(StatusCode::CREATED),
            Ok(Put::Unchanged) => Ok(StatusCode::OK),
            Err(error) => Err(not_stored(&error)),
        }
    })
    .await
}

impl Front {
    async fn check_chunks(&self, stream: StreamId, entry: &Entry) -> Result<(), Refusal> {
        let Entry::Snapshot(snapshot) = entry else { return Ok(()) };
        let wanted = snapshot.chunks.iter().map(|chunk| chunk.hash);
        let missing = missing_chunks(&*self.0.store, stream, wanted).await;
        let missing = missing.map_err(|error| unavailable(&error.into()))?;
        if missing.is_empty() {
            return Ok(());
        }
        let detail = format!("{} chunks are not in the store; upload them and send it again", missing.len());
        Err(Refusal::new(Reason::MissingChunks { missing }, detail))
    }
}

/// Bodies that are opened where they were read: so small, as they came and as they state to be, that handing one to another thread and back would
/// take longer.
const AT_ONCE_BYTES: usize = 16 << 10;

/// Takes room for what a body states to hold, and opens it; what takes longer than a moment away from the tasks that must not wait for it.
async fn open(
    front: &Front,
    stream: StreamId,
    of: MessageType,
    bytes: Bytes,
    mut room: Room,
) -> Result<(Body, Room), Refusal> {
    let is_short = bytes.len() <= AT_ONCE_BYTES;
    let stated = if is_short {
        Body::stated_bytes(&bytes)
    } else {
        let stated = bytes.clone();
        aside(move || Body::stated_bytes(&stated)).await
    };
    let stated = stated.map_err(|error| unreadable(&error))?;
    // Room first: what is opened takes what it states, and states no more than it may.
    room.merge(front.0.bodies.take(stated).ok_or_else(busy)?);
    let body = if is_short && stated <= AT_ONCE_BYTES {
        Body::read(of, bytes.into(), BODY_BYTES_MAX)
    } else {
        let _opening = leave(&front.0.opens).await?;
        aside(move || Body::read(of, bytes.into(), BODY_BYTES_MAX)).await
    };
    let body = body.map_err(|error| unreadable(&error))?;
    let named = match body.entry() {
        Entry::Submission(submission) => Some(submission.stream),
        Entry::Snapshot(snapshot) => Some(snapshot.stream),
        Entry::Inbound(_) | Entry::Status(_) | Entry::Epoch(_) => None,
    };
    if named != Some(stream) {
        let detail = format!("the body names another stream than the path. path=`{stream}`");
        return Err(Refusal::new(Reason::Unprocessable, detail));
    }
    Ok((body, room))
}

/// Whether bytes have the form of a chunk, which is one frame as bodies are. What is in it is compared with a manifest by its readers.
fn may_be_chunk(bytes: &[u8]) -> bool {
    Body::stated_bytes(bytes).is_ok_and(|stated| stated <= CHUNK_BYTES_MAX)
}

fn unreadable(error: &DecodeError) -> Refusal {
    const OPENED_MAX: u64 = BODY_BYTES_MAX as u64;
    let reason = match error {
        // Other limits are those of a list or a name inside.
        DecodeError::OverLimit { limit: OPENED_MAX, .. } => Reason::TooLarge { limit: OPENED_MAX },
        DecodeError::UpgradeRequired { .. } => Reason::UpgradeRequired,
        DecodeError::Malformed { .. }
        | DecodeError::NotCanonical { .. }
        | DecodeError::Key { .. }
        | DecodeError::Trailing { .. }
        | DecodeError::OverLimit { .. }
        | DecodeError::OutOfRange(_)
        | DecodeError::Invalid { .. }
        | DecodeError::Compression { .. } => Reason::Malformed,
    };
    Refusal::new(reason, error.to_string())
}

fn not_stored(error: &PutError) -> Refusal {
    say(error, "the store does not take a chunk");
    let detail = "the store does not take the chunk; try again";
    Refusal::new(Reason::Unavailable, detail).retry_after(super::extract::BUSY_RETRY)
}

/// Counts what is refused.
async fn counted<T>(handled: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    handled.await.inspect_err(|refusal| metrics::refused(refusal.reason()))
}
