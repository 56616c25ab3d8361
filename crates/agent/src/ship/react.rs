//! What is sent, and what each answer means.

use std::time::Duration;

use synddb_protocol::hash::{ChunkHash, CommitDigest};
use synddb_protocol::http::{Position, Problem as Refused, Reason};
use synddb_protocol::id::Incarnation;
use synddb_protocol::limits::BODY_BYTES_MAX;
use synddb_protocol::log::{Body, Entry, MessageType};
use synddb_protocol::submission::{Commit, Content, SnapshotPlace};
use synddb_sqlite::killable::reached;

use super::client::{Answer, ClientError, Promised};
use super::leg::{Leg, SnapshotIs};
use super::{OTHER_STORE, Shipper, problems, turn};
use crate::event::Event;
use crate::outbox::{Held, Wanted};
use crate::span::Shipping;

/// What to do when the log has what this agent did not send.
pub(super) const OTHER_AGENT: &str =
    "another agent writes to this stream, maybe on a copy of the database; stop one, then begin a new stream";

impl Shipper {
    pub(super) fn send_submission(&mut self, held: Held) {
        let shipping = Shipping::again(self.shipping.take(), self.traces, self.client.stream(), &held);
        let traceparent = shipping.traceparent();
        let answered = self.client.submit(&held.body, traceparent.as_deref(), self.within());
        self.shipping = Some(shipping);
        reached("sent");
        match answered {
            Ok(Answer::Done(promised)) => {
                self.shipping = None;
                shipping.taken(self.client.stream(), held.holds);
                let incarnation = self.legs[self.cursor.leg].incarnation;
                self.cursor.wanted = Wanted::After(held.id);
                match held.holds.next_in(incarnation) {
                    Ok(next) => self.note_sequenced(next, promised),
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
            Ok(Answer::Done(promised)) => {
                let begun = leg.begun();
                self.legs[self.cursor.leg].snapshot = SnapshotIs::Sequenced;
                self.note_sequenced(begun, promised);
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
                        self.pause(pause, problems::refused(self.client.url(), &refused));
                    }
                    self.has_sent_chunks = true;
                } else {
                    self.take_refusal(&refused, asked);
                }
            }
            Err(error) => self.take_failure(&error),
        }
    }

    fn note_sequenced(&mut self, next: Position, promised: Promised) {
        self.went_well();
        self.note_taken();
        self.unstored = Some(promised.placed);
        if let Some(problem) = self.promises.take(promised.receipts) {
            return self.stop_with(problem);
        }
        self.shared.board.note(|status| status.sequenced_next = Some(next));
        self.events.say(Event::Sequenced { next });
        self.watch();
    }

    fn take_failure(&mut self, error: &ClientError) {
        let pause = match error {
            ClientError::Untrusted { .. } | ClientError::Convicted { .. } | ClientError::NotKept(_) => {
                self.backoff.slow()
            }
            ClientError::Unreachable { .. }
            | ClientError::Tls { .. }
            | ClientError::NoCredential { .. }
            | ClientError::Foreign { .. } => self.backoff.after_failure(None),
        };
        let pause = self.turn(pause);
        self.pause(pause, problems::failed(error));
    }

    fn take_refusal(&mut self, refused: &Refused, asked: Option<Duration>) {
        match refused.reason() {
            Reason::Gap { expected } => self.go_back(*expected),
            Reason::NotBegun => self.begin_stream(refused),
            Reason::ContentMismatch { found, .. } if !self.has_sent(*found) => {
                let pause = self.backoff.after_failure(asked);
                self.pause(pause, problems::about_something_else());
            }
            Reason::ContentMismatch { expected, found } => self.contradicted(
                format!("the log has another commit in this place. log=`{expected}` outbox=`{found}`"),
                OTHER_AGENT,
            ),
            Reason::IncarnationSuperseded { running } => {
                self.contradicted(superseded(*running), OTHER_AGENT);
            }
            Reason::Busy
            | Reason::TooSlow
            | Reason::NotLeading
            | Reason::NotYet
            | Reason::Unavailable
            | Reason::Internal
            | Reason::DiskFull => {
                let pause = self.backoff.after_failure(asked);
                self.pause_or_turn(pause, refused);
            }
            Reason::Unauthorized
            | Reason::Forbidden
            | Reason::NotFound
            | Reason::UpgradeRequired
            | Reason::Malformed
            | Reason::Range
            | Reason::MethodNotAllowed
            | Reason::NotKept { .. }
            | Reason::TooLarge { .. }
            | Reason::UnsupportedMediaType
            | Reason::Unprocessable
            | Reason::MissingChunks { .. } => {
                let pause = self.backoff.slow();
                self.pause_or_turn(pause, refused);
            }
        }
    }

    fn pause_or_turn(&mut self, pause: Duration, refused: &Refused) {
        let elsewhere = turn::may_be_taken_elsewhere(refused.reason());
        let pause = if elsewhere { self.turn(pause) } else { pause };
        self.pause(pause, problems::refused(self.client.url(), refused));
    }

    /// Goes back, or on, to what the sequencer expects.
    pub(super) fn go_back(&mut self, expected: Position) {
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
        if let Some(leg) = has.filter(|leg| self.breaks_behind(*leg, &expected)) {
            let detail = format!(
                "the next incarnation does not name what the log has of the one before. incarnation=`{}` next=`{}`",
                self.legs[leg].incarnation.counter, expected.commit
            );
            return self.contradicted(detail, "keep a copy of the agent's folder, then begin a new stream");
        }
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
            return self.lack_what_is_expected();
        }
        self.shared.board.note(|status| status.sequenced_next = Some(expected));
        if is_again {
            let pause = self.backoff.after_failure(None);
            self.pause(pause, problems::going_in_circles());
        }
    }

    /// Whether the log has all of this leg, and what follows it here names another end.
    fn breaks_behind(&self, leg: usize, expected: &Position) -> bool {
        let ends = self.legs[leg].outbox.as_ref().is_some_and(|outbox| outbox.end() == *expected);
        let before = self.legs.get(leg + 1).and_then(Leg::predecessor);
        ends && before
            .is_some_and(|before| (before.next, before.next_part) != (expected.commit, expected.part))
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
        let is_beginning = |leg: &Leg| leg.snapshot == SnapshotIs::Unsent && leg.can_begin_stream();
        if self.cursor.leg == 0 && self.legs.first().is_some_and(is_beginning) {
            // It is the beginning that was refused.
            let pause = self.backoff.after_failure(None);
            return self.pause(pause, problems::refused(self.client.url(), refused));
        }
        if !self.begin_again() {
            self.contradicted(
                "the sequencer's log lacks what was seen stored before".to_owned(),
                OTHER_STORE,
            );
        }
    }

    /// Sends everything again, from the snapshot that the stream began with. Says whether that is still here.
    pub(super) fn begin_again(&mut self) -> bool {
        let can_begin = self.legs.first().is_some_and(Leg::can_begin_stream);
        if can_begin {
            self.send_again_from(0);
            self.move_to(0, Wanted::Oldest);
            self.shared.board.note(|status| status.sequenced_next = None);
        }
        can_begin
    }

    /// Whether a digest is in what was sent last, or named in it as what comes before.
    fn has_sent(&self, digest: CommitDigest) -> bool {
        let leg = &self.legs[self.cursor.leg];
        if leg.snapshot == SnapshotIs::Unsent {
            return leg.spooled.as_ref().is_some_and(|spooled| match &spooled.snapshot.place {
                SnapshotPlace::Begins { predecessor: Some(before) } if before.last == digest => true,
                SnapshotPlace::After { digest: before, .. } if *before == digest => true,
                SnapshotPlace::Begins { .. } | SnapshotPlace::After { .. } => {
                    spooled.snapshot.digest() == digest
                }
            });
        }
        let Some(held) = &self.cursor.held else { return false };
        let body = Body::read(MessageType::Submission, held.body.clone(), BODY_BYTES_MAX);
        let Ok(Entry::Submission(submission)) = body.map(Body::into_entry) else { return false };
        match &submission.content {
            Content::Part(part) => [part.prev, part.digest()].contains(&digest),
            Content::Commits(commits) => {
                commits.first().prev == digest
                    || commits.as_slice().iter().map(Commit::digest).any(|sent| sent == digest)
            }
        }
    }
}

/// Another incarnation runs, in words.
pub(super) fn superseded(running: Incarnation) -> String {
    format!("another incarnation runs. incarnation=`{}` nonce=`{}`", running.counter, running.nonce)
}
