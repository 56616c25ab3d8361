//! One incarnation on its way: its snapshot, then its submissions.

use synddb_protocol::http::Position;
use synddb_protocol::id::{CommitNumber, Incarnation};
use synddb_protocol::submission::{Predecessor, SnapshotPlace};

use crate::error::AgentError;
use crate::home::{IncarnationFolder, Spooled};
use crate::outbox::Outbox;
use crate::status::reaches;

/// How far the snapshot of a leg has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotIs {
    Unsent,
    Sequenced,
    Stored,
}

pub(super) struct Leg {
    pub(super) incarnation: Incarnation,
    pub(super) folder: IncarnationFolder,
    pub(super) snapshot: SnapshotIs,
    /// What there is to send of it, until it is stored.
    pub(super) spooled: Option<Spooled>,
    /// `None` as long as the thread that captures has it.
    pub(super) outbox: Option<Outbox>,
    start: Position,
}

impl Leg {
    /// A leg whose oldest submission begins at `start`.
    pub(super) fn new(
        incarnation: Incarnation,
        folder: IncarnationFolder,
        start: &Position,
        outbox: Option<Outbox>,
    ) -> Result<Self, AgentError> {
        let mut spooled = folder.spooled()?;
        if spooled.is_some() && (start.commit, start.part) != (CommitNumber::FIRST, None) {
            // Commits behind it were seen stored, so it was as well; only its chunks were not removed.
            folder.forget_snapshot()?;
            spooled = None;
        }
        let snapshot = if spooled.is_some() { SnapshotIs::Unsent } else { SnapshotIs::Stored };
        Ok(Self { incarnation, folder, snapshot, spooled, outbox, start: *start })
    }

    /// Up to where it was stored when it was opened; `None` when its snapshot was not.
    pub(super) fn start(&self) -> Option<Position> {
        (self.snapshot == SnapshotIs::Stored).then_some(self.start)
    }

    /// What the log has when only its snapshot is there.
    pub(super) const fn begun(&self) -> Position {
        Position { incarnation: self.incarnation, commit: CommitNumber::FIRST, part: None }
    }

    /// What its snapshot says that the log must have before it.
    pub(super) fn predecessor(&self) -> Option<&Predecessor> {
        match &self.spooled.as_ref()?.snapshot.place {
            SnapshotPlace::Begins { predecessor } => predecessor.as_ref(),
            SnapshotPlace::After { .. } => None,
        }
    }

    /// Whether it is the first one of its stream, and can be sent from its beginning.
    pub(super) fn can_begin_stream(&self) -> bool {
        self.spooled.is_some() && self.predecessor().is_none()
    }

    /// Whether all of it is stored. `end` is where the running incarnation ends, `stored` up to where its outbox was emptied.
    pub(super) fn is_stored(&self, end: Option<&Position>, stored: Option<&Position>) -> bool {
        self.snapshot == SnapshotIs::Stored
            && match &self.outbox {
                Some(outbox) => outbox.pending().submissions == 0,
                None => end.is_some_and(|end| reaches(stored, end)),
            }
    }
}
