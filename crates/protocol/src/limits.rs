//! Every bound of what is signed, sent and stored, in one place.
//!
//! A CBOR decoder allocates nothing before the length it read was compared with a bound from here. JSON is
//! bounded by whoever reads it from the network. How the bounds
//! relate is asserted at compile time, below.

/// Largest counter that every language reads exactly from a JSON number (2^53 - 1).
pub const COUNTER_MAX: u64 = (1 << 53) - 1;

/// Digits of a number inside a store key. Keys sort by bytes as their numbers do only up to this width.
pub const KEY_DIGITS: usize = 12;

/// Largest sequence and largest epoch: what [`KEY_DIGITS`] decimal digits can hold.
pub const KEYED_COUNTER_MAX: u64 = 999_999_999_999;

/// Largest message body as stored and sent: zstd-compressed, in bytes.
pub const BODY_COMPRESSED_MAX: usize = 8 << 20;

/// Largest message body after decompression, in bytes.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// Largest batch as canonical CBOR, before its outer compression, in bytes.
pub const BATCH_BYTES_MAX: usize = 32 << 20;

/// Largest batch object in a store, in bytes: an incompressible batch grows a little in its frame.
pub const BATCH_STORED_MAX: usize = BATCH_BYTES_MAX + (BATCH_BYTES_MAX >> 8) + 128;

/// Most messages in one batch.
pub const BATCH_MESSAGES_MAX: usize = 4096;

/// All bodies of one batch together, after decompression, in bytes.
pub const BATCH_BODIES_MAX: usize = 128 << 20;

/// Largest signed message without its body, in bytes: a receipt.
pub const RECEIPT_BYTES_MAX: usize = 299;

/// Largest signed checkpoint, in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 4 << 10;

/// Largest signed epoch record, in bytes. It holds TEE evidence with its certificate chain.
pub const EPOCH_RECORD_BYTES_MAX: usize = 64 << 10;

/// Largest evidence inside an epoch record, in bytes.
pub const EVIDENCE_BYTES_MAX: usize = 60 << 10;

/// Most commits in one submission.
pub const SUBMISSION_COMMITS_MAX: usize = 4096;

/// Most parts of one huge commit.
pub const PARTS_MAX: u32 = 1 << 16;

/// One huge commit, all parts together, before compression, in bytes.
pub const GROUP_BYTES_MAX: u64 = 16 << 30;

/// Most schema changes in one submission. A commit with more travels in parts.
pub const SCHEMA_CHANGES_MAX: usize = 256;

/// What one schema change takes in memory at most beside its text, allocations included, in bytes.
pub(crate) const SCHEMA_CHANGE_MEMORY: usize = 256;

/// Longest name in the schema, in bytes as stored.
pub const NAME_BYTES_MAX: usize = 64 << 10;

/// Longest SQL text in the schema, in bytes as stored.
pub const SQL_BYTES_MAX: usize = 2 << 20;

/// Most page runs ("chunks") of one snapshot.
pub const SNAPSHOT_CHUNKS_MAX: usize = 1 << 16;

/// Most patches of one snapshot.
pub const SNAPSHOT_PATCHES_MAX: usize = 1 << 12;

/// Most places that the patches of one snapshot name, all together.
pub const PAGE_PLACES_MAX: usize = 1 << 19;

/// Largest chunk as stored: zstd-compressed pages, in bytes.
pub const CHUNK_STORED_MAX: usize = 8 << 20;

/// Largest chunk after decompression, in bytes.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// Largest page count of an SQLite database (`SQLITE_MAX_PAGE_COUNT`).
pub const PAGE_COUNT_MAX: u64 = 4_294_967_294;

/// Largest signed snapshot manifest, in bytes: full lists at 48 bytes a run, 56 a patch and 10 a place, the checkpoint
/// that it is taken at, and the fields around both.
pub const MANIFEST_BYTES_MAX: usize = SNAPSHOT_CHUNKS_MAX * 48
    + SNAPSHOT_PATCHES_MAX * 56
    + PAGE_PLACES_MAX * 10
    + CHECKPOINT_BYTES_MAX
    + (4 << 10);

/// Largest endorsement, in bytes: the endorsed checkpoint, what it is good for, what registers the key, a signature.
pub const ENDORSEMENT_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + (4 << 10);

/// Longest name of a rule, detail or reason in a refusal, in bytes.
pub const REFUSAL_TEXT_MAX: usize = 4 << 10;

/// Rows that a refusal shows, as JSON, in bytes.
pub const REFUSAL_ROWS_MAX: usize = 64 << 10;

/// Largest signed refusal, in bytes.
pub const REFUSAL_BYTES_MAX: usize = REFUSAL_ROWS_MAX + 3 * REFUSAL_TEXT_MAX + 1024;

/// Largest event data of an inbound message, in bytes.
pub const INBOUND_EVENT_BYTES_MAX: usize = 64 << 10;

/// Longest free text in a status message, in bytes.
pub const REASON_BYTES_MAX: usize = 1 << 10;

/// Most hashes in a frontier: more than any tree of [`KEYED_COUNTER_MAX`] leaves has peaks.
pub const TREE_HASHES_MAX: usize = 64;

/// Most receipts in one answer to a submission: a submission cut anew may span several messages.
pub const RECEIPTS_MAX: usize = SUBMISSION_COMMITS_MAX;

/// Most leaves of the log tree in one answer.
pub const LEAVES_MAX: usize = BATCH_MESSAGES_MAX;

const _: () = {
    // A number that fits its key also fits JSON.
    assert!(KEYED_COUNTER_MAX <= COUNTER_MAX);
    assert!(KEYED_COUNTER_MAX.ilog10() as usize + 1 == KEY_DIGITS);
    // The largest message fits a batch together with a checkpoint and the map around both.
    assert!(BODY_COMPRESSED_MAX + RECEIPT_BYTES_MAX + CHECKPOINT_BYTES_MAX + 256 <= BATCH_BYTES_MAX);
    // Every body that may be stored may also be opened.
    assert!(BODY_COMPRESSED_MAX <= BODY_BYTES_MAX && BODY_BYTES_MAX <= BATCH_BODIES_MAX);
    // A frontier at the largest size fits a checkpoint: 34 bytes a hash.
    assert!(TREE_HASHES_MAX * 34 + 1024 <= CHECKPOINT_BYTES_MAX);
    assert!(EVIDENCE_BYTES_MAX + 1024 <= EPOCH_RECORD_BYTES_MAX);
    // The longest chunk list fits the body that carries it: at most 60 bytes a chunk.
    assert!(SNAPSHOT_CHUNKS_MAX * 60 + 1024 <= BODY_BYTES_MAX);
    // What a batch of nothing but schema changes takes in memory stays within a quarter of a gibibyte.
    assert!(BATCH_MESSAGES_MAX * SCHEMA_CHANGES_MAX * SCHEMA_CHANGE_MEMORY <= 256 << 20);
    // Its own size, and one smallest allocation for each of its four texts.
    assert!(size_of::<crate::submission::SchemaChange>() + 4 * 32 <= SCHEMA_CHANGE_MEMORY);
    // One schema change always fits.
    assert!(4 * NAME_BYTES_MAX + SQL_BYTES_MAX + 1024 <= BODY_BYTES_MAX);
    assert!(GROUP_BYTES_MAX <= COUNTER_MAX);
    assert!(GROUP_BYTES_MAX <= PARTS_MAX as u64 * BODY_BYTES_MAX as u64);
};
