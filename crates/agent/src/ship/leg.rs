//! One incarnation on its way: its snapshot, then its submissions.

use synddb_protocol::hash::ChunkHash;
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

/// A snapshot whose message is stored, and whose chunks are looked for once more before they are removed here.
pub(super) struct Unchecked {
    pub(super) spooled: Spooled,
    /// Chunks that the store was found to lack, and that are put again.
    pub(super) lacking: Vec<ChunkHash>,
}

pub(super) struct Leg {
    pub(super) incarnation: Incarnation,
    pub(super) folder: IncarnationFolder,
    pub(super) snapshot: SnapshotIs,
    /// What there is to send of it, until it is stored.
    pub(super) spooled: Option<Spooled>,
    /// The same once it is stored, until it is known that its chunks are.
    pub(super) unchecked: Option<Unchecked>,
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
        let spooled = folder.spooled()?;
        let snapshot = if spooled.is_some() { SnapshotIs::Unsent } else { SnapshotIs::Stored };
        let mut leg = Self { incarnation, folder, snapshot, spooled, unchecked: None, outbox, start: *start };
        if (start.commit, start.part) != (CommitNumber::FIRST, None) {
            // Commits behind it were seen stored, so it was as well; only its chunks were not removed.
            leg.snapshot_is_stored();
        }
        Ok(leg)
    }

    /// Its snapshot was seen stored: it is not sent any more, and kept until its chunks were found in the store as well.
    pub(super) fn snapshot_is_stored(&mut self) {
        self.snapshot = SnapshotIs::Stored;
        if let Some(spooled) = self.spooled.take() {
            self.unchecked = Some(Unchecked { spooled, lacking: Vec::new() });
        }
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
            && self.unchecked.is_none()
            && match &self.outbox {
                Some(outbox) => outbox.pending().submissions == 0,
                None => end.is_some_and(|end| reaches(stored, end)),
            }
    }
}
