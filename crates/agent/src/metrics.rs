//! The names of what is measured. Lag is a subtraction: `captured_commit - stored_commit`.
//!
//! All commits are numbers of the running incarnation: 0 when the sequencer or the store has none of it.

use ::metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};
use synddb_protocol::http::Position;
use synddb_protocol::id::StreamId;

use crate::status::{AgentStatus, ProblemKind, Statistics};

const CAPTURED: &str = "synddb_agent_captured_commit";
const SEQUENCED: &str = "synddb_agent_sequenced_commit";
const STORED: &str = "synddb_agent_stored_commit";
const INCARNATION: &str = "synddb_agent_incarnation";
const COMMITS: &str = "synddb_agent_commits_total";
const ROWS: &str = "synddb_agent_rows_total";
const PENDING_SUBMISSIONS: &str = "synddb_agent_pending_submissions";
const PENDING_BYTES: &str = "synddb_agent_pending_bytes";
const UNKEPT: &str = "synddb_agent_promises_unkept";
const EVIDENCE: &str = "synddb_agent_evidence";
const WAL_BYTES: &str = "synddb_agent_wal_bytes";
const WAL_RESETS: &str = "synddb_agent_wal_resets_total";
const UNSUMMED: &str = "synddb_agent_unsummed_frames";
const PROBLEM: &str = "synddb_agent_problem";

/// Says what is measured, and that there is no problem yet.
pub(crate) fn describe(stream: StreamId) {
    describe_gauge!(CAPTURED, "The last commit of the running incarnation that is durable in the outbox.");
    describe_gauge!(
        SEQUENCED,
        "The last commit of the running incarnation that a sequencer has promised a place."
    );
    describe_gauge!(STORED, "The last commit of the running incarnation that was seen in the store.");
    describe_gauge!(INCARNATION, "The running incarnation; its commits are numbered from 1.");
    describe_counter!(COMMITS, "Commits that were captured.");
    describe_counter!(ROWS, "Row changes that were captured.");
    describe_gauge!(PENDING_SUBMISSIONS, "Submissions that were not seen stored yet.");
    describe_gauge!(PENDING_BYTES, "Bytes of submissions that were not seen stored yet.");
    describe_gauge!(UNKEPT, "Receipts in whose place another message stands.");
    describe_gauge!(
        EVIDENCE,
        "Files of evidence in the agent's folder; above 0 somebody should look at them."
    );
    describe_gauge!(WAL_BYTES, "Size of the application's WAL when it was last looked at, in bytes.");
    describe_counter!(WAL_RESETS, "How often the application's WAL began anew.");
    describe_gauge!(
        UNSUMMED,
        "Frames of the WAL that a power cut would lose; above 0 the application's SQLite must be updated."
    );
    describe_gauge!(PROBLEM, "1 while this kind of problem keeps the agent from its work.");
    for kind in ProblemKind::ALL {
        problem(stream, kind).set(0.0);
    }
}

fn problem(stream: StreamId, kind: ProblemKind) -> Gauge {
    gauge!(PROBLEM, "stream" => stream.to_key(), "kind" => kind.name())
}

/// A problem of this kind came, or is over.
pub(crate) fn has_problem(stream: StreamId, kind: ProblemKind, is_there: bool) {
    problem(stream, kind).set(f64::from(u8::from(is_there)));
}

/// Shows a status. `before` is what was seen before it.
pub(crate) fn note(status: &AgentStatus, before: &Statistics) {
    let running = status.next.map(|next| next.incarnation);
    let of = |position: &Option<Position>| {
        let position = position.filter(|position| Some(position.incarnation) == running);
        position.map_or(0, |position| position.commit.get() - 1)
    };
    let label = [("stream", status.stream.to_key())];
    for (name, value) in [
        (CAPTURED, of(&status.next)),
        (SEQUENCED, of(&status.sequenced_next)),
        (STORED, of(&status.stored_next)),
        (INCARNATION, running.map_or(0, |running| running.counter.get())),
        (PENDING_SUBMISSIONS, status.pending.submissions),
        (PENDING_BYTES, status.pending.bytes),
        (UNKEPT, status.promises.unkept),
        (EVIDENCE, status.promises.evidence),
        (WAL_BYTES, status.wal_bytes),
        (UNSUMMED, status.statistics.unsummed_frames),
    ] {
        gauge!(name, &label).set(number(value));
    }
    let seen = &status.statistics;
    for (name, seen, before) in [
        (COMMITS, seen.commits, before.commits),
        (ROWS, seen.rows, before.rows),
        (WAL_RESETS, seen.wal_resets, before.wal_resets),
    ] {
        // They are counted anew with each attachment.
        counter!(name, &label).increment(seen.checked_sub(before).unwrap_or(seen));
    }
}

#[expect(clippy::cast_precision_loss, reason = "commits, submissions and bytes on one disk stay below 2^53")]
const fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce, StreamId};

    use super::*;
    use crate::status::{Board, Pending};

    #[test]
    fn what_is_noted_on_the_board_is_measured() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let at = |counter, commit| Position {
            incarnation: Incarnation {
                counter: IncarnationCounter::new(counter).unwrap(),
                nonce: IncarnationNonce::from_bytes([1; 16]),
            },
            commit: CommitNumber::new(commit).unwrap(),
            part: None,
        };
        ::metrics::with_local_recorder(&recorder, || {
            let board = Board::new(StreamId::from_bytes([1; 32]));
            board.note(|status| {
                (status.next, status.sequenced_next) = (Some(at(2, 8)), Some(at(2, 5)));
                // Of the incarnation before.
                status.stored_next = Some(at(1, 90));
                status.pending = Pending { submissions: 3, bytes: 4000 };
                (status.wal_bytes, status.statistics.wal_resets) = (4096, 5);
                status.statistics.unsummed_frames = 6;
                status.statistics.commits = 9;
                (status.promises.unkept, status.promises.evidence) = (8, 1);
            });
            // Attached again.
            board.note(|status| status.statistics.wal_resets = 0);
            board.note(|status| status.statistics.wal_resets = 2);
        });
        let text = recorder.handle().render();
        for line in [
            "synddb_agent_captured_commit 7",
            "synddb_agent_sequenced_commit 4",
            "synddb_agent_stored_commit 0",
            "synddb_agent_pending_submissions 3",
            "synddb_agent_pending_bytes 4000",
            "synddb_agent_wal_bytes 4096",
            "synddb_agent_unsummed_frames 6",
            "synddb_agent_promises_unkept 8",
            "synddb_agent_evidence 1",
            "synddb_agent_wal_resets_total 7",
            "synddb_agent_commits_total 9",
            "synddb_agent_incarnation 2",
        ] {
            let (name, value) = line.split_once(' ').unwrap();
            let line = format!("{name}{{stream=\"{}\"}} {value}", StreamId::from_bytes([1; 32]).to_key());
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
