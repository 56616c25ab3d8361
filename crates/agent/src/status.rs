//! What an agent says of itself: for whoever asks, and for the threads that wait for one another.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use synddb_protocol::hash::StateHash;
use synddb_protocol::http::Position;
use synddb_protocol::id::StreamId;
use synddb_sqlite::capture;

use crate::metrics;

/// What an agent says of itself. Each position is what comes next: everything before it has come so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AgentStatus {
    /// The stream.
    pub stream: StreamId,
    /// What is captured next. `None` until the database is attached.
    pub next: Option<Position>,
    /// What the sequencer is sent next. It may go back: a receipt is provisional until its sequence is stored.
    pub sequenced_next: Option<Position>,
    /// Up to where the store is known to have everything.
    pub stored_next: Option<Position>,
    /// The state hash of what was captured.
    pub state: Option<StateHash>,
    /// The URL of the sequencer that is spoken to.
    #[serde(default)]
    pub sequencer: String,
    /// What was captured and not yet seen stored, in the running incarnation.
    pub pending: Pending,
    /// The size of the application's WAL when it was last looked at, in bytes of frames.
    pub wal_bytes: u64,
    /// What was seen since the database was attached.
    pub statistics: Statistics,
    /// What became of what the sequencers promised, since the agent was started.
    #[serde(default)]
    pub promises: Promises,
    /// What keeps the agent from doing its work, if something does.
    pub problem: Option<Problem>,
}

/// How much an outbox holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pending {
    /// Submissions.
    pub submissions: u64,
    /// Their bodies, in bytes.
    pub bytes: u64,
}

/// What became of what the sequencers promised, in receipts. `got` is the sum of the three below it and of those that wait to be stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Promises {
    /// Whether the stored log was checked up to the newest checkpoint.
    pub check: PromiseCheck,
    /// Receipts.
    pub got: u64,
    /// Those whose message stands in the stored log where they said.
    pub kept: u64,
    /// Those in whose place another message stands. A leader that was deposed may leave some: what it promised is sent again.
    pub unkept: u64,
    /// Those that could not be checked: the sequencer does not show its leaves, or too many waited.
    pub unchecked: u64,
    /// Files of evidence in the agent's folder.
    pub evidence: u64,
}

/// Whether the stored log was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PromiseCheck {
    /// Nothing was seen stored yet.
    #[default]
    Pending,
    /// It goes on from the checkpoint before, and every promise up to there was looked for.
    Checked,
    /// It was not: the sequencer does not show the leaves of its log, or did not when asked last.
    Unchecked,
}

/// What was seen since the database was attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Statistics {
    /// Commits captured.
    pub commits: u64,
    /// Row changes captured.
    pub rows: u64,
    /// How often the WAL began anew.
    pub wal_resets: u64,
    /// Largest WAL seen, in bytes of frames.
    pub wal_bytes_max: u64,
    /// How often the write lock was taken.
    pub write_locks: u64,
    /// How long it was held altogether, in microseconds: the application could read then, and not write.
    #[serde(default)]
    pub write_locked_us: u64,
    /// The longest time.
    #[serde(default)]
    pub write_locked_us_max: u64,
    /// Frames of the WAL that the application's SQLite committed and that a power cut would lose: update it to 3.50.2 or later.
    #[serde(default)]
    pub unsummed_frames: u64,
}

impl From<capture::Statistics> for Statistics {
    fn from(seen: capture::Statistics) -> Self {
        let capture::Statistics {
            commits,
            rows,
            wal_resets,
            wal_bytes_max,
            write_locks,
            write_locked_us,
            write_locked_us_max,
            unsummed_frames,
        } = seen;
        Self {
            commits,
            rows,
            wal_resets,
            wal_bytes_max,
            write_locks,
            write_locked_us,
            write_locked_us_max,
            unsummed_frames,
        }
    }
}

/// What keeps the agent from doing its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = AgentProblem))]
pub struct Problem {
    /// What kind it is: what a program branches on.
    pub kind: ProblemKind,
    /// What happened, with its values.
    pub detail: String,
    /// What to do.
    pub fix: String,
}

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", schema(as = AgentProblemKind))]
pub enum ProblemKind {
    /// The sequencer's key signed two things for one place, which is proven. Nothing is sent to it any more; a file of evidence is kept.
    Equivocation,
    /// The stored log does not go on from what was seen of it before. Nothing is forgotten by it; it is looked at again, slowly.
    Inconsistent,
    /// Nothing can be sent: the log has other content than the outbox, or lacks what the outbox no longer holds. Capture goes on. What only
    /// a refusal says is tried again slowly; what a signed checkpoint shows ends the sending.
    ShippingStopped,
    /// The database cannot be captured now; it is tried again.
    NotCapturing,
    /// The outbox is full; the application's WAL grows until something of it is stored.
    OutboxFull,
    /// The sequencer does not take the token.
    Unauthorized,
    /// What answers is not the sequencer with the key that is pinned, by configuration or since the first receipt.
    Untrusted,
    /// The sequencer refuses in a way that does not pass by itself.
    Refused,
    /// The sequencer cannot be reached, or does not answer as one.
    Unreachable,
    /// The sequencer takes nothing at the moment.
    Busy,
}

impl ProblemKind {
    /// Every kind.
    pub(crate) const ALL: [Self; 10] = [
        Self::Equivocation,
        Self::Inconsistent,
        Self::ShippingStopped,
        Self::NotCapturing,
        Self::OutboxFull,
        Self::Unauthorized,
        Self::Untrusted,
        Self::Refused,
        Self::Unreachable,
        Self::Busy,
    ];

    /// Its name, as JSON has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Equivocation => "equivocation",
            Self::Inconsistent => "inconsistent",
            Self::ShippingStopped => "shipping_stopped",
            Self::NotCapturing => "not_capturing",
            Self::OutboxFull => "outbox_full",
            Self::Unauthorized => "unauthorized",
            Self::Untrusted => "untrusted",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
        }
    }

    /// Whether nothing is sent any more, so that nobody need wait for it.
    const fn ends_sending(self) -> bool {
        matches!(self, Self::ShippingStopped | Self::Equivocation)
    }
}

/// Whether everything up to a position in the WAL was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "captured", rename_all = "snake_case")]
pub enum Captured {
    /// It was.
    Yes {
        /// What comes next in the stream then.
        next: Position,
        /// The state hash of the database at `next`.
        state: StateHash,
    },
    /// Something of it was not.
    NotYet,
    /// The position belongs to a generation of the WAL that the agent has not seen; take a newer one.
    Unknown,
}

/// Whether something has come up to `wanted`.
pub(crate) fn reaches(found: Option<&Position>, wanted: &Position) -> bool {
    found.is_some_and(|found| found.reaches(wanted))
}

/// Who tells of a problem. Each tells of its own, and takes its own back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Teller {
    Capture,
    Shipper,
    Watcher,
}

/// The status, shared by all threads of an agent.
pub(crate) struct Board {
    entries: Mutex<Entries>,
    changed: Condvar,
}

/// What one teller has told.
#[derive(Default)]
struct Trouble {
    /// What is wrong now.
    problem: Option<Problem>,
    /// The kinds that were told since nothing was wrong: several sequencers that fail in different ways take turns, and are no news each time.
    told: BTreeSet<ProblemKind>,
}

struct Entries {
    status: AgentStatus,
    troubles: [Trouble; 3],
    has_ended: bool,
}

impl Board {
    pub(crate) fn new(stream: StreamId) -> Self {
        metrics::describe(stream);
        let status = AgentStatus {
            stream,
            next: None,
            sequenced_next: None,
            stored_next: None,
            state: None,
            sequencer: String::new(),
            pending: Pending::default(),
            wal_bytes: 0,
            statistics: Statistics::default(),
            promises: Promises::default(),
            problem: None,
        };
        let entries = Entries { status, troubles: Default::default(), has_ended: false };
        Self { entries: Mutex::new(entries), changed: Condvar::new() }
    }

    /// The status, with the worst problem.
    pub(crate) fn status(&self) -> AgentStatus {
        self.entries().told()
    }

    /// What the sequencer is sent next, as the status says it.
    pub(crate) fn sequenced_next(&self) -> Option<Position> {
        self.entries().status.sequenced_next
    }

    /// Changes the status.
    pub(crate) fn note(&self, change: impl FnOnce(&mut AgentStatus)) {
        let mut entries = self.entries();
        let before = entries.status.statistics;
        change(&mut entries.status);
        metrics::note(&entries.status, &before);
        drop(entries);
        self.changed.notify_all();
    }

    /// Tells of a problem, or that there is none any more; says whether that is news. A problem is when none of its kind was told since there
    /// was none.
    pub(crate) fn tell(&self, teller: Teller, problem: Option<Problem>) -> bool {
        let mut entries = self.entries();
        let trouble = &mut entries.troubles[teller as usize];
        let is_news = match &problem {
            Some(problem) => trouble.told.insert(problem.kind),
            None => trouble.problem.is_some(),
        };
        if problem.is_none() {
            trouble.told.clear();
        }
        let stream = entries.status.stream;
        let trouble = &mut entries.troubles[teller as usize];
        let over = trouble.problem.take();
        trouble.problem = problem;
        for kind in over.iter().chain(&entries.troubles[teller as usize].problem).map(|problem| problem.kind)
        {
            let is_there = entries
                .troubles
                .iter()
                .filter_map(|trouble| trouble.problem.as_ref())
                .any(|there| there.kind == kind);
            metrics::has_problem(stream, kind, is_there);
        }
        drop(entries);
        self.changed.notify_all();
        is_news
    }

    /// The agent has ended: nothing changes any more.
    pub(crate) fn end(&self) {
        self.entries().has_ended = true;
        self.changed.notify_all();
    }

    /// Waits until the status is as wanted, the agent ended, sending has stopped, or the time is up. Returns the last status, and whether it
    /// is as wanted.
    pub(crate) fn wait(
        &self,
        deadline: Instant,
        wanted: impl Fn(&AgentStatus) -> bool,
    ) -> (AgentStatus, bool) {
        let mut entries = self.entries();
        loop {
            let status = entries.told();
            let has_stopped = status.problem.as_ref().is_some_and(|problem| problem.kind.ends_sending());
            let left = deadline.saturating_duration_since(Instant::now());
            if wanted(&status) {
                return (status, true);
            }
            if entries.has_ended || has_stopped || left.is_zero() {
                return (status, false);
            }
            entries = self.changed.wait_timeout(entries, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A status is whole after every change, so one that panicked elsewhere leaves it readable.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn told(&self) -> AgentStatus {
        let worst = self
            .troubles
            .iter()
            .filter_map(|trouble| trouble.problem.as_ref())
            .min_by_key(|problem| problem.kind);
        AgentStatus { problem: worst.cloned(), ..self.status.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: ProblemKind) -> Problem {
        Problem { kind, detail: String::new(), fix: String::new() }
    }

    #[test]
    fn a_kind_is_called_in_metrics_as_in_json() {
        for kind in ProblemKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn what_takes_turns_is_told_once_until_nothing_is_wrong() {
        let board = Board::new(StreamId::from_bytes([1; 32]));
        let tell = |problem| board.tell(Teller::Shipper, problem);
        for turn in 0..10 {
            for kind in [ProblemKind::Unreachable, ProblemKind::Busy] {
                assert_eq!(tell(Some(problem(kind))), turn == 0, "{kind:?}");
                assert_eq!(board.status().problem, Some(problem(kind)), "the newest is shown");
            }
        }
        assert!(tell(Some(problem(ProblemKind::Untrusted))), "another kind is news");
        assert!(board.tell(Teller::Capture, Some(problem(ProblemKind::Busy))), "another teller's is news");
        assert!(tell(None), "that it is over is news");
        assert!(!tell(None), "and is once");
        assert!(tell(Some(problem(ProblemKind::Busy))), "after that it is news again");
    }
}
