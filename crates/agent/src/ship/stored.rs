//! What a checkpoint of a stored batch means: what may be forgotten (I3), what the log has lost, and where it contradicts the outbox.
//!
//! What must stay true: nothing is removed before its digest was compared with what the checkpoint names.

use synddb_protocol::chain;
use synddb_protocol::http::Position;
use synddb_protocol::log::{Checkpoint, ClientState};

use super::client::Placed;
use super::leg::SnapshotIs;
use super::react::{OTHER_AGENT, superseded};
use super::sequencers::Which;
use super::{OTHER_STORE, Request, Shipper};
use crate::error::AgentError;
use crate::outbox::{OutboxError, Wanted};
use crate::status::reaches;

impl Shipper {
    /// Forgets what a stored batch has, and sends again what the log has lost.
    pub(super) fn take_checkpoint(&mut self, checkpoint: &Checkpoint) {
        (self.is_watching, self.is_checking) = (false, false);
        if self.is_behind(checkpoint) {
            return;
        }
        match &checkpoint.client {
            Some(client) => self.take_client(checkpoint, client),
            None if self.is_lost(checkpoint) => {
                self.unstored = None;
                if !self.begin_again() {
                    self.stop(
                        "the sequencer's log lacks what was seen stored before".to_owned(),
                        OTHER_STORE,
                    );
                }
            }
            None => {}
        }
        self.watch();
    }

    /// Whether the store has less than was seen stored and forgotten. It may come back, so it is looked at again, slowly; nobody is told
    /// meanwhile that what it lacks is stored.
    fn is_behind(&mut self, checkpoint: &Checkpoint) -> bool {
        let found = checkpoint.client.as_ref().map(Position::expected);
        let seen = self.seen_stored.or(self.shared.board.status().stored_next);
        let Some(seen) = seen.filter(|seen| !reaches(found.as_ref(), seen)) else {
            if self.seen_stored.take().is_some() {
                self.went_well();
            }
            return false;
        };
        (self.seen_stored, self.is_checking) = (Some(seen), true);
        self.shared.board.note(|status| status.stored_next = found);
        let detail = format!(
            "the store lacks what was seen stored before. incarnation=`{}` seen=`{}` size=`{}`",
            seen.incarnation.counter, seen.commit, checkpoint.size
        );
        self.contradicted(detail, OTHER_STORE);
        true
    }

    /// Who leads nothing has maybe lost what it promised, and begins to lead when something is sent: the last thing is sent again. Its
    /// answer says what is missing there.
    pub(super) fn send_last_again(&mut self, which: Which) {
        // With nothing promised it is no sign that something is lost: a stream is led as soon as something is sent.
        (self.is_watching, self.is_checking) = (false, self.seen_stored.is_some());
        if self.unstored.is_none() {
            // Nothing is sent that would find out who leads.
            self.leave(which);
            return self.watch();
        }
        let leg = &mut self.legs[self.cursor.leg];
        let has_sent_all = self.cursor.held.is_none() && leg.snapshot != SnapshotIs::Unsent;
        match self.cursor.wanted {
            Wanted::After(last) if has_sent_all => {
                self.move_to(self.cursor.leg, Wanted::After(last.before()))
            }
            Wanted::Oldest if has_sent_all && leg.snapshot == SnapshotIs::Sequenced => {
                leg.snapshot = SnapshotIs::Unsent;
                self.move_to(self.cursor.leg, Wanted::Oldest);
            }
            // Something is on its way, or is looked for.
            Wanted::After(_) | Wanted::Oldest | Wanted::At(_) => {}
        }
        self.watch();
    }

    fn take_client(&mut self, checkpoint: &Checkpoint, client: &ClientState) {
        let (next, running) = (Position::expected(client), client.incarnation);
        let Some(at) = self.legs.iter().position(|leg| leg.incarnation == running) else {
            if self.awaited.contains(&running) {
                self.deferred = Some(Box::new(checkpoint.clone()));
                return;
            }
            // Before our own snapshot is stored it may be one that was stored long ago.
            if self.is_lost(checkpoint) {
                self.unstored = None;
                self.stop(superseded(running), OTHER_AGENT);
            }
            return;
        };
        let leg = &mut self.legs[at];
        if next == leg.begun() {
            let kept = leg.spooled.as_ref().map(|spooled| spooled.snapshot.digest());
            if let Some(kept) = kept.filter(|kept| *kept != client.last) {
                let detail = format!("the log has another snapshot. log=`{}` outbox=`{kept}`", client.last);
                return self.stop(detail, OTHER_AGENT);
            }
            self.note_leg_stored(at, next);
        } else if let Some(outbox) = &mut leg.outbox {
            match outbox.forget_before(&next, client.last) {
                Ok(_) => self.note_leg_stored(at, next),
                Err(error @ (OutboxError::OtherDigest { .. } | OutboxError::OtherPlace { .. })) => {
                    return self.stop(chain(&error), OTHER_AGENT);
                }
                Err(error) => return self.stop_broken(&error),
            }
        } else {
            self.request(Request::Stored { next, last: client.last });
        }
        let sent = self.shared.board.status().sequenced_next;
        if sent.is_some_and(|sent| reaches(Some(&next), &sent)) {
            self.unstored = None;
        } else if self.is_lost(checkpoint) {
            // What is sent twice keeps its place.
            (self.unstored, self.last_gap) = (None, None);
            self.go_back(next);
        }
    }

    /// The thread that captures has compared what was seen stored, and forgotten it.
    pub(super) fn take_forgotten(&mut self, next: Position) {
        match self.legs.iter().position(|leg| leg.incarnation == next.incarnation) {
            Some(at) => self.note_leg_stored(at, next),
            None => self.note_stored(next),
        }
    }

    /// Whether a promise that the store does not hold yet may never be kept: its place is taken, or another leader has come. A promise
    /// is provisional until then.
    fn is_lost(&self, checkpoint: &Checkpoint) -> bool {
        self.unstored
            .is_some_and(|Placed { epoch, sequence }| checkpoint.size >= sequence || checkpoint.epoch > epoch)
    }

    /// A digest of this leg was seen stored: so are its snapshot, everything up to `next`, and all legs before it.
    fn note_leg_stored(&mut self, at: usize, next: Position) {
        match self.note_snapshots(at) {
            Ok(()) => self.note_stored(next),
            Err(error) => self.stop(chain(&error), "look at the disk, then start the agent again"),
        }
    }

    /// The snapshot of this leg is stored, and so is everything of the legs before it.
    fn note_snapshots(&mut self, at: usize) -> Result<(), AgentError> {
        for leg in &mut self.legs[..=at] {
            leg.snapshot_is_stored();
        }
        self.forget_legs()
    }

    /// Forgets the legs before the last one whose snapshot is stored.
    pub(super) fn forget_legs(&mut self) -> Result<(), AgentError> {
        let last = self.legs.iter().rposition(|leg| leg.snapshot == SnapshotIs::Stored);
        let mut at = last.unwrap_or_default();
        // The running leg's outbox is somebody else's, and no leg comes before it that is not handed over.
        while at > 0 && self.legs[0].outbox.is_some() && self.legs[0].unchecked.is_none() {
            let leg = self.legs.remove(0);
            drop(leg.outbox);
            leg.folder.remove()?;
            at -= 1;
            match self.cursor.leg.checked_sub(1) {
                Some(before) => self.cursor.leg = before,
                None => self.move_to(0, Wanted::Oldest),
            }
        }
        Ok(())
    }
}
