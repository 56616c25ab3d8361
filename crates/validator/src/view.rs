//! What others may know of the replica while it changes: one value that its owner replaces and everybody else reads.

use std::sync::Arc;

use synddb_protocol::hash::StateHash;
use synddb_protocol::http::{
    Endorsing, Gap, Halt, HaltKind, Position, ReplicaStatus, SnapshotsTaken, StartedFrom,
};
use synddb_protocol::id::{Sequence, StreamId, Timestamp};
use synddb_protocol::log::Checkpoint;
use tokio::sync::watch;

use crate::metrics;
use crate::replica::Gaps;

/// Where the replica stands: what is committed in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) sequence: Sequence,
    pub(crate) next: Position,
    pub(crate) state: StateHash,
    pub(crate) timestamp: Timestamp,
}

impl Standing {
    /// What a checkpoint says of a replica that stands at it. `None` before the first snapshot.
    pub(crate) fn at(claim: &Checkpoint) -> Option<Self> {
        let client = claim.client.as_ref()?;
        let next = Position::expected(client);
        Some(Self { sequence: claim.size, next, state: client.state, timestamp: claim.timestamp })
    }
}

/// What is known.
#[derive(Debug, Clone, Default)]
struct Known {
    standing: Option<Standing>,
    /// Where its position says that it stands, also where nothing of it is shown.
    stood: Option<Standing>,
    gaps: Vec<Gap>,
    /// What the replica began with, while nobody has checked what came before.
    started_from: Option<StartedFrom>,
    snapshots: Option<SnapshotsTaken>,
    endorsing: Option<Endorsing>,
    /// Violations that nobody has resolved; `None` where no rule looks.
    refused: Option<u64>,
    /// The last sequence that anybody said is stored.
    stored: Option<Sequence>,
    halted: Option<Halt>,
    /// Whether also what the file holds is shown to nobody.
    is_hidden: bool,
    /// Whether the file was looked at since the start, or it is known that there will be nothing to look at.
    is_known: bool,
}

/// That the replica has halted, so that it will never stand there.
#[derive(Debug)]
pub(crate) struct NotThere;

/// The shared view. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct View {
    stream: StreamId,
    /// Whether metrics tell of it.
    is_counted: bool,
    known: Arc<watch::Sender<Known>>,
}

impl View {
    pub(crate) fn new(stream: StreamId) -> Self {
        Self { stream, is_counted: true, known: Arc::new(watch::Sender::new(Known::default())) }
    }

    /// The stream that is followed.
    pub(crate) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Of a replica that is not the one of this process.
    pub(crate) fn aside(stream: StreamId) -> Self {
        Self { is_counted: false, ..Self::new(stream) }
    }

    /// The replica's position says that it stands here. Whether it does is not known yet.
    pub(crate) fn stood(&self, standing: Option<Standing>) {
        self.known.send_modify(|known| known.stood = standing);
    }

    /// What the replica lacks.
    pub(crate) fn lacks(&self, gaps: &Gaps) {
        self.known.send_modify(|known| known.gaps = gaps.told());
    }

    /// What the replica began with, if nobody has checked what came before.
    pub(crate) fn started(&self, from: Option<StartedFrom>) {
        if self.is_counted {
            metrics::started_from(self.stream, from.as_ref().map(|from| from.sequence));
        }
        self.known.send_modify(|known| known.started_from = from);
    }

    /// What is stored of snapshots.
    pub(crate) fn takes_snapshots(&self, taken: SnapshotsTaken) {
        self.known.send_modify(|known| known.snapshots = Some(taken));
    }

    /// How far it endorses.
    pub(crate) fn endorses(&self, endorsing: Endorsing) {
        self.known.send_modify(|known| known.endorsing = Some(endorsing));
    }

    /// So many violations are open.
    pub(crate) fn refuses(&self, open: u64) {
        if self.is_counted {
            metrics::violations_open(self.stream, open);
        }
        self.known.send_modify(|known| known.refused = Some(open));
    }

    /// Where a snapshot can be taken: the replica stands there, nothing is known against it, and it lacks nothing that is waited for.
    pub(crate) fn is_whole_at(&self) -> Option<Sequence> {
        let known = self.known.borrow();
        let waits =
            known.is_hidden || known.halted.is_some() || known.gaps.iter().any(|gap| gap.to.is_none());
        known.standing.filter(|_| !waits).map(|standing| standing.sequence)
    }

    /// The replica stands here now.
    pub(crate) fn stands(&self, standing: Standing) {
        if self.is_counted {
            metrics::stands(self.stream, standing);
        }
        self.known.send_modify(|known| {
            known.standing = Some(standing);
            known.stood = Some(standing);
            (known.is_hidden, known.is_known) = (false, true);
            known.stored = known.stored.max(Some(standing.sequence));
            if self.is_counted {
                metrics::stored(self.stream, known.stored);
            }
        });
    }

    /// The file is not what it was: nothing of it is shown any more.
    pub(crate) fn distrust(&self) {
        self.known.send_modify(|known| (known.standing, known.is_known) = (None, true));
    }

    /// What the file holds is not believed any more: nobody is shown it, not even as what somebody made of it.
    pub(crate) fn hide(&self) {
        self.known.send_modify(|known| {
            known.standing = None;
            (known.is_hidden, known.is_known) = (true, true);
        });
    }

    /// Whether what the file holds is shown to nobody.
    pub(crate) fn is_hidden(&self) -> bool {
        self.known.borrow().is_hidden
    }

    /// Whether what the file holds may be shown, and what was made of it.
    pub(crate) fn is_shown(&self) -> bool {
        let known = self.known.borrow();
        known.standing.is_some() && !known.is_hidden
    }

    /// Whether it is known that nothing may be shown. Before the scan after a start, nobody knows.
    pub(crate) fn is_withheld(&self) -> bool {
        let known = self.known.borrow();
        known.is_known && (known.standing.is_none() || known.is_hidden)
    }

    /// Waits until the file was looked at after the start.
    pub(crate) async fn looked_at(&self) {
        // It is alive while this is.
        self.known.subscribe().wait_for(|known| known.is_known).await.ok();
    }

    /// Somebody says that the log is stored up to here.
    pub(crate) fn stored(&self, through: Sequence) {
        self.known.send_if_modified(|known| {
            let more = known.stored < Some(through);
            known.stored = known.stored.max(Some(through));
            if self.is_counted {
                metrics::stored(self.stream, known.stored);
            }
            more
        });
    }

    /// It stopped for good.
    pub(crate) fn halted(&self, halt: Halt) {
        if self.is_counted {
            metrics::halted(self.stream, halt.kind);
        }
        self.known.send_modify(|known| {
            known.is_hidden |= halt.kind == HaltKind::Revoked;
            (known.halted, known.is_known) = (Some(halt), true);
        });
    }

    /// Where the replica stands.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.known.borrow().standing
    }

    /// Waits until the replica stands at something that fits, which it may do already.
    pub(crate) async fn holds(&self, fits: impl Fn(&Standing) -> bool) -> Result<(), NotThere> {
        let fits = |known: &Known| known.standing.as_ref().is_some_and(&fits);
        let mut changes = self.known.subscribe();
        let known = changes.wait_for(|known| fits(known) || known.halted.is_some()).await;
        if known.is_ok_and(|known| fits(&known)) { Ok(()) } else { Err(NotThere) }
    }

    /// Where its position says that it stands.
    pub(crate) fn position(&self) -> Option<Standing> {
        self.known.borrow().stood
    }

    /// What `GET /status` answers.
    pub(crate) fn status(&self) -> ReplicaStatus {
        let known = self.known.borrow().clone();
        ReplicaStatus {
            stream: self.stream,
            sequence: known.standing.map(|standing| standing.sequence),
            next: known.standing.map(|standing| standing.next),
            state: known.standing.map(|standing| standing.state),
            timestamp: known.standing.map_or(Timestamp::ZERO, |standing| standing.timestamp),
            stored: known.stored,
            halted: known.halted,
            gaps: known.gaps,
            started_from: known.started_from,
            snapshots: known.snapshots,
            endorsing: known.endorsing,
            refused: known.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use synddb_protocol::id::{CommitNumber, Incarnation, IncarnationCounter, IncarnationNonce};

    use super::*;

    fn at(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    fn standing(number: u64) -> Standing {
        let nonce = IncarnationNonce::from_bytes([1; 16]);
        let incarnation = Incarnation { counter: IncarnationCounter::FIRST, nonce };
        let next = Position { incarnation, commit: CommitNumber::FIRST, part: None };
        let state = StateHash::from_bytes([2; 32]);
        Standing { sequence: at(number), next, state, timestamp: Timestamp::ZERO }
    }

    #[test]
    fn no_snapshot_is_taken_where_something_is_known_against_the_replica() {
        let view = View::aside(StreamId::from_bytes([5; 32]));
        assert_eq!(view.is_whole_at(), None, "there is none");
        view.stands(standing(7));
        assert_eq!(view.is_whole_at(), Some(at(7)));
        let mut gaps = Gaps::default();
        assert!(gaps.begin("report".to_owned(), at(8), at(9)));
        view.lacks(&gaps);
        assert_eq!(view.is_whole_at(), None, "a gap is open");
        view.lacks(&gaps.closed(at(12)));
        assert_eq!(view.is_whole_at(), Some(at(7)));
        view.distrust();
        assert_eq!(view.is_whole_at(), None, "it is not what it was");
        view.stands(standing(13));
        view.hide();
        assert_eq!(view.is_whole_at(), None, "it is not believed");
        view.stands(standing(13));
        let (kind, detail) = (HaltKind::Divergence, "diverged".to_owned());
        view.halted(Halt { kind, from: at(14), to: at(14), detail, difference: None });
        assert_eq!(view.is_whole_at(), None, "it has halted");
    }
}
