//! Strategies for every type that is encoded.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use synddb_protocol::hash::{
    BodyHash, ChainHash, ChunkHash, CommitDigest, EpochRecordHash, StateHash, TreeHash,
};
use synddb_protocol::http::{
    ConsistencyProof, InclusionProof, Position, Problem, Reason, Receipts, StreamStatus,
};
use synddb_protocol::id::{
    Address, CommitNumber, Epoch, InboundNonce, Incarnation, IncarnationCounter, IncarnationNonce, PartIndex,
    Sequence, StreamId, Timestamp,
};
use synddb_protocol::limits::{COUNTER_MAX, GROUP_BYTES_MAX, KEYED_COUNTER_MAX, PARTS_MAX};
use synddb_protocol::live::LogItem;
use synddb_protocol::log::{
    Checkpoint, ClientState, EpochRecord, EpochStart, Frontier, Inbound, InboundState, KeyProof, Leader,
    Manifest, Message, MessageHeader, MessageType, OpenGroup, PagePlaces, Patch, Receipt, SignedCheckpoint,
    SignedEpochRecord, Status, StatusLevel, Versions,
};
use synddb_protocol::signing::SigningKey;
use synddb_protocol::submission::{
    Changes, Chunk, Commit, CommitKind, Commits, Content, ObjectKind, PageSize, Part, Predecessor,
    SchemaChange, SchemaRow, Snapshot, SnapshotPlace, StateClaim, Submission, TextEncoding,
};

/// A number up to `max`, with both ends and small numbers more often than chance has them.
fn number(min: u64, max: u64) -> impl Strategy<Value = u64> {
    prop_oneof![Just(min), Just(max), min..=max.min(min + 300), min..=max]
}

macro_rules! counters {
    ($($function:ident $name:ident $max:expr;)*) => {
        $(pub(crate) fn $function() -> impl Strategy<Value = $name> {
            number(1, $max).prop_map(|value| $name::new(value).unwrap())
        })*
    };
}
counters! {
    sequence Sequence KEYED_COUNTER_MAX;
    epoch Epoch KEYED_COUNTER_MAX;
    commit_number CommitNumber COUNTER_MAX;
    incarnation_counter IncarnationCounter COUNTER_MAX;
    inbound_nonce InboundNonce COUNTER_MAX;
}

macro_rules! byte_arrays {
    ($($function:ident $name:ident $length:literal;)*) => {
        $(pub(crate) fn $function() -> impl Strategy<Value = $name> {
            vec(any::<u8>(), $length).prop_map(|bytes| $name::from_bytes(bytes.try_into().unwrap()))
        })*
    };
}
byte_arrays! {
    stream StreamId 32;
    address Address 20;
    incarnation_nonce IncarnationNonce 16;
    commit_digest CommitDigest 32;
    body_hash BodyHash 32;
    tree_hash TreeHash 32;
    chunk_hash ChunkHash 32;
    epoch_record_hash EpochRecordHash 32;
    state_hash StateHash 32;
    chain_hash ChainHash 32;
}

pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    number(0, COUNTER_MAX).prop_map(|ms| Timestamp::from_ms(ms).unwrap())
}

pub(crate) fn part_index() -> impl Strategy<Value = PartIndex> {
    number(0, u64::from(PARTS_MAX) - 1).prop_map(|index| PartIndex::new(index).unwrap())
}

pub(crate) fn incarnation() -> impl Strategy<Value = Incarnation> {
    (incarnation_counter(), incarnation_nonce()).prop_map(|(counter, nonce)| Incarnation { counter, nonce })
}

pub(crate) fn signing_key() -> impl Strategy<Value = SigningKey> {
    (1u8..=255).prop_map(|seed| {
        SigningKey::from_bytes([seed; 32]).unwrap_or_else(|_| SigningKey::from_bytes([1; 32]).unwrap())
    })
}

pub(crate) fn state_claim() -> impl Strategy<Value = StateClaim> {
    (state_hash(), option::of(state_hash())).prop_map(|(state, scanned)| StateClaim { state, scanned })
}

pub(crate) fn text_encoding() -> impl Strategy<Value = TextEncoding> {
    prop_oneof![Just(TextEncoding::Utf8), Just(TextEncoding::Utf16Le), Just(TextEncoding::Utf16Be)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn object_kind() -> impl Strategy<Value = ObjectKind> {
    prop_oneof![
        Just(ObjectKind::Table),
        Just(ObjectKind::Index),
        Just(ObjectKind::View),
        Just(ObjectKind::Trigger)
    ]
}

pub(crate) fn schema_row() -> impl Strategy<Value = SchemaRow> {
    (object_kind(), bytes(), bytes(), option::of(bytes())).prop_map(|(kind, name, table, sql)| SchemaRow {
        kind,
        name,
        table,
        sql,
    })
}

pub(crate) fn schema_change() -> impl Strategy<Value = SchemaChange> {
    prop_oneof![
        (object_kind(), bytes()).prop_map(|(kind, name)| SchemaChange::Drop { kind, name }),
        (schema_row(), any::<i64>()).prop_map(|(row, place)| SchemaChange::Create { row, place }),
        (bytes(), schema_row(), any::<i64>()).prop_map(|(name, row, place)| SchemaChange::Amend {
            name,
            row,
            place
        }),
        (bytes(), schema_row(), any::<i64>()).prop_map(|(name, row, place)| SchemaChange::Rebuild {
            name,
            row,
            place
        }),
    ]
}

pub(crate) fn changes() -> impl Strategy<Value = Changes> {
    (vec(schema_change(), 0..4), bytes(), any::<Option<i32>>(), any::<Option<i32>>()).prop_map(
        |(schema, rows, user_version, application_id)| Changes { schema, rows, user_version, application_id },
    )
}

fn commit_kind() -> impl Strategy<Value = CommitKind> {
    prop_oneof![Just(CommitKind::Transaction), Just(CommitKind::Reconcile)]
}

/// Commits that follow each other, from any number on.
pub(crate) fn commits() -> impl Strategy<Value = Commits> {
    (number(1, COUNTER_MAX - 10), commit_digest(), vec((commit_kind(), changes(), state_claim()), 1..5))
        .prop_map(|(first, mut prev, list)| {
            let mut commits = Vec::new();
            for (number, (kind, changes, claim)) in (first..).zip(list) {
                let number = CommitNumber::new(number).unwrap();
                let commit = Commit { number, prev, kind, changes, state: Some(claim) };
                prev = commit.digest();
                commits.push(commit);
            }
            Commits::new(commits).unwrap()
        })
}

pub(crate) fn part() -> impl Strategy<Value = Part> {
    (commit_number(), commit_digest(), commit_kind(), part_index(), changes(), option::of(state_claim()))
        .prop_map(|(number, prev, kind, index, changes, last)| {
            let last = last.filter(|_| index != PartIndex::FIRST);
            Part { number, prev, kind, index, changes, last }
        })
}

pub(crate) fn submission() -> impl Strategy<Value = Submission> {
    let content = prop_oneof![commits().prop_map(Content::Commits), part().prop_map(Content::Part)];
    (stream(), incarnation(), content).prop_map(|(stream, incarnation, content)| Submission {
        stream,
        incarnation,
        content,
    })
}

fn page_size() -> impl Strategy<Value = PageSize> {
    (9u32..=16).prop_map(|shift| PageSize::new(1 << shift).unwrap())
}

fn chunk() -> impl Strategy<Value = Chunk> {
    (chunk_hash(), 1u64..=128, number(0, 8 << 20)).prop_map(|(hash, pages, stored_bytes)| Chunk {
        hash,
        pages,
        stored_bytes,
    })
}

/// A manifest at any checkpoint at which one can be taken, patches inside of its runs.
pub(crate) fn manifest() -> impl Strategy<Value = Manifest> {
    let places = vec((any::<Option<u32>>(), 1u32..=4), 1..6);
    let settled = client_state().prop_map(|client| Some(ClientState { group: None, ..client }));
    let parts = (vec(chunk(), 1..5), vec((chunk(), places), 0..4));
    (checkpoint_with(settled), text_encoding(), page_size(), parts).prop_map(
        |(checkpoint, encoding, page_size, (runs, patches))| {
            let held: u64 = runs.iter().map(|run| run.pages).sum();
            let place = |(first, pages): (Option<u32>, u32)| {
                let starts = u32::try_from(held).unwrap().checked_sub(pages).filter(|_| first.is_some());
                PagePlaces { first: starts.map(|starts| 1 + first.unwrap_or(0) % (starts + 1)), pages }
            };
            let patch = |(chunk, places): (Chunk, Vec<_>)| {
                let places: Vec<_> = places.into_iter().map(place).collect();
                let pages = places.iter().map(|place| u64::from(place.pages)).sum();
                Patch { chunk: Chunk { pages, ..chunk }, places }
            };
            let patches = patches.into_iter().map(patch).collect();
            Manifest { checkpoint, encoding, page_size, runs, patches }
        },
    )
}

pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let numbers = (commit_number(), option::of(part_index()), option::of(commit_number()));
    let predecessor = (incarnation(), commit_digest(), numbers).prop_map(|(incarnation, last, numbers)| {
        let (next, next_part, abandoned_through) = numbers;
        Predecessor { incarnation, next, next_part, last, abandoned_through }
    });
    let place = prop_oneof![
        option::of(predecessor).prop_map(|predecessor| SnapshotPlace::Begins { predecessor }),
        (commit_number(), commit_digest())
            .prop_map(|(commit, digest)| SnapshotPlace::After { commit, digest }),
    ];
    (stream(), incarnation(), place, text_encoding(), page_size(), state_hash(), vec(chunk(), 1..5)).prop_map(
        |(stream, incarnation, place, encoding, page_size, state, chunks)| Snapshot {
            stream,
            incarnation,
            place,
            encoding,
            page_size,
            state,
            chunks,
        },
    )
}

pub(crate) fn inbound() -> impl Strategy<Value = Inbound> {
    (
        any::<u64>(),
        address(),
        inbound_nonce(),
        any::<u64>(),
        chain_hash(),
        chain_hash(),
        any::<u32>(),
        bytes(),
    )
        .prop_map(
            |(chain_id, bridge, nonce, block_number, block_hash, transaction_hash, log_index, event)| {
                Inbound {
                    chain_id,
                    bridge,
                    nonce,
                    block_number,
                    block_hash,
                    transaction_hash,
                    log_index,
                    event,
                }
            },
        )
}

pub(crate) fn status_level() -> impl Strategy<Value = StatusLevel> {
    prop_oneof![
        Just(StatusLevel::Healthy),
        Just(StatusLevel::Warned),
        Just(StatusLevel::Degraded),
        Just(StatusLevel::Halted)
    ]
}

pub(crate) fn status() -> impl Strategy<Value = Status> {
    (status_level(), "\\PC{0,60}").prop_map(|(level, reason)| Status { level, reason })
}

pub(crate) fn epoch_start() -> impl Strategy<Value = EpochStart> {
    (epoch_record_hash(), versions()).prop_map(|(record, versions)| EpochStart { record, versions })
}

pub(crate) fn versions() -> impl Strategy<Value = Versions> {
    (1..=u64::MAX, 1..=u64::MAX).prop_map(|(protocol, apply)| Versions { protocol, apply })
}

pub(crate) fn key_proof() -> impl Strategy<Value = KeyProof> {
    prop_oneof![
        Just(KeyProof::Unattested),
        (any::<u64>(), address(), any::<u64>()).prop_map(|(chain_id, registry, block_number)| {
            KeyProof::Registration { chain_id, registry, block_number }
        }),
        bytes().prop_map(KeyProof::Evidence),
    ]
}

pub(crate) fn epoch_record() -> impl Strategy<Value = SignedEpochRecord> {
    (stream(), epoch(), key_proof(), signing_key())
        .prop_map(|(stream, epoch, proof, key)| EpochRecord { stream, epoch, proof }.sign(&key))
}

pub(crate) fn message_header() -> impl Strategy<Value = MessageHeader> {
    let message_type = prop_oneof![
        Just(MessageType::Submission),
        Just(MessageType::Snapshot),
        Just(MessageType::Inbound),
        Just(MessageType::Status),
        Just(MessageType::Epoch)
    ];
    (stream(), epoch(), sequence(), timestamp(), message_type).prop_map(
        |(stream, epoch, sequence, timestamp, message_type)| MessageHeader {
            stream,
            epoch,
            sequence,
            timestamp,
            message_type,
        },
    )
}

pub(crate) fn receipt() -> impl Strategy<Value = Receipt> {
    (message_header(), bytes(), signing_key())
        .prop_map(|(header, body, key)| Receipt::sign(header, &body, &key))
}

pub(crate) fn receipts() -> impl Strategy<Value = Receipts> {
    vec(receipt(), 1..4).prop_map(Receipts)
}

pub(crate) fn log_item() -> impl Strategy<Value = LogItem> {
    prop_oneof![
        (receipt(), bytes(), any::<bool>()).prop_map(|(receipt, body, stored)| {
            LogItem::Message { message: Box::new(Message { receipt, body }), stored }
        }),
        checkpoint().prop_map(|checkpoint| LogItem::Stored(Box::new(checkpoint))),
        sequence().prop_map(|from| LogItem::Withdrawn { from }),
        sequence().prop_map(|from| LogItem::Behind { from }),
        Just(LogItem::Idle),
    ]
}

fn client_state() -> impl Strategy<Value = ClientState> {
    let next_part = (1..PARTS_MAX).prop_map(|index| PartIndex::new(u64::from(index)).unwrap());
    let group = (next_part, commit_kind(), number(0, GROUP_BYTES_MAX))
        .prop_map(|(next, kind, bytes)| OpenGroup { next, kind, bytes });
    (incarnation(), commit_number(), commit_digest(), option::of(group), state_hash()).prop_map(
        |(incarnation, next, last, group, state)| ClientState { incarnation, next, last, group, state },
    )
}

fn inbound_state() -> impl Strategy<Value = InboundState> {
    (any::<u64>(), address(), number(2, COUNTER_MAX)).prop_map(|(chain_id, bridge, next)| InboundState {
        chain_id,
        bridge,
        next: InboundNonce::new(next).unwrap(),
    })
}

/// Checkpoints that do not contradict themselves: of the last message's epoch by its leader, or later.
pub(crate) fn checkpoint() -> impl Strategy<Value = SignedCheckpoint> {
    checkpoint_with(option::of(client_state()))
}

/// One that can be endorsed: it has a state.
pub(crate) fn checkpoint_with_state() -> impl Strategy<Value = SignedCheckpoint> {
    checkpoint_with(client_state().prop_map(Some))
}

fn checkpoint_with(
    client: impl Strategy<Value = Option<ClientState>>,
) -> impl Strategy<Value = SignedCheckpoint> {
    let frontier = sequence().prop_flat_map(|size| {
        vec(tree_hash(), size.get().count_ones() as usize)
            .prop_map(move |peaks| (size, Frontier::new(size.get(), peaks).unwrap()))
    });
    let leaders = (epoch(), epoch(), address());
    let inbound = (option::of(inbound_state()), any::<u64>());
    let rest = (status_level(), versions(), signing_key());
    (stream(), leaders, frontier, timestamp(), client, inbound, rest).prop_map(
        |(stream, (one, other, address), (size, frontier), timestamp, client, inbound, rest)| {
            let (status, versions, key) = rest;
            let (last, epoch) = (one.min(other), one.max(other));
            let last_leader = Leader { epoch: last, key: if last == epoch { key.id() } else { address } };
            let (inbound, consumed) = inbound;
            let inbox_consumed = inbound.map_or(0, |inbound| consumed % inbound.next.get());
            Checkpoint {
                stream,
                epoch,
                size,
                timestamp,
                last_leader,
                client,
                inbound,
                inbox_consumed,
                status,
                frontier,
                versions,
            }
            .sign(&key)
            .unwrap()
        },
    )
}

pub(crate) fn position() -> impl Strategy<Value = Position> {
    (incarnation(), commit_number(), option::of(part_index()))
        .prop_map(|(incarnation, commit, part)| Position { incarnation, commit, part })
}

pub(crate) fn problem() -> impl Strategy<Value = Problem> {
    let reason = prop_oneof![
        Just(Reason::Malformed),
        Just(Reason::Unauthorized),
        Just(Reason::Forbidden),
        Just(Reason::NotYet),
        Just(Reason::DiskFull),
        Just(Reason::TooSlow),
        position().prop_map(|expected| Reason::Gap { expected }),
        (commit_digest(), commit_digest())
            .prop_map(|(expected, found)| Reason::ContentMismatch { expected, found }),
        incarnation().prop_map(|running| Reason::IncarnationSuperseded { running }),
        sequence().prop_map(|first| Reason::NotKept { first }),
        number(0, COUNTER_MAX).prop_map(|limit| Reason::TooLarge { limit }),
        vec(chunk_hash(), 0..4).prop_map(|missing| Reason::MissingChunks { missing }),
    ];
    (reason, "\\PC{0,60}").prop_map(|(reason, detail)| Problem::new(reason, detail))
}

pub(crate) fn stream_status() -> impl Strategy<Value = StreamStatus> {
    let sequences = (option::of(sequence()), option::of(sequence()));
    let positions = (option::of(position()), option::of(position()));
    (
        stream(),
        epoch(),
        address(),
        sequences,
        positions,
        option::of(state_hash()),
        timestamp(),
        status_level(),
    )
        .prop_map(|(stream, epoch, key_id, sequences, positions, state, timestamp, status)| {
            StreamStatus {
                stream,
                epoch,
                key_id,
                sequence: sequences.0,
                stored: sequences.1,
                sequenced_next: positions.0,
                stored_next: positions.1,
                state,
                timestamp,
                status,
            }
        })
}

pub(crate) fn inclusion_proof() -> impl Strategy<Value = InclusionProof> {
    (sequence(), sequence(), vec(tree_hash(), 0..5)).prop_map(|(sequence, size, path)| InclusionProof {
        sequence,
        size,
        path,
    })
}

pub(crate) fn consistency_proof() -> impl Strategy<Value = ConsistencyProof> {
    (sequence(), sequence(), vec(tree_hash(), 0..5)).prop_map(|(from, size, path)| ConsistencyProof {
        from,
        size,
        path,
    })
}
