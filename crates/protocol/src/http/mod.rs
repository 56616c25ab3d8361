//! What services answer over HTTP: JSON for people, CBOR where bytes are signed.
//!
//! Refusals are RFC 9457 problems with a stable `code`; a client branches on [`Reason`], never on text.
//! Knows nothing of paths, headers or a server.

mod endorsing;
mod inbound;
mod outbound;

use serde::{Deserialize, Serialize};

use crate::encoding::cbor::{Reader, Writer};
use crate::encoding::{Canonical, DecodeError};
use crate::hash::{ChunkHash, CommitDigest, StateHash, TreeHash};
use crate::id::{
    CommitNumber, Epoch, Incarnation, IncarnationCounter, IncarnationNonce, KeyId, PartIndex, Sequence,
    StreamId, Timestamp,
};
use crate::limits::{GROUP_BYTES_MAX, RECEIPT_BYTES_MAX, RECEIPTS_MAX};
use crate::log::{ClientState, ContinuityError, Receipt, StatusLevel};

pub use endorsing::{Endorsing, ServedEndorsement};
pub use inbound::{Acknowledged, INBOUND_LISTED_MAX, InboundList, InboundMessage, Sent};
pub use outbound::{
    OUTBOUND_LISTED_MAX, OutboundContent, OutboundFields, OutboundList, OutboundRefused, OutboundSignature,
    OutboundStatus,
};

/// The header that carries evidence of a trusted execution environment, as a credential of one request.
pub const EVIDENCE_HEADER: &str = "synddb-evidence";

/// Longest evidence that is sent in a header, in bytes.
pub const EVIDENCE_HEADER_BYTES_MAX: usize = 12 << 10;

/// A place in what a client sends. What is sequenced or published is told in these, never in
/// sequences, because a commit may get another sequence after a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The commit.
    pub commit: CommitNumber,
    /// The part, when the commit is coming in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartIndex>,
}

impl Position {
    /// What must come next from a client with this state.
    pub fn expected(client: &ClientState) -> Self {
        let part = client.group.map(|group| group.next);
        Self { incarnation: client.incarnation, commit: client.next, part }
    }

    /// Whether whoever stands before this place has come as far as `wanted`: everything before `wanted` is before this. A later
    /// incarnation holds everything of an earlier one.
    pub fn reaches(&self, wanted: &Self) -> bool {
        let counter = |position: &Self| position.incarnation.counter;
        let in_order = |position: &Self| (position.commit, position.part.map_or(0, PartIndex::get));
        counter(self) > counter(wanted)
            || (self.incarnation == wanted.incarnation && in_order(self) >= in_order(wanted))
    }
}

/// Why a request was refused. Nothing of it was taken, and no sequence was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// 400: the body is not what this path reads.
    Malformed,
    /// 400: the range asked for runs backwards or is too long.
    Range,
    /// 401: the credential is missing or not accepted.
    Unauthorized,
    /// 403: the credential is accepted, and not for this stream.
    Forbidden,
    /// 404: there is nothing under this name, or not yet.
    NotFound,
    /// 405: this path does not take this method.
    MethodNotAllowed,
    /// 408: the body comes too slowly; try again.
    TooSlow,
    /// 409: something in between is missing; send from `expected` on.
    Gap {
        /// What must come next.
        expected: Position,
    },
    /// 409: the stream has no incarnation; begin it with a snapshot.
    NotBegun,
    /// 409: what came before differs; the stream stops until an operator decides.
    ContentMismatch {
        /// The digest that the log has.
        expected: CommitDigest,
        /// The digest that was named.
        found: CommitDigest,
    },
    /// 409: a newer incarnation runs, or another one with this counter.
    IncarnationSuperseded {
        /// The one that runs.
        running: Incarnation,
    },
    /// 410: what was asked for from this place on is not kept here; begin anew, or ask from `first` on.
    NotKept {
        /// The first place that can be asked for.
        first: Sequence,
    },
    /// 413: over a limit.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// 415: the body is said to be of a media type that this path does not read.
    UnsupportedMediaType,
    /// 422: well-formed, and breaks a rule of the protocol.
    Unprocessable,
    /// 422: the snapshot names chunks that are not stored; upload them and send it again.
    MissingChunks {
        /// The chunks.
        missing: Vec<ChunkHash>,
    },
    /// 426: the log is written by newer rules.
    UpgradeRequired,
    /// 429: the queue is full; try again after the time in `Retry-After`.
    Busy,
    /// 500: a fault of the service.
    Internal,
    /// 503: this sequencer does not lead, not yet or no more.
    NotLeading,
    /// 503: the store or another dependency does not answer.
    Unavailable,
    /// 412: what the request says must be there did not come in time; ask again.
    NotYet,
    /// 507: the disk budget is used up; accepted data is safe.
    DiskFull,
}

impl Reason {
    /// The HTTP status code.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed | Self::Range => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooSlow => 408,
            Self::Gap { .. }
            | Self::NotBegun
            | Self::ContentMismatch { .. }
            | Self::IncarnationSuperseded { .. } => 409,
            Self::NotKept { .. } => 410,
            Self::TooLarge { .. } => 413,
            Self::UnsupportedMediaType => 415,
            Self::Unprocessable | Self::MissingChunks { .. } => 422,
            Self::UpgradeRequired => 426,
            Self::Busy => 429,
            Self::Internal => 500,
            Self::NotLeading | Self::Unavailable => 503,
            Self::NotYet => 412,
            Self::DiskFull => 507,
        }
    }

    /// The code as JSON has it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Range => "range",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooSlow => "too_slow",
            Self::Gap { .. } => "gap",
            Self::NotBegun => "not_begun",
            Self::ContentMismatch { .. } => "content_mismatch",
            Self::IncarnationSuperseded { .. } => "incarnation_superseded",
            Self::NotKept { .. } => "not_kept",
            Self::TooLarge { .. } => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unprocessable => "unprocessable",
            Self::MissingChunks { .. } => "missing_chunks",
            Self::UpgradeRequired => "upgrade_required",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::NotLeading => "not_leading",
            Self::Unavailable => "unavailable",
            Self::NotYet => "not_yet",
            Self::DiskFull => "disk_full",
        }
    }

    /// Every code, in the order of [`of_each`](Self::of_each).
    pub const CODES: [&'static str; 23] = [
        "malformed",
        "range",
        "unauthorized",
        "forbidden",
        "not_found",
        "method_not_allowed",
        "too_slow",
        "gap",
        "not_begun",
        "content_mismatch",
        "incarnation_superseded",
        "not_kept",
        "too_large",
        "unsupported_media_type",
        "unprocessable",
        "missing_chunks",
        "upgrade_required",
        "busy",
        "internal",
        "not_leading",
        "unavailable",
        "not_yet",
        "disk_full",
    ];

    /// One of each kind, for what is said about all of them. What those that carry something carry means nothing.
    pub fn of_each() -> Vec<Self> {
        let running =
            Incarnation { counter: IncarnationCounter::FIRST, nonce: IncarnationNonce::from_bytes([0; 16]) };
        let digest = CommitDigest::from_bytes([0; 32]);
        vec![
            Self::Malformed,
            Self::Range,
            Self::Unauthorized,
            Self::Forbidden,
            Self::NotFound,
            Self::MethodNotAllowed,
            Self::TooSlow,
            Self::Gap {
                expected: Position { incarnation: running, commit: CommitNumber::FIRST, part: None },
            },
            Self::NotBegun,
            Self::ContentMismatch { expected: digest, found: digest },
            Self::IncarnationSuperseded { running },
            Self::NotKept { first: Sequence::FIRST },
            Self::TooLarge { limit: 0 },
            Self::UnsupportedMediaType,
            Self::Unprocessable,
            Self::MissingChunks { missing: Vec::new() },
            Self::UpgradeRequired,
            Self::Busy,
            Self::Internal,
            Self::NotLeading,
            Self::Unavailable,
            Self::NotYet,
            Self::DiskFull,
        ]
    }

    /// The short title, the same for every problem with this code.
    const fn title(&self) -> &'static str {
        match self {
            Self::Malformed => "The body cannot be read",
            Self::Range => "The range cannot be served",
            Self::Unauthorized => "A credential is needed",
            Self::Forbidden => "The credential is for other streams",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "This path does not take this method",
            Self::TooSlow => "The body comes too slowly",
            Self::Gap { .. } => "Something in between is missing",
            Self::NotBegun => "The stream has not begun",
            Self::ContentMismatch { .. } => "What came before differs",
            Self::IncarnationSuperseded { .. } => "Another incarnation runs",
            Self::NotKept { .. } => "What came before is not kept",
            Self::TooLarge { .. } => "Over a limit",
            Self::UnsupportedMediaType => "The body is of another media type",
            Self::Unprocessable => "A rule of the protocol is broken",
            Self::MissingChunks { .. } => "Chunks of the snapshot are missing",
            Self::UpgradeRequired => "Newer software is needed",
            Self::Busy => "The queue is full",
            Self::Internal => "A fault of the service",
            Self::NotLeading => "This sequencer does not lead",
            Self::Unavailable => "A dependency does not answer",
            Self::NotYet => "It did not come in time",
            Self::DiskFull => "The disk budget is used up",
        }
    }

    /// After a failover the log may lack what began a newer incarnation: the client rewinds. An agent on a
    /// copy of the database names a predecessor that never ran here: it must not.
    fn of_incarnation(found: Incarnation, predecessor: Option<Incarnation>, client: &ClientState) -> Self {
        let running = client.incarnation;
        let copied = predecessor.is_some_and(|named| named.counter == running.counter && named != running);
        if found.counter > running.counter && !copied {
            Self::Gap { expected: Position::expected(client) }
        } else {
            Self::IncarnationSuperseded { running }
        }
    }

    /// The reason that a client gets when what it sent does not follow. `running` is what the log has
    /// of the client.
    pub fn of_continuity(error: &ContinuityError, running: Option<&ClientState>) -> Self {
        let Some(client) = running else { return Self::NotBegun };
        match error {
            ContinuityError::NotBegun => Self::NotBegun,
            ContinuityError::Gap { .. } | ContinuityError::PartGap { .. } => {
                Self::Gap { expected: Position::expected(client) }
            }
            ContinuityError::ContentMismatch { expected, found, .. } => {
                Self::ContentMismatch { expected: *expected, found: *found }
            }
            ContinuityError::Incarnation { found, .. } => Self::of_incarnation(*found, None, client),
            ContinuityError::NoSuccessor { found, predecessor } => {
                Self::of_incarnation(*found, *predecessor, client)
            }
            ContinuityError::GroupTooLarge { .. } => Self::TooLarge { limit: GROUP_BYTES_MAX },
            ContinuityError::MixedGroup { .. }
            | ContinuityError::StateMismatch { .. }
            | ContinuityError::AbandonedKnown { .. }
            | ContinuityError::GroupNotAbandoned { .. }
            | ContinuityError::Exhausted(_) => Self::Unprocessable,
        }
    }
}

/// A refusal as `application/problem+json` (RFC 9457).
///
/// Its `type` is a path of the service that refused: it answers there what the code means and what to do, as `docs/runbook.md` says it.
///
/// ```
/// use synddb_protocol::http::{Problem, Reason};
/// let json = serde_json::to_string(&Problem::new(Reason::Busy, "4096 submissions wait"))?;
/// assert_eq!(json, concat!(
///     r#"{"type":"/problems/busy","title":"The queue is full","status":429,"#,
///     r#""detail":"4096 submissions wait","code":"busy"}"#,
/// ));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(
        description = "A refusal (RFC 9457). Its `type` is a path of the service that refused, which answers there what the code means and what to do."
    )
)]
pub struct Problem {
    #[serde(rename = "type")]
    uri: String,
    title: String,
    status: u16,
    detail: String,
    /// What a client branches on; its fields stand beside the others.
    #[serde(flatten)]
    reason: Reason,
}

impl Problem {
    /// The problem for `reason`. `detail` is for people: it names the values and the fix.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            uri: format!("/problems/{}", reason.code()),
            title: reason.title().to_owned(),
            status: reason.status(),
            detail: detail.into(),
            reason,
        }
    }

    /// What a client branches on.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The text for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// The answer to an accepted submission, in CBOR: the receipts of the messages that hold it.
///
/// One for a new submission. A retry that was cut otherwise than the first time gets all that cover it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts(pub Vec<Receipt>);

impl Canonical for Receipts {
    const WHAT: &'static str = "receipts";
    const BYTES_MAX: usize = RECEIPTS_MAX * (RECEIPT_BYTES_MAX + 3) + 9;

    fn write(&self, writer: &mut Writer) {
        writer.array(self.0.len());
        for receipt in &self.0 {
            writer.bytes(&receipt.to_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.array(Self::WHAT, RECEIPTS_MAX)?;
        if count == 0 {
            return Err(DecodeError::Invalid { what: Self::WHAT, why: "there is at least one" });
        }
        let receipts: Result<_, _> =
            (0..count).map(|_| Receipt::from_bytes(reader.bytes("receipt", RECEIPT_BYTES_MAX)?)).collect();
        receipts.map(Self)
    }
}

/// What a sequencer says of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StreamStatus {
    /// The stream.
    pub stream: StreamId,
    /// The epoch that this sequencer leads.
    pub epoch: Epoch,
    /// The name of its key: an address, not the public key that readers pin.
    pub key_id: KeyId,
    /// The last sequence given.
    pub sequence: Option<Sequence>,
    /// The last sequence stored.
    pub stored: Option<Sequence>,
    /// What of the client gets the next sequence: everything before it has one.
    pub sequenced_next: Option<Position>,
    /// What of the client is stored next: everything before it is.
    pub stored_next: Option<Position>,
    /// The state hash after the last whole commit.
    pub state: Option<StateHash>,
    /// Log time, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// The system's status.
    pub status: StatusLevel,
}

/// Why a replica stopped for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HaltKind {
    /// What the log says cannot be done to the replica, or leads to another state than it claims.
    Divergence,
    /// An object of the log is not what a trusted leader would store.
    Refused,
    /// A key was revoked that signed a part of what the replica holds.
    Revoked,
    /// The log is written by newer rules.
    UpgradeRequired,
}

/// Where and why a replica stopped. It serves what it had before, and says that it is halted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Halt {
    /// Why.
    pub kind: HaltKind,
    /// The first message that is not in the replica, or that is not believed any more. Where the replica itself was found to be something else,
    /// see [`stood_at`](Self::stood_at), the message that would come next.
    pub from: Sequence,
    /// The last message that is known to be missing: the end of the object that holds `from`, if it could be read. The same as `from` where
    /// nothing is known to be missing.
    pub to: Sequence,
    /// The cause, for people.
    pub detail: String,
    /// Of a divergence: what of the replica differs, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Box<Difference>>,
}

impl Halt {
    /// The message at which the replica stood when it was found to be something else than the log says. Nothing is wrong with the log then:
    /// `from` and `to` are messages that come next, if they are there yet. `None` for every other halt.
    pub fn stood_at(&self) -> Option<Sequence> {
        self.difference.as_deref().map(|difference| difference.sequence).filter(|at| *at < self.from)
    }
}

/// What of a replica differs from what the log makes of it. Names and values are cut when they are long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The message that could not be applied, or after which the replica stood when it was found to be something else.
    pub sequence: Sequence,
    /// The commit that could not be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitNumber>,
    /// The state hash that is claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_state: Option<StateHash>,
    /// The state hash that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_state: Option<StateHash>,
    /// The tables that hold other rows, or are in one database only, as far as they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// Whether the first difference was looked for.
    pub naming: Naming,
    /// The first thing that differs: `table t`, `index i`, `user_version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The table that holds the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// What identifies the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// The column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// What should be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// Whether the first difference of a replica was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// Nothing had to be looked for: what is known was known at once.
    Known,
    /// The log is replayed beside the replica, which takes a while.
    UnderWay,
    /// The log was replayed, and both were compared.
    Done,
    /// It was switched off.
    Off,
    /// It could not be done; the trace says why.
    Failed,
}

/// Messages that are not in a replica because whoever runs it went on after a divergence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The report of the divergence.
    pub report: String,
    /// The first message that was not applied.
    pub from: Sequence,
    /// The snapshot message from which the replica went on. `None` while none has come.
    pub to: Option<Sequence>,
}

/// What a full scan of a replica found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplicaAudit {
    /// The last message in the replica.
    pub sequence: Sequence,
    /// The state hash that was kept up to date.
    pub state: StateHash,
    /// The state hash of what is in the file. `None` when the file cannot be scanned.
    pub scanned: Option<StateHash>,
    /// Whether the file is what it should be. A halt follows when it is not.
    pub equal: bool,
    /// The tables that differ.
    pub tables: Vec<String>,
    /// How long the scan took, in milliseconds.
    pub scan_ms: u64,
}

/// What a replica says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplicaStatus {
    /// The stream.
    pub stream: StreamId,
    /// The last message in the replica.
    pub sequence: Option<Sequence>,
    /// What must come next of the client: everything before it is in the replica. `None` before the first snapshot.
    pub next: Option<Position>,
    /// The replica's state hash.
    pub state: Option<StateHash>,
    /// Log time of the last message, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// The last message that is known to be stored, as far as anybody told.
    pub stored: Option<Sequence>,
    /// Where and why it stopped, if it did.
    pub halted: Option<Halt>,
    /// What is missing because somebody went on after a divergence, oldest first.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// The snapshot that the replica began with. Nobody checked for it that what the log claims of states up to there follows from its rows, until
    /// `synddb verify --full --of` did; then it is not said any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<StartedFrom>,
    /// What it stores of snapshots; `None` where it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsTaken>,
    /// How far it endorses; `None` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsing: Option<Endorsing>,
    /// Violations of rules that nobody has resolved: while there is one, nothing behind it is endorsed. `None` where no rule looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,
}

/// The snapshot that a replica began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartedFrom {
    /// The last message in it.
    pub sequence: Sequence,
    /// The key id of whoever took it, who is believed in nothing.
    pub signer: KeyId,
    /// The epoch whose leader signed the checkpoint there.
    pub epoch: Epoch,
    /// The root of the log there, by that checkpoint.
    pub root: TreeHash,
    /// The state hash there, by that checkpoint; the snapshot was scanned and has it.
    pub state: StateHash,
    /// How many inbound messages were acknowledged by then, by that checkpoint.
    pub inbox_consumed: u64,
}

/// What a validator stores of snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SnapshotsTaken {
    /// The key id that it signs them with.
    pub signer: KeyId,
    /// The last message in the last one that it took and knows of.
    pub sequence: Option<Sequence>,
    /// Why the one that is due is not stored yet, where something is in the way.
    pub failing: Option<String>,
}

/// A snapshot that lies in the store. That it does says nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StoredSnapshot {
    /// The last message in it, by its name.
    pub sequence: Sequence,
    /// The key id of whoever took it, by its name.
    pub signer: KeyId,
}

/// That a message stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InclusionProof {
    /// The message.
    pub sequence: Sequence,
    /// The size of the log that the path leads to.
    pub size: Sequence,
    /// The path, leaf first (RFC 9162, section 2.1.3).
    pub path: Vec<TreeHash>,
}

/// That one log begins with another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConsistencyProof {
    /// The size of the smaller log.
    pub from: Sequence,
    /// The size of the larger log.
    pub size: Sequence,
    /// The path (RFC 9162, section 2.1.4).
    pub path: Vec<TreeHash>,
}
