//! Keeps the WAL small, although a read transaction is always held.
//!
//! A reader that stays where it is keeps the WAL from ever beginning anew: it would grow without end, and the application's own
//! checkpoint would run after every commit and in vain. So the held transaction moves on, and when that is not enough, everything is
//! copied back under the write lock, and the transaction moves to where it does not stop the next writer from beginning anew.
//!
//! The application waits for the write lock for some milliseconds then. Only when the WAL has reached its limit does it wait for as long as
//! the rest takes to be captured: its disk is worth more than its speed.
//!
//! Checkpoints run only under the write lock: SQLite before 3.51.3 can lose commits when a checkpoint races with a writer that begins the
//! WAL anew, and which SQLite the application links cannot be known. FULL, RESTART and TRUNCATE are never used, with one exception: where
//! the WAL holds frames that a recovery would stop at, copying back is not enough. A recovery would then lay the frames before them over
//! newer pages of the database file, which is damage where there was only loss; so that WAL is cut off at once (ADR 21), by a TRUNCATE
//! after the write lock was given back. When a writer holds the lock by then, SQLite runs it as PASSIVE, without the lock. That is harmless:
//! the follower's own read transaction stands on the database file alone then (read lock 0), which keeps any checkpoint from copying
//! anything back; and the fault lies in the one who checkpoints, here our own SQLite, which has the repair (ADR 12).

use std::time::{Duration, Instant};

use super::follower::Follower;
use super::probes::reached;
use super::{CaptureError, PollError, Sink};
use crate::connection::SqliteError;

/// How long the write lock is tried for. The application comes first; the next poll tries again.
const LOCK_PATIENCE: Duration = Duration::from_millis(2);
/// How long a checkpoint that the application runs is waited for, under the write lock.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(20);

/// When it is tried again to cut a WAL off that a reader stood in.
pub(super) const CUT_OFF_AGAIN: Duration = Duration::from_millis(250);

/// Most bytes of frames that are captured while the application waits for the write lock, as long as the WAL has not reached its limit.
const LOCKED_BYTES_MAX: u64 = 2 << 20;

impl Follower {
    /// Whether the held transaction should move on.
    pub(super) fn wants_swap(&self) -> bool {
        let (held, now) = (self.holds.swap_target(), self.position);
        if held.salts != now.salts {
            return now.frame > 0;
        }
        let bytes = self.options.swap_bytes;
        self.wal_bytes(now.frame) >= bytes
            && self.wal_bytes(now.frame.saturating_sub(held.frame)) >= bytes / 4
    }

    /// Whether the WAL has grown so much that the write lock is worth taking: also after it was taken in vain, or nobody wrote since. And
    /// whether it holds frames that a recovery would stop at: the sooner it is cut off, the less is at stake.
    pub(super) fn wants_recycling(&self) -> bool {
        let done =
            self.recycled_at.filter(|done| done.salts == self.position.salts).map_or(0, |done| done.frame);
        if self.holds_unsummed() && self.cut_off_tried.is_none_or(|at| at.elapsed() >= CUT_OFF_AGAIN) {
            return true;
        }
        self.wal_bytes(self.position.frame.saturating_sub(done)) >= self.options.recycle_bytes
    }

    /// Whether the running generation has frames that a recovery would stop at.
    pub(super) fn holds_unsummed(&self) -> bool {
        self.unsummed_in == Some(self.position.salts)
    }

    /// Has everything copied back while nobody can write, and stands on the database file alone afterwards.
    pub(super) fn recycle<S: Sink>(&mut self, sink: &mut S) -> Result<u64, PollError<S::Error>> {
        if self.holds_unsummed() {
            self.cut_off_tried = Some(Instant::now());
        }
        // A pin that does not answer is found out before anybody has to wait for it.
        if self.is_far_behind()? || !self.pinned.answers() || !self.lock()? {
            return Ok(0);
        }
        self.statistics.write_locks += 1;
        let result = self.recycle_locked(sink);
        // The lock is let go whatever happened; a failure to do so shows at the next use.
        let unlocked = self.writer.execute("ROLLBACK");
        reached("unlocked");
        let (commits, is_clear) = result?;
        unlocked?;
        if is_clear && self.holds_unsummed() {
            self.cut_off()?;
        }
        Ok(commits)
    }

    /// The same under the write lock. Says how many commits that were, and whether nothing of the WAL is needed any more.
    fn recycle_locked<S: Sink>(&mut self, sink: &mut S) -> Result<(u64, bool), PollError<S::Error>> {
        if self.is_far_behind()? {
            return Ok((0, false));
        }
        let commits = self.advance(sink, u32::MAX)?;
        self.recycled_at = Some(self.position);
        reached("locked");
        if self.move_here()? && self.copy_back()? {
            reached("copied back");
            // The WAL is copied back entirely and cannot grow, so these stand on the database file.
            return Ok((commits, self.move_here()?));
        }
        Ok((commits, false))
    }

    /// Moves all read transactions to the position, which is what is committed.
    fn move_here(&mut self) -> Result<bool, SqliteError> {
        Ok(self.holds.move_here(self.position)? && self.pinned.move_here())
    }

    /// Cuts off a WAL that is copied back entirely. Where somebody is in the way, SQLite answers with a row that says so, and nothing is
    /// done: a writer begins it anew by itself, and for a reader that came before the last frames were copied back it is tried again.
    fn cut_off(&self) -> Result<(), CaptureError> {
        let anchor = self.database.pages.files.anchor();
        let pragma = "PRAGMA wal_checkpoint(TRUNCATE)";
        let answer = anchor.sqlite().query_row(pragma, [], |row| row.get::<_, bool>(0));
        match answer.map_err(SqliteError::from) {
            // SQLite does not sync that the file is shorter; until the file system does, a power cut would bring its content back.
            Ok(false) => self.database.pages.files.sync_wal(),
            Err(error) if !error.is_busy() => Err(error.into()),
            Ok(true) | Err(_) => Ok(()),
        }
    }

    /// Whether so much is left to capture that the application should not wait for it, and the WAL not so large that it has to.
    fn is_far_behind(&self) -> Result<bool, CaptureError> {
        let index = self.index()?;
        if index.salts != self.position.salts {
            return Ok(true);
        }
        let left = index.last_frame.saturating_sub(self.position.frame);
        Ok(self.wal_bytes(left) > LOCKED_BYTES_MAX
            && self.wal_bytes(index.last_frame) < self.options.bytes_max)
    }

    /// Takes the write lock, unless a writer keeps it.
    fn lock(&self) -> Result<bool, SqliteError> {
        let started = Instant::now();
        loop {
            match self.writer.execute("BEGIN IMMEDIATE") {
                Ok(()) => return Ok(true),
                Err(error) if error.is_busy() && started.elapsed() < LOCK_PATIENCE => std::hint::spin_loop(),
                Err(error) if error.is_busy() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Copies everything back that no other reader is in the way of; says whether that was all.
    fn copy_back(&self) -> Result<bool, CaptureError> {
        let anchor = self.database.pages.files.anchor();
        let started = Instant::now();
        loop {
            let pragma = "PRAGMA wal_checkpoint(PASSIVE)";
            let (busy, frames, copied): (i64, i64, i64) = anchor
                .sqlite()
                .query_row(pragma, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .map_err(SqliteError::from)?;
            if busy == 0 && frames == copied {
                return Ok(true);
            }
            // Busy means that the writer of the last commit is at its own checkpoint; otherwise a reader stands in the way.
            if busy == 0 || started.elapsed() > CHECKPOINT_PATIENCE {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }
}
