//! Keeps the WAL small, although a read transaction is always held.
//!
//! A reader that stays where it is keeps the WAL from ever beginning anew: it would grow without end, and the application's own
//! checkpoint would run after every commit and in vain. So the held transaction moves on, and when that is not enough, everything is
//! copied back under the write lock, and the transaction moves to where it does not stop the next writer from beginning anew.
//!
//! The application waits for the write lock for some milliseconds then, so most is copied back before it is taken. An application that outruns
//! the follower waits in pieces once the WAL comes near its limit, and in longer ones from the limit on: its disk is worth more than its speed.
//! Behind each piece it has a turn of its own ([`super::turn`]), so that none of its writers waits for longer than it is patient (ADR 24).
//!
//! Checkpoints run under the write lock, or while the follower's own read transaction keeps the WAL from beginning anew: SQLite before 3.51.3
//! can lose commits when a checkpoint races with a writer that begins it anew, and which SQLite the application links cannot be known.
//!
//! FULL, RESTART and TRUNCATE are never used, with one exception: where the WAL holds frames that a recovery would stop at, copying back is
//! not enough. A recovery would then lay the frames before them over newer pages of the database file, which is damage where there was only
//! loss; so that WAL is cut off at once (ADR 21), by a TRUNCATE after the write lock was given back. When a writer holds the lock by then, SQLite runs it as PASSIVE, without the lock. That is harmless:
//! the follower's own read transaction stands on the database file alone then (read lock 0), which keeps any checkpoint from copying
//! anything back; and the fault lies in the one who checkpoints, here our own SQLite, which has the repair (ADR 12).

use std::time::{Duration, Instant};

use super::follower::Follower;
use super::portion::Portion;
use super::turn::{Manner, WRITES};
use super::wake::LOOK_AGAIN;
use super::{CaptureError, PollError, Sink, WalPosition};
use crate::connection::SqliteError;
use crate::killable::reached;

/// How long the write lock is tried for. The application comes first; the next poll tries again.
const LOCK_PATIENCE: Duration = Duration::from_millis(2);
/// The same once the WAL comes near its limit: an application that writes without a pause lets go for microseconds only.
const LOCK_PATIENCE_HIGH: Duration = Duration::from_millis(20);
/// The same once it has grown past its limit all the same.
const LOCK_PATIENCE_OVER: Duration = Duration::from_millis(100);
/// How long a checkpoint that the application runs is waited for, under the write lock.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(20);

/// When it is tried again to cut a WAL off that a reader stood in.
pub(super) const CUT_OFF_AGAIN: Duration = Duration::from_millis(250);

/// How long the application is made to wait at once while the follower catches up with it, as long as the WAL has not reached its limit.
const CATCH_UP: Duration = Duration::from_millis(60);
/// The same from the limit on: with a turn behind it, shorter than any patience that is usual.
const CATCH_UP_FULL: Duration = Duration::from_millis(250);
/// The same from twice the limit on.
const CATCH_UP_FAR: Duration = Duration::from_millis(500);
/// Most of the same from four times the limit on, where twice what was written since the last time is captured. From eight times on nothing else
/// ends it: whatever the application does, less is left each time.
const CATCH_UP_BEYOND: Duration = Duration::from_secs(2);
/// Within so long everybody who waits asleep has a turn, and so within a second each of several writers, unless the WAL grows all the same.
const EVERYBODY: Duration = Duration::from_millis(400);
/// The same where it does: within the 5 s that drivers wait which wait by themselves.
const EVERYBODY_OVER: Duration = Duration::from_secs(3);
/// For how long is captured at once while the application does not wait and the WAL has a quarter of its limit, so that the one of an application
/// that is much faster does not grow far past it meanwhile.
const STEP: Duration = Duration::from_millis(100);
/// The write lock is taken for a small WAL as well when it was not for so long: an application that writes little at a time is spared a large
/// one, which costs it more with every commit than the lock does.
const SELDOM: Duration = Duration::from_millis(400);
/// The least time between two attempts for which most is copied back before.
const COPY_AGAIN: Duration = Duration::from_millis(50);
/// The same while an application outruns the follower, which writes on meanwhile.
const COPY_AGAIN_PRESSED: Duration = Duration::from_secs(1);
/// How long ago that may have been for the rest to be copied back while it waits.
const COPIED_LATELY: Duration = Duration::from_secs(2);
/// Bytes of frames that are captured before they are persisted.
const STEP_BYTES: u64 = 8 << 20;
/// Most bytes of frames that are captured while the application waits for the write lock, as long as the WAL is well below its limit.
const LOCKED_BYTES_MAX: u64 = 2 << 20;
/// How often a read transaction is opened again that SQLite has placed further back than it could: its slots were all taken.
const MOVES_MAX: u32 = 3;

/// What came of copying back.
enum Copied {
    /// The database file has everything.
    All,
    /// A reader stands in the way of the rest.
    UpToReader,
    /// The writer of the last commit is at its own checkpoint.
    Busy,
}

/// What is still needed of the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InWal {
    Nothing,
    Some,
    /// Everything was captured, and most of it is to be copied back without the lock.
    Much,
}

/// How full the WAL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pressure {
    /// Well below its limit.
    None,
    /// More than half of it: an application that is faster than the follower is made to wait now and then.
    High,
    /// It has reached the limit: it waits for longer.
    Full,
    /// It has grown half as much again: where several writers wait, they do so for longer.
    Over,
    /// It has grown to twice its limit: who asks first writes, and the next piece begins.
    Far,
    /// It has grown to four times its limit: a piece is longer where less would not be left than after the last one.
    Beyond,
    /// It has grown to eight times its limit: a piece lasts until that is so, or the WAL would grow for ever.
    Last,
}

impl Pressure {
    /// How long the application is let go between two pieces.
    const fn turns(self) -> Option<Manner> {
        let (writes, everybody_every) = match self {
            Self::None => return None,
            Self::High | Self::Full => (WRITES, Some(EVERYBODY)),
            Self::Over => (WRITES, Some(EVERYBODY_OVER)),
            Self::Far | Self::Beyond | Self::Last => (Duration::ZERO, None),
        };
        Some(Manner { writes, everybody_every })
    }

    /// What is captured while the application waits, which has written so many frames since it last did.
    fn piece(self, now: Instant, written: u32) -> Portion {
        let twice = written.saturating_mul(2);
        let (lasts, least, latest) = match self {
            Self::None | Self::High => (CATCH_UP, 0, None),
            Self::Full | Self::Over => (CATCH_UP_FULL, 0, None),
            Self::Far => (CATCH_UP_FAR, 0, None),
            Self::Beyond => (CATCH_UP_FAR, twice, Some(now + CATCH_UP_BEYOND)),
            Self::Last => (CATCH_UP_FAR, twice, None),
        };
        Portion { least, latest, ..Portion::until(now + lasts) }
    }
}

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

    /// Whether the WAL has grown so much that the write lock is worth taking: also after it was taken in vain, or nobody wrote since. Whether
    /// the application outruns the follower, and the WAL comes near its limit. And whether it holds frames that a recovery would stop at: the
    /// sooner it is cut off, the less is at stake.
    pub(super) fn wants_recycling(&mut self) -> Result<bool, CaptureError> {
        let done =
            self.recycled_at.filter(|done| done.salts == self.position.salts).map_or(0, |done| done.frame);
        let committed = self.index()?;
        if self.turns.lasts(&committed, Instant::now()) {
            return Ok(false);
        }
        if self.holds_unsummed() && self.cut_off_tried.is_none_or(|at| at.elapsed() >= CUT_OFF_AGAIN) {
            return Ok(true);
        }
        let outruns = self.pressure()? != Pressure::None && self.behind_bytes()? > LOCKED_BYTES_MAX;
        if outruns && !self.is_obstructed() {
            return Ok(true);
        }
        let grown = self.wal_bytes(self.position.frame.saturating_sub(done));
        let is_seldom = self.lock_tried.is_none_or(|at| at.elapsed() >= SELDOM);
        Ok(grown >= self.options.recycle_bytes || grown >= self.options.swap_bytes && is_seldom)
    }

    /// Whether everything was captured in this generation shortly before, and a reader kept the WAL from beginning anew. While it stands there
    /// the WAL grows, with us as without, and making the application wait would gain nothing. Whether it still does is tried again when the
    /// WAL has grown as much as a large one.
    fn is_obstructed(&self) -> bool {
        let in_vain = self.recycled_at.filter(|done| done.salts == self.position.salts);
        let grown = |done: WalPosition| self.position.frame.saturating_sub(done.frame);
        in_vain.is_some_and(|done| (1..self.options.recycle_bytes).contains(&self.wal_bytes(grown(done))))
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
        if self.is_far_behind()? || !self.pinned.answers() {
            return Ok(0);
        }
        let tried = self.lock_tried.replace(Instant::now());
        let is_worth_it = match self.pressure()? {
            Pressure::None => tried.is_none_or(|at| at.elapsed() >= COPY_AGAIN),
            // A fast writer writes more meanwhile than that is worth.
            Pressure::Beyond | Pressure::Last => false,
            Pressure::High | Pressure::Full | Pressure::Over | Pressure::Far => {
                let is_near = self.behind_bytes()? <= self.options.bytes_max / 8;
                is_near && self.copied.is_none_or(|at| at.elapsed() >= COPY_AGAIN_PRESSED)
            }
        };
        // Frames that a recovery would stop at are copied back only when the WAL is cut off at once.
        if is_worth_it && !self.holds_unsummed() {
            // Most of it is copied back before anybody has to wait for that.
            self.copy_back_some()?;
            self.copied = Some(Instant::now());
        }
        if !self.was_refused {
            // SQLite has four places for readers. With one of them free, the transaction that locks stands at what is committed last, and
            // not further back, where it would itself be in the way of copying back.
            self.holds.drop_next();
        }
        let (mut commits, mut left) = self.recycle_once(sink)?;
        if left == InWal::Some && self.recycled_at == Some(self.position) {
            // It was: the writer of the last commit had its own place still. By now all others stand at one.
            let (more, still) = self.recycle_once(sink)?;
            (commits, left) = (commits + more, still);
        }
        match left {
            InWal::Nothing if self.holds_unsummed() => self.cut_off()?,
            InWal::Nothing | InWal::Some => {}
            InWal::Much => {
                self.copy_back_some()?;
                self.copied = Some(Instant::now());
            }
        }
        Ok(commits)
    }

    /// Takes the write lock, if it is to be had, and does so.
    fn recycle_once<S: Sink>(&mut self, sink: &mut S) -> Result<(u64, InWal), PollError<S::Error>> {
        self.was_refused = !self.lock()?;
        if self.was_refused {
            return Ok((0, InWal::Some));
        }
        let locked = Instant::now();
        self.turns.locked(locked);
        let result = self.recycle_locked(sink);
        let before = self.index().and_then(|index| Ok((index, self.pressure()?)));
        // The lock is let go whatever happened; a failure to do so shows at the next use.
        let unlocked = self.writer.execute("ROLLBACK");
        self.count_lock(locked.elapsed());
        reached("unlocked");
        let done = result?;
        unlocked?;
        // Who had to wait goes first, before anybody has to again.
        let (committed, pressure) = before?;
        self.turns.unlocked(committed, pressure.turns(), Instant::now());
        Ok(done)
    }

    /// The same under the write lock. Says how many commits that were, and what of the WAL is still needed.
    fn recycle_locked<S: Sink>(&mut self, sink: &mut S) -> Result<(u64, InWal), PollError<S::Error>> {
        if self.is_far_behind()? {
            return Ok((0, InWal::Some));
        }
        let index = self.index()?;
        let (pressure, committed) = (self.pressure()?, index.last_frame);
        // While a reader keeps the WAL as it is, longer pieces would gain nothing.
        let waits_as = if self.is_obstructed() { pressure.min(Pressure::High) } else { pressure };
        let piece = waits_as.piece(Instant::now(), self.turns.written(&index));
        let left = self.wal_bytes(committed.saturating_sub(self.position.frame));
        let commits = self.advance(sink, piece)?;
        if self.position.frame < committed {
            // The application goes on, and the follower has come nearer.
            return Ok((commits, InWal::Some));
        }
        let outran = left > LOCKED_BYTES_MAX && (Pressure::High..Pressure::Beyond).contains(&pressure);
        let was_copied = self.copied.is_some_and(|at| at.elapsed() < COPIED_LATELY);
        if outran && !was_copied && !self.holds_unsummed() && self.move_here()? {
            return Ok((commits, InWal::Much));
        }
        self.recycled_at = Some(self.position);
        reached("locked");
        for _ in 0..MOVES_MAX {
            if !self.move_here()? {
                break;
            }
            if self.copy_back()? {
                reached("copied back");
                // The WAL is copied back entirely and cannot grow, so these stand on the database file.
                return Ok((commits, if self.move_here()? { InWal::Nothing } else { InWal::Some }));
            }
        }
        Ok((commits, InWal::Some))
    }

    fn count_lock(&mut self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let statistics = &mut self.statistics;
        statistics.write_locks += 1;
        statistics.write_locked_us = statistics.write_locked_us.saturating_add(took);
        statistics.write_locked_us_max = statistics.write_locked_us_max.max(took);
    }

    /// How much a poll captures before it looks around.
    pub(super) fn portion(&self) -> Result<Portion, CaptureError> {
        let frame_bytes = self.database.pages.files.frame_bytes() as u64;
        let frames_of = |bytes: u64| u32::try_from(bytes / frame_bytes).unwrap_or(u32::MAX);
        let (step, unless) = if self.pressure()? == Pressure::None {
            (STEP, frames_of(self.options.bytes_max / 4))
        } else if self.was_refused {
            // Whoever keeps the lock may keep it for long. Until there is a commit, nothing is gained by asking.
            (WRITES, self.index()?.last_frame.saturating_add(1))
        } else {
            (WRITES, 0)
        };
        let frames = frames_of(STEP_BYTES.min(self.options.bytes_max));
        Ok(Portion { frames, unless, ..Portion::until(Instant::now() + step) })
    }

    /// Waits until the application had its turn, where the WAL is so large that nothing should be captured in it: what was captured is synced, and
    /// a fast writer writes more meanwhile than that was. Says whether that is so.
    pub(super) fn await_turn(&mut self) -> Result<bool, CaptureError> {
        if self.pressure()? < Pressure::Far || !self.turns.lasts(&self.index()?, Instant::now()) {
            return Ok(false);
        }
        while self.turns.lasts(&self.index()?, Instant::now()) {
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(true)
    }

    /// How full the WAL is.
    fn pressure(&self) -> Result<Pressure, CaptureError> {
        let (bytes, max) = (self.wal_bytes(self.index()?.last_frame), self.options.bytes_max);
        Ok(match bytes {
            _ if bytes / 8 >= max => Pressure::Last,
            _ if bytes / 4 >= max => Pressure::Beyond,
            _ if bytes / 2 >= max => Pressure::Far,
            _ if bytes / 3 >= max / 2 => Pressure::Over,
            _ if bytes >= max => Pressure::Full,
            _ if bytes >= max / 8 * 5 => Pressure::High,
            _ => Pressure::None,
        })
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
        let is_waited_for = self.pressure()? != Pressure::None && !self.is_obstructed();
        Ok(self.wal_bytes(left) > LOCKED_BYTES_MAX && !is_waited_for)
    }

    /// Takes the write lock, unless a writer keeps it.
    fn lock(&self) -> Result<bool, CaptureError> {
        let patience = match self.pressure()? {
            Pressure::None => LOCK_PATIENCE,
            Pressure::High | Pressure::Full => LOCK_PATIENCE_HIGH,
            Pressure::Over | Pressure::Far | Pressure::Beyond | Pressure::Last => LOCK_PATIENCE_OVER,
        };
        let started = Instant::now();
        loop {
            match self.writer.execute("BEGIN IMMEDIATE") {
                Ok(()) => return Ok(true),
                Err(error) if error.is_busy() && started.elapsed() < patience => std::hint::spin_loop(),
                Err(error) if error.is_busy() => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Copies everything back that no other reader is in the way of; says whether that was all.
    fn copy_back(&self) -> Result<bool, CaptureError> {
        let started = Instant::now();
        loop {
            match self.copy_back_some()? {
                Copied::All => return Ok(true),
                Copied::UpToReader => return Ok(false),
                Copied::Busy if started.elapsed() > CHECKPOINT_PATIENCE => return Ok(false),
                Copied::Busy => std::thread::yield_now(),
            }
        }
    }

    fn copy_back_some(&self) -> Result<Copied, CaptureError> {
        let anchor = self.database.pages.files.anchor();
        let pragma = "PRAGMA wal_checkpoint(PASSIVE)";
        let (busy, frames, copied): (i64, i64, i64) = anchor
            .sqlite()
            .query_row(pragma, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(SqliteError::from)?;
        Ok(match (busy, frames == copied) {
            (0, true) => Copied::All,
            (0, false) => Copied::UpToReader,
            _ => Copied::Busy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Much less is captured in the usual time than an application writes in a turn.
    #[test]
    fn whatever_is_written_in_turns_the_wal_ends_growing() {
        const FRAME_US: u64 = 60_000;
        const WRITTEN: u32 = 100;
        let captures = |pressure: Pressure| {
            let began = Instant::now();
            let piece = pressure.piece(began, WRITTEN);
            let mut frames = 0;
            while !piece.is_enough(1, frames, began + Duration::from_micros(FRAME_US) * frames, || 0) {
                frames += 1;
            }
            frames
        };
        assert_eq!(captures(Pressure::Full), 5);
        assert_eq!(captures(Pressure::Far), 9);
        assert_eq!(captures(Pressure::Beyond), 34, "two seconds");
        assert_eq!(captures(Pressure::Last), 2 * WRITTEN, "so less is left each time");
    }
}
