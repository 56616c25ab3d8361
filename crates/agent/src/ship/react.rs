//! What is sent, and what each answer means.

use std::time::Duration;

use synddb_protocol::chain;
use synddb_protocol::hash::ChunkHash;
use synddb_protocol::http::{Position, Problem as Refused, Reason};
use synddb_protocol::id::Incarnation;
use synddb_protocol::log::{Checkpoint, ClientState};

use super::client::{Answer, ClientError, Placed};
use super::leg::{Leg, SnapshotIs};
use super::{Request, Shipper, problems};
use crate::error::AgentError;
use crate::event::Event;
use crate::outbox::{Held, OutboxError, Wanted};
use crate::status::reaches;

/// What to do when the log has what this agent did not send.
const OTHER_AGENT: &str =
    "another agent writes to this stream, maybe on a copy of the database; stop one, then begin a new stream";

impl Shipper {
    pub(super) fn send_submission(&mut self, held: Held) {
        match self.client.submit(&held.body, self.within()) {
            Ok(Answer::Done(placed)) => {
                let incarnation = self.legs[self.cursor.leg].incarnation;
                self.cursor.wanted = Wanted::After(held.id);
                match held.holds.next_in(incarnation) {
                    Ok(next) => self.note_sequenced(next, placed),
                    Err(error) => self.stop(error.to_string(), "begin a new stream"),
                }
            }
            Ok(Answer::Refused(refused, asked)) => {
                // The same bytes again, unless the cursor is moved.
                self.cursor.held = Some(held);
                self.take_refusal(&refused, asked);
            }
            Err(error) => {
                self.cursor.held = Some(held);
                self.take_failure(&error);
            }
        }
    }

    /// Sends one thing of a snapshot: a chunk that the store lacks, or else the message.
    pub(super) fn send_snapshot(&mut self) {
        match self.missing.last().copied() {
            Some(hash) => self.send_chunk(hash),
            None => self.send_manifest(),
        }
    }

    fn send_chunk(&mut self, hash: ChunkHash) {
        let bytes = match self.legs[self.cursor.leg].folder.chunk(hash) {
            Ok(bytes) => bytes,
            Err(error) => {
                let detail = format!("a chunk of the snapshot cannot be read. chunk=`{hash}`: {error}");
                return self.stop(detail, "look at the disk, then start the agent again");
            }
        };
        match self.client.put_chunk(hash, &bytes, self.within()) {
            Ok(Answer::Done(())) => {
                self.missing.pop();
                self.not_before = None;
            }
            Ok(Answer::Refused(refused, _)) if *refused.reason() == Reason::Unprocessable => {
                let detail = format!("a chunk of the snapshot was changed on disk. chunk=`{hash}`");
                self.stop(detail, "look at the disk, and begin a new stream");
            }
            Ok(Answer::Refused(refused, asked)) => self.take_refusal(&refused, asked),
            Err(error) => self.take_failure(&error),
        }
    }

    fn send_manifest(&mut self) {
        let leg = &self.legs[self.cursor.leg];
        let Some(spooled) = &leg.spooled else { return };
        match self.client.snapshot(&spooled.body, self.within()) {
            Ok(Answer::Done(placed)) => {
                let begun = leg.begun();
                self.legs[self.cursor.leg].snapshot = SnapshotIs::Sequenced;
                self.note_sequenced(begun, placed);
            }
            Ok(Answer::Refused(refused, asked)) => {
                if let Reason::MissingChunks { missing } = refused.reason() {
                    let listed =
                        |hash: &&ChunkHash| spooled.snapshot.chunks.iter().any(|chunk| chunk.hash == **hash);
                    self.missing = missing.iter().filter(listed).copied().collect();
                    // The first is sent first.
                    self.missing.reverse();
                    // Once is as it should be; a second time what was sent is still missing.
                    let pause = self.backoff.after_failure(asked);
                    if self.missing.is_empty() || self.has_sent_chunks {
                        self.pause(pause, problems::refused(&refused));
                    }
                    self.has_sent_chunks = true;
                } else {
                    self.take_refusal(&refused, asked);
                }
            }
            Err(error) => self.take_failure(&error),
        }
    }

    fn note_sequenced(&mut self, next: Position, placed: Placed) {
        self.went_well();
        self.unstored = Some(placed);
        self.shared.board.note(|status| status.sequenced_next = Some(next));
        self.events.say(Event::Sequenced { next });
        self.watch();
    }

    fn take_failure(&mut self, error: &ClientError) {
        let pause = match error {
            ClientError::Untrusted { .. } => self.backoff.slow(),
            ClientError::Unreachable(_) | ClientError::Foreign { .. } => self.backoff.after_failure(None),
        };
        self.pause(pause, problems::failed(error));
    }

    fn take_refusal(&mut self, refused: &Refused, asked: Option<Duration>) {
        match refused.reason() {
            Reason::Gap { expected } => self.go_back(*expected),
            Reason::NotBegun => self.begin_stream(refused),
            Reason::ContentMismatch { expected, found } => self.stop(
                format!("the log has another commit in this place. log=`{expected}` outbox=`{found}`"),
                OTHER_AGENT,
            ),
            Reason::IncarnationSuperseded { running } => self.stop_superseded(*running),
            Reason::Busy | Reason::NotLeading | Reason::Unavailable | Reason::Internal | Reason::DiskFull => {
                let pause = self.backoff.after_failure(asked);
                self.pause(pause, problems::refused(refused));
            }
            Reason::Unauthorized
            | Reason::NotFound
            | Reason::UpgradeRequired
            | Reason::Malformed
            | Reason::Range
            | Reason::MethodNotAllowed
            | Reason::TooLarge { .. }
            | Reason::Unprocessable
            | Reason::MissingChunks { .. } => {
                let pause = self.backoff.slow();
                self.pause(pause, problems::refused(refused));
            }
        }
    }

    /// Goes back, or on, to what the sequencer expects.
    fn go_back(&mut self, expected: Position) {
        let is_again = self.last_gap.replace(expected) == Some(expected);
        let has = self.legs.iter().position(|leg| leg.incarnation == expected.incarnation);
        let follows = || {
            self.legs.iter().position(|leg| {
                leg.predecessor().is_some_and(|before| {
                    (before.incarnation, before.next, before.next_part)
                        == (expected.incarnation, expected.commit, expected.part)
                })
            })
        };
        if let Some(leg) = has {
            // The log has its snapshot, and none of a later one.
            if self.legs[leg].snapshot == SnapshotIs::Unsent {
                self.legs[leg].snapshot = SnapshotIs::Sequenced;
            }
            self.send_again_from(leg + 1);
            self.move_to(leg, Wanted::At(expected));
        } else if let Some(leg) = follows() {
            self.send_again_from(leg);
            self.move_to(leg, Wanted::Oldest);
        } else {
            return self.stop_unknown();
        }
        self.shared.board.note(|status| status.sequenced_next = Some(expected));
        if is_again {
            let pause = self.backoff.after_failure(None);
            self.pause(pause, problems::going_in_circles());
        }
    }

    /// The snapshots of these legs have to be sent again, as far as they are not stored.
    fn send_again_from(&mut self, first: usize) {
        for leg in self.legs.iter_mut().skip(first) {
            if leg.snapshot == SnapshotIs::Sequenced {
                leg.snapshot = SnapshotIs::Unsent;
            }
        }
    }

    /// The log has nothing of this stream.
    fn begin_stream(&mut self, refused: &Refused) {
        let first = self.legs.first().map(|leg| leg.snapshot);
        if first == Some(SnapshotIs::Unsent) && self.cursor.leg == 0 {
            // It is the beginning that was refused.
            let pause = self.backoff.after_failure(None);
            return self.pause(pause, problems::refused(refused));
        }
        self.begin_again();
    }

    /// Sends everything again, from the snapshot that the stream began with.
    fn begin_again(&mut self) {
        if self.legs.first().is_some_and(Leg::can_begin_stream) {
            self.send_again_from(0);
            self.move_to(0, Wanted::Oldest);
            self.shared.board.note(|status| status.sequenced_next = None);
        } else {
            self.stop(
                "the sequencer's log lacks what was seen stored before".to_owned(),
                "check that the sequencer's store is the one that was used before; restore it, or begin a new stream",
            );
        }
    }

    /// Forgets what a stored batch has, and sends again what the log has lost.
    pub(super) fn take_checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.is_watching = false;
        match &checkpoint.client {
            Some(client) => self.take_client(checkpoint, client),
            None if self.is_lost(checkpoint) => {
                self.unstored = None;
                self.begin_again();
            }
            None => {}
        }
        self.watch();
    }

    fn take_client(&mut self, checkpoint: &Checkpoint, client: &ClientState) {
        let (next, running) = (Position::expected(client), client.incarnation);
        let Some(leg) = self.legs.iter().position(|leg| leg.incarnation == running) else {
            // Before our own snapshot is stored it may be one that was stored long ago.
            if self.is_lost(checkpoint) {
                self.unstored = None;
                self.stop_superseded(running);
            }
            return;
        };
        let leg = match self.note_snapshots(leg) {
            Ok(leg) => leg,
            Err(error) => return self.stop(chain(&error), "look at the disk, then start the agent again"),
        };
        if next == self.legs[leg].begun() {
            self.note_stored(next);
        } else if let Some(outbox) = &mut self.legs[leg].outbox {
            match outbox.forget_before(&next, client.last) {
                Ok(_) => self.note_stored(next),
                Err(error @ OutboxError::OtherDigest { .. }) => return self.stop(chain(&error), OTHER_AGENT),
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

    /// Whether a promise that the store does not hold yet may never be kept: its place is taken, or another leader has come. A promise
    /// is provisional until then.
    fn is_lost(&self, checkpoint: &Checkpoint) -> bool {
        self.unstored
            .is_some_and(|Placed { epoch, sequence }| checkpoint.size >= sequence || checkpoint.epoch > epoch)
    }

    fn stop_superseded(&mut self, running: Incarnation) {
        let detail =
            format!("another incarnation runs. incarnation=`{}` nonce=`{}`", running.counter, running.nonce);
        self.stop(detail, OTHER_AGENT);
    }

    /// The snapshot of this leg is stored, and so is everything of the legs before it. Returns where the leg is now.
    fn note_snapshots(&mut self, mut at: usize) -> Result<usize, AgentError> {
        let leg = &mut self.legs[at];
        if leg.snapshot != SnapshotIs::Stored {
            leg.folder.forget_snapshot()?;
            (leg.snapshot, leg.spooled) = (SnapshotIs::Stored, None);
            let incarnation = leg.incarnation;
            self.events.say(Event::SnapshotStored { incarnation });
        }
        // The running leg's outbox is somebody else's, and no leg comes before it that is not handed over.
        while at > 0 && self.legs[0].outbox.is_some() {
            let leg = self.legs.remove(0);
            drop(leg.outbox);
            leg.folder.remove()?;
            at -= 1;
            match self.cursor.leg.checked_sub(1) {
                Some(before) => self.cursor.leg = before,
                None => self.move_to(0, Wanted::Oldest),
            }
        }
        Ok(at)
    }
}
