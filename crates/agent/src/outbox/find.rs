//! Finding submissions by their place in the stream, as a sequencer or a store names it; and being asked for room before a poll.

use synddb_protocol::hash::CommitDigest;
use synddb_protocol::http::Position;
use synddb_protocol::id::{CommitNumber, Incarnation, OutOfRange};
use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{CommittedState, Sink, WalPosition};
use synddb_sqlite::state::RunningState;

use super::{Held, Holds, Outbox, OutboxError, SubmissionId};

/// From where on submissions are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// From the oldest one held.
    Oldest,
    /// From the one behind this.
    After(SubmissionId),
    /// From the one that begins here.
    At(Position),
}

/// The first submission that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is here.
    Held(Held),
    /// It is what will be captured next.
    NotYet,
    /// No submission that is held begins there, nor will the next one.
    Unknown,
}

impl Holds {
    /// What comes next in the stream behind a submission with this.
    ///
    /// # Errors
    /// [`OutOfRange`] behind the last number there is.
    pub fn next_in(&self, incarnation: Incarnation) -> Result<Position, OutOfRange> {
        let (commit, part) = match *self {
            Self::Commits { last, .. } => (last.get() + 1, None),
            Self::Part { commit, is_last: true, .. } => (commit.get() + 1, None),
            Self::Part { commit, index, .. } => (commit.get(), index.next()),
        };
        Ok(Position { incarnation, commit: CommitNumber::new(commit)?, part })
    }
}

impl Outbox {
    /// The first submission that is wanted.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be read.
    pub fn find(&self, wanted: &Wanted) -> Result<Found, OutboxError> {
        let held = match wanted {
            Wanted::Oldest => self.next()?,
            Wanted::After(id) => self.after(*id)?,
            Wanted::At(position) => match self.begins_at(position)? {
                Some(id) => self.file.first(id, self.kept.next)?,
                None => return Ok(Found::Unknown),
            },
        };
        Ok(held.map_or(Found::NotYet, Found::Held))
    }

    /// What comes next in the stream, once everything kept is sent.
    pub const fn end(&self) -> Position {
        Position { incarnation: self.kept.incarnation, commit: self.kept.tail.next, part: None }
    }

    /// Where the oldest submission held begins: everything before it was seen stored, or is the snapshot.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be read.
    pub fn start(&self) -> Result<Position, OutboxError> {
        if self.head == self.kept.next {
            return Ok(self.end());
        }
        let holds = self.held_at(self.head)?;
        Ok(self.begin_of(&holds))
    }

    /// Forgets what comes before `next`, which the store has, with `last` as the digest of the last thing before it. Says whether there
    /// was something to forget: there is nothing where all of that was seen stored before.
    ///
    /// # Errors
    /// [`OutboxError`] when the digest is another one, or nothing that is held ends there; everything stays.
    pub fn forget_before(&mut self, next: &Position, last: CommitDigest) -> Result<bool, OutboxError> {
        match self.begins_at(next)? {
            Some(id) if id > self.head => {
                self.forget_through(SubmissionId(id.get() - 1), last)?;
                Ok(true)
            }
            Some(_) => Ok(false),
            None if self.start()?.reaches(next) => Ok(false),
            None => Err(OutboxError::OtherPlace { next: next.commit, end: self.kept.tail.next }),
        }
    }

    /// Room for one poll of a follower, if the budget leaves any. A follower may persist twice in one poll.
    pub fn admitted(&mut self) -> Option<Admitted<'_>> {
        if !self.has_room() {
            return None;
        }
        self.is_admitted = true;
        Some(Admitted(self))
    }

    /// The submission that begins at a position, held or next. Their places ascend with their ids.
    fn begins_at(&self, position: &Position) -> Result<Option<SubmissionId>, OutboxError> {
        if position.incarnation != self.kept.incarnation {
            return Ok(None);
        }
        let place = |position: &Position| (position.commit, position.part.map_or(0, |part| part.get()));
        let wanted = place(position);
        let (mut low, mut high) = (self.head, self.kept.next);
        while low < high {
            let middle = SubmissionId(low.get() + (high.get() - low.get()) / 2);
            if place(&self.begin_of(&self.held_at(middle)?)) < wanted {
                low = middle.next();
            } else {
                high = middle;
            }
        }
        let found = if low == self.kept.next { self.end() } else { self.begin_of(&self.held_at(low)?) };
        Ok((place(&found) == wanted).then_some(low))
    }

    fn begin_of(&self, holds: &Holds) -> Position {
        let (commit, part) = match *holds {
            Holds::Commits { first, .. } => (first, None),
            Holds::Part { commit, index, .. } => (commit, (index.get() > 0).then_some(index)),
        };
        Position { incarnation: self.kept.incarnation, commit, part }
    }

    fn held_at(&self, id: SubmissionId) -> Result<Holds, OutboxError> {
        self.file.holds(id)?.ok_or_else(|| self.file.damaged("a submission is missing"))
    }
}

/// An outbox that was asked for room: it takes all of one poll, however often the follower persists in it.
pub struct Admitted<'o>(&'o mut Outbox);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.is_admitted = false;
    }
}

impl Sink for Admitted<'_> {
    type Error = OutboxError;

    fn apart(&mut self, state: &mut CommittedState<'_>) -> Result<(), OutboxError> {
        Sink::apart(&mut *self.0, state)
    }

    fn piece(&mut self, changes: Changes) -> Result<(), OutboxError> {
        Sink::piece(&mut *self.0, changes)
    }

    fn commit(&mut self, changes: Changes, state: &mut CommittedState<'_>) -> Result<(), OutboxError> {
        Sink::commit(&mut *self.0, changes, state)
    }

    fn persist(&mut self, position: &WalPosition, state: &RunningState) -> Result<(), OutboxError> {
        Sink::persist(&mut *self.0, position, state)
    }
}
