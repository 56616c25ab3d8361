//! The names of what is counted. Lag is a subtraction: `stored_sequence - applied_sequence` here, the agent's `captured_commit` less `applied_commit` here.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use synddb_protocol::http::HaltKind;
use synddb_protocol::id::{Sequence, StreamId};
use synddb_sqlite::apply::Applied;

use crate::view::Standing;

const STORED: &str = "synddb_validator_stored_sequence";
const APPLIED: &str = "synddb_validator_applied_sequence";
const APPLIED_COMMIT: &str = "synddb_validator_applied_commit";
const HALTED: &str = "synddb_validator_halted";
const MESSAGES: &str = "synddb_validator_messages_total";
const COMMITS: &str = "synddb_validator_commits_total";
const ROW_BYTES: &str = "synddb_validator_row_bytes_total";
const AUDITS: &str = "synddb_validator_audits_total";
const SCANS_MISSED: &str = "synddb_validator_scans_missed_total";
const APPLY: &str = "synddb_validator_apply_seconds";
const WAL: &str = "synddb_validator_wal_bytes";
const DOOR_CLOSED: &str = "synddb_validator_door_closed_total";
const STARTED_FROM: &str = "synddb_validator_started_from_sequence";
const SNAPSHOTS: &str = "synddb_validator_snapshots_taken_total";
const SNAPSHOT_SEQUENCE: &str = "synddb_validator_snapshot_sequence";
const SNAPSHOT_BYTES: &str = "synddb_validator_snapshot_bytes_total";
const SNAPSHOT_FAILURES: &str = "synddb_validator_snapshot_failures_total";
const VIOLATIONS: &str = "synddb_validator_violations_total";
const VIOLATIONS_OPEN: &str = "synddb_validator_violations_open";
const ENDORSED: &str = "synddb_validator_endorsed_sequence";
const ENDORSE_FAILURES: &str = "synddb_validator_endorse_failures_total";
const INBOUND_COMPARED: &str = "synddb_validator_inbound_compared_nonce";
const INBOUND_FORGED: &str = "synddb_validator_inbound_forged";
const INBOUND_LOOKS_FAILED: &str = "synddb_validator_inbound_looks_failed_total";
const OUTBOUND_HELD: &str = "synddb_validator_outbound_held";
const OUTBOUND_SIGNED: &str = "synddb_validator_outbound_signed_nonce";
const OUTBOUND_REFUSED: &str = "synddb_validator_outbound_refused_total";
const FEED_READERS: &str = "synddb_validator_changes_readers";
const FEED_DROPPED: &str = "synddb_validator_changes_readers_dropped_total";
const KEYS_REFUSED: &str = "synddb_validator_keys_file_refused";

/// Says what is counted, and begins to count what may never happen.
pub(crate) fn describe(stream: StreamId) {
    describe_gauge!(STORED, "The last place that anybody said is in the store.");
    describe_gauge!(APPLIED, "Everything up to this place is committed in the replica.");
    describe_gauge!(APPLIED_COMMIT, "The last commit of its incarnation that is committed in the replica.");
    describe_gauge!(HALTED, "1 when the replica stopped for good, by the kind of halt; 0 before.");
    describe_counter!(MESSAGES, "Messages that were verified and applied.");
    describe_counter!(COMMITS, "Commits that were applied.");
    describe_counter!(ROW_BYTES, "Bytes of rows that were applied.");
    describe_counter!(AUDITS, "Full scans of the replica that were compared with what it should be.");
    describe_counter!(
        SCANS_MISSED,
        "Scans of the application's database that found another state than was captured."
    );
    describe_histogram!(APPLY, "Time in which one batch was applied, without its commit.");
    describe_gauge!(WAL, "Bytes of the replica's WAL after the last commit.");
    describe_counter!(
        DOOR_CLOSED,
        "How often queries were kept out for a moment, so that the WAL could begin anew."
    );
    describe_gauge!(
        KEYS_REFUSED,
        "1 while the file of keys cannot be read, and what was read before is used."
    );
    describe_gauge!(
        STARTED_FROM,
        "The last message of the snapshot that the replica began with, while nobody has checked the log before it in full; 0 otherwise."
    );
    describe_counter!(SNAPSHOTS, "Snapshots of the replica that were stored.");
    describe_gauge!(SNAPSHOT_SEQUENCE, "The last message in the last snapshot that was stored.");
    describe_counter!(SNAPSHOT_BYTES, "Bytes of new chunks that were stored for snapshots.");
    describe_counter!(SNAPSHOT_FAILURES, "Tries to take or store a snapshot that failed.");
    describe_counter!(VIOLATIONS, "Times that a commit or a snapshot violated a rule, by the rule.");
    describe_gauge!(
        VIOLATIONS_OPEN,
        "Violations that nobody has resolved: while there is one, nothing behind it is endorsed."
    );
    describe_gauge!(
        ENDORSED,
        "The last message whose checkpoint this validator has endorsed, as far as this process knows."
    );
    describe_counter!(ENDORSE_FAILURES, "Tries to endorse a checkpoint that failed.");
    describe_gauge!(
        INBOUND_COMPARED,
        "Every inbound message up to this one is in the log what it is on the chain, as far as this process has compared."
    );
    describe_gauge!(
        INBOUND_FORGED,
        "1 when the log has another inbound message than the chain under the same nonce: nothing from there on is endorsed. One that the chain has not yet is no such."
    );
    describe_counter!(
        INBOUND_LOOKS_FAILED,
        "Looks at what the bridge sent that failed: a node does not tell, or nodes do not agree."
    );
    describe_gauge!(
        OUTBOUND_HELD,
        "1 while no outbound message is signed, though a checkpoint is endorsed that covers some: the application or the log is too late with inbound messages."
    );
    describe_gauge!(
        OUTBOUND_SIGNED,
        "The highest id of an outbound message that this validator has signed, as far as this process knows."
    );
    describe_counter!(OUTBOUND_REFUSED, "Outbound messages that this process looked at and never signs.");
    describe_gauge!(FEED_READERS, "Readers of the row changes that are connected.");
    describe_counter!(FEED_DROPPED, "Readers of the row changes that took nothing for too long.");
    gauge!(FEED_READERS).set(0.0);
    counter!(FEED_DROPPED).increment(0);
    let label = label(stream);
    for counted in [SNAPSHOTS, SNAPSHOT_BYTES, SNAPSHOT_FAILURES, ENDORSE_FAILURES, OUTBOUND_REFUSED] {
        counter!(counted, &label).increment(0);
    }
    counter!(INBOUND_LOOKS_FAILED, &label).increment(0);
    for measured in [INBOUND_COMPARED, INBOUND_FORGED, OUTBOUND_HELD] {
        gauge!(measured, &label).set(0.0);
    }
    for measured in [STARTED_FROM, SNAPSHOT_SEQUENCE, VIOLATIONS_OPEN, ENDORSED] {
        gauge!(measured, &label).set(0.0);
    }
    for counted in [MESSAGES, COMMITS, ROW_BYTES, AUDITS, SCANS_MISSED, DOOR_CLOSED] {
        counter!(counted, &label).increment(0);
    }
    for measured in [STORED, APPLIED, APPLIED_COMMIT, WAL] {
        gauge!(measured, &label).set(0.0);
    }
    for kind in HALTS {
        gauge!(HALTED, "stream" => stream.to_key(), "kind" => name(kind)).set(0.0);
    }
    gauge!(KEYS_REFUSED).set(0.0);
}

const HALTS: [HaltKind; 4] =
    [HaltKind::Divergence, HaltKind::Refused, HaltKind::Revoked, HaltKind::UpgradeRequired];

const fn name(kind: HaltKind) -> &'static str {
    match kind {
        HaltKind::Divergence => "divergence",
        HaltKind::Refused => "refused",
        HaltKind::Revoked => "revoked",
        HaltKind::UpgradeRequired => "upgrade_required",
    }
}

fn label(stream: StreamId) -> [(&'static str, String); 1] {
    [("stream", stream.to_key())]
}

/// The replica stands here.
pub(crate) fn stands(stream: StreamId, standing: Standing) {
    gauge!(APPLIED, &label(stream)).set(number(standing.sequence.get()));
    gauge!(APPLIED_COMMIT, &label(stream)).set(number(standing.next.commit.get() - 1));
}

/// The log is stored up to here, as somebody says.
pub(crate) fn stored(stream: StreamId, through: Option<Sequence>) {
    gauge!(STORED, &label(stream)).set(number(through.map_or(0, Sequence::get)));
}

/// It stopped for good.
pub(crate) fn halted(stream: StreamId, kind: HaltKind) {
    gauge!(HALTED, "stream" => stream.to_key(), "kind" => name(kind)).set(1.0);
}

/// A batch was applied.
pub(crate) fn applied(stream: StreamId, messages: usize, applied: Applied, took: Duration) {
    counter!(MESSAGES, &label(stream)).increment(messages as u64);
    counter!(COMMITS, &label(stream)).increment(applied.commits);
    counter!(ROW_BYTES, &label(stream)).increment(applied.row_bytes);
    histogram!(APPLY, &label(stream)).record(took.as_secs_f64());
}

/// The replica was scanned in full.
pub(crate) fn audited(stream: StreamId) {
    counter!(AUDITS, &label(stream)).increment(1);
}

/// A rule was violated.
pub(crate) fn violated(stream: StreamId, rule: &str) {
    counter!(VIOLATIONS, "stream" => stream.to_key(), "rule" => rule.to_owned()).increment(1);
}

/// So many violations are open.
pub(crate) fn violations_open(stream: StreamId, open: u64) {
    gauge!(VIOLATIONS_OPEN, &label(stream)).set(number(open));
}

/// A checkpoint is endorsed.
pub(crate) fn endorsed(stream: StreamId, sequence: Sequence) {
    gauge!(ENDORSED, &label(stream)).set(number(sequence.get()));
}

/// A checkpoint is not endorsed.
pub(crate) fn endorse_failed(stream: StreamId) {
    counter!(ENDORSE_FAILURES, &label(stream)).increment(1);
}

/// So many inbound messages are in the log what they are on the chain.
pub(crate) fn inbound_compared(stream: StreamId, through: u64) {
    gauge!(INBOUND_COMPARED, &label(stream)).set(number(through));
}

/// The log has an inbound message that the chain has not so.
pub(crate) fn inbound_forged(stream: StreamId) {
    gauge!(INBOUND_FORGED, &label(stream)).set(1.0);
}

/// The nodes do not tell what the bridge sent.
pub(crate) fn inbound_look_failed(stream: StreamId) {
    counter!(INBOUND_LOOKS_FAILED, &label(stream)).increment(1);
}

/// Whether outbound messages wait.
pub(crate) fn outbound_held(stream: StreamId, is_held: bool) {
    gauge!(OUTBOUND_HELD, &label(stream)).set(f64::from(u8::from(is_held)));
}

/// An outbound message is signed.
pub(crate) fn outbound_signed(stream: StreamId, nonce: u64) {
    gauge!(OUTBOUND_SIGNED, &label(stream)).set(number(nonce));
}

/// An outbound message is never signed.
pub(crate) fn outbound_refused(stream: StreamId) {
    counter!(OUTBOUND_REFUSED, &label(stream)).increment(1);
}

/// How large the replica's WAL is.
pub(crate) fn wal(stream: StreamId, bytes: u64) {
    gauge!(WAL, &label(stream)).set(number(bytes));
}

/// Queries are kept out for a moment.
pub(crate) fn door_closed(stream: StreamId) {
    counter!(DOOR_CLOSED, &label(stream)).increment(1);
}

/// A full scan of the application's database found another state than was captured.
pub(crate) fn scan_missed(stream: StreamId) {
    counter!(SCANS_MISSED, &label(stream)).increment(1);
}

/// What the replica began with.
pub(crate) fn started_from(stream: StreamId, sequence: Option<Sequence>) {
    gauge!(STARTED_FROM, &label(stream)).set(number(sequence.map_or(0, Sequence::get)));
}

/// A snapshot is stored, with so many bytes of chunks that were not there.
pub(crate) fn snapshot_taken(stream: StreamId, sequence: Sequence, bytes: u64) {
    counter!(SNAPSHOTS, &label(stream)).increment(1);
    counter!(SNAPSHOT_BYTES, &label(stream)).increment(bytes);
    gauge!(SNAPSHOT_SEQUENCE, &label(stream)).set(number(sequence.get()));
}

/// A try to take or store a snapshot failed.
pub(crate) fn snapshot_failed(stream: StreamId) {
    counter!(SNAPSHOT_FAILURES, &label(stream)).increment(1);
}

/// One reader of the row changes more, or one less.
pub(crate) fn feed_readers(more: f64) {
    gauge!(FEED_READERS).increment(more);
}

/// A reader of the row changes took nothing for too long.
pub(crate) fn feed_reader_dropped() {
    counter!(FEED_DROPPED).increment(1);
}

/// Whether the file of keys cannot be read.
pub(crate) fn keys_file_refused(is_refused: bool) {
    gauge!(KEYS_REFUSED).set(f64::from(u8::from(is_refused)));
}

#[expect(clippy::cast_precision_loss, reason = "sequences and commits stay below 2^53")]
const fn number(value: u64) -> f64 {
    value as f64
}
