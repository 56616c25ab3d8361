//! The names of what is measured. Lag is a subtraction: `captured_commit - stored_commit`.
//!
//! All commits are numbers of the running incarnation: 0 when the sequencer or the store has none of it.

use ::metrics::{counter, gauge};
use synddb_protocol::http::Position;

use crate::status::AgentStatus;

/// Shows a status. `wal_resets` is how many there were before.
pub(crate) fn note(status: &AgentStatus, wal_resets: u64) {
    let of = |position: &Option<Position>| {
        let running = status.next.map(|next| next.incarnation);
        let position = position.filter(|position| Some(position.incarnation) == running);
        position.map_or(0, |position| position.commit.get() - 1)
    };
    gauge!("synddb_agent_captured_commit").set(number(of(&status.next)));
    gauge!("synddb_agent_sequenced_commit").set(number(of(&status.sequenced_next)));
    gauge!("synddb_agent_stored_commit").set(number(of(&status.stored_next)));
    gauge!("synddb_agent_pending_submissions").set(number(status.pending.submissions));
    gauge!("synddb_agent_pending_bytes").set(number(status.pending.bytes));
    gauge!("synddb_agent_promises_unkept").set(number(status.promises.unkept));
    // Above 0 it says that somebody should look at the agent's folder.
    gauge!("synddb_agent_evidence").set(number(status.promises.evidence));
    gauge!("synddb_agent_wal_bytes").set(number(status.wal_bytes));
    // Above 0 it says that the application's SQLite can lose what it acknowledged.
    gauge!("synddb_agent_unsummed_frames").set(number(status.statistics.unsummed_frames));
    let seen = status.statistics.wal_resets;
    // They are counted anew with each attachment.
    counter!("synddb_agent_wal_resets_total").increment(seen.checked_sub(wal_resets).unwrap_or(seen));
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
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
