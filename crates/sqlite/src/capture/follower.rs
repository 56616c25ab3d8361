//! Goes along the WAL of one database and captures every commit exactly once, in order.
//!
//! Three things must stay true:
//! - a read transaction at or before the position is open at all times (hold.rs);
//! - the position runs ahead of what the sink has persisted only inside a poll, and a poll that fails ends the follower;
//! - only what the wal-index calls committed is read, never what a scan of frames finds.
//!
//! Knows nothing of where the commits go.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use super::attach::{Opened, load_frames, position_of, usable_bytes};
use super::counted::Counted;
use super::database::Database;
use super::frames::{FrameReader, UNSUMMED};
use super::hold::{Hold, Holds, Target};
use super::pin::{Pin, Pinned};
use super::portion::Portion;
use super::probes::planted::{Bug, planted};
use super::resume::{Left, Lost, Resumed, as_lost, resume};
use super::turn::Turns;
use super::view::Pages;
use super::wake::{LOOK_AGAIN, Wake};
use super::{CaptureError, Options, PollError, Sink, Statistics, WalPosition};
use crate::connection::{Connection, PATIENCE};
use crate::file::wal::Salts;
use crate::file::wal_index::WalIndex;
use crate::killable::reached;
use crate::state::RunningState;

/// How long the wal-index may look torn before SQLite is asked to repair it: its writer died.
const TORN_PATIENCE: Duration = Duration::from_millis(50);
/// How many generations of the WAL that have ended are remembered.
const ENDED_MAX: usize = 64;

/// What was committed at some time, to be compared with what was captured.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    salts: Salts,
    frame: u32,
    generation: u64,
}

/// How a position relates to what was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything up to it was captured.
    Captured,
    /// Something up to it was not captured yet.
    NotYet,
    /// It belongs to a generation of the WAL that the follower has not seen.
    Unknown,
}

/// Follows one database file.
pub struct Follower {
    // Fields are dropped in this order: first what reads through SQLite's handles, last the connections.
    pub(super) database: Database,
    pub(super) holds: Holds,
    pub(super) pinned: Pinned,
    /// Takes the write lock, and has SQLite repair a torn wal-index.
    pub(super) writer: Connection,
    pub(super) position: WalPosition,
    pub(super) options: Options,
    /// Where the write lock was last taken to have everything copied back.
    pub(super) recycled_at: Option<WalPosition>,
    /// When it was last tried to take it.
    pub(super) lock_tried: Option<Instant>,
    /// Whether somebody else had it then.
    pub(super) was_refused: bool,
    /// When most was last copied back without it.
    pub(super) copied: Option<Instant>,
    /// Those of an application that outruns the follower.
    pub(super) turns: Turns,
    pub(super) statistics: Statistics,
    /// The last generation in which SQLite left frames that a recovery would stop at.
    pub(super) unsummed_in: Option<Salts>,
    /// When it was last tried to cut that generation off.
    pub(super) cut_off_tried: Option<Instant>,
    /// Unknown after going on somewhere, until everything is captured.
    pub(super) counted: Option<Counted>,
    /// The last generations that were captured to their end.
    ended: VecDeque<Salts>,
    pub(super) wake: Wake,
    stopped: bool,
}

impl Follower {
    /// Attaches at the latest commit of a database: switches it to WAL mode if it is not, holds a read transaction there, scans the
    /// state and walks the pages.
    ///
    /// # Errors
    /// [`CaptureError`]; nothing is held then.
    pub fn attach(path: &Path, options: Options) -> Result<Self, CaptureError> {
        let Opened { anchor, hold, header, files, spare, writer, wake } = Opened::open(path)?;
        let (hold, position, changes) = position_of(hold, &files)?;
        let mut pages = Pages::new(files, usable_bytes(&header));
        let unsummed_frames = load_frames(&mut pages, position)?;
        // What a snapshot shows from here on leaves as well, and with `synchronous=NORMAL` nobody may have synced it yet (I2).
        pages.files.sync_wal()?;
        let database = Database::walk(pages, hold.connection())?;
        let resumed = Resumed { hold, spare, database, guard: None, unsummed_frames };
        let counted = Some(Counted { changes, commits: 0 });
        Self::begin(resumed, &anchor, writer, wake, position, options, counted)
    }

    /// Attaches exactly where another follower was left, whatever was committed since; or says why that cannot be proven. A pin that is
    /// named here is to be given to the follower as well ([`Follower::set_pin`]), before it is polled.
    ///
    /// # Errors
    /// [`CaptureError`]; nothing is held then.
    pub fn resume(
        path: &Path,
        options: Options,
        left: &Left,
        pin: Option<&mut (dyn Pin + '_)>,
    ) -> Result<Result<Self, Lost>, CaptureError> {
        let Opened { anchor, hold, files, spare, writer, wake, .. } = Opened::open(path)?;
        let resumed = resume(files, hold, spare, left, pin);
        match resumed.or_else(|error| as_lost(error).map(Err))? {
            Ok(resumed) => Self::begin(resumed, &anchor, writer, wake, left.position, options, None).map(Ok),
            Err(lost) => Ok(Err(lost)),
        }
    }

    fn begin(
        Resumed { hold, spare, database, guard, unsummed_frames }: Resumed,
        anchor: &Connection,
        writer: Connection,
        wake: Wake,
        position: WalPosition,
        options: Options,
        counted: Option<Counted>,
    ) -> Result<Self, CaptureError> {
        // From here on the application goes first.
        for connection in [anchor, hold.connection(), &spare, &writer] {
            connection.set_patience(Duration::ZERO)?;
        }
        Ok(Self {
            database,
            holds: Holds::new(hold, spare, position),
            pinned: Pinned::guarding(guard),
            writer,
            position,
            options,
            recycled_at: None,
            lock_tried: None,
            was_refused: false,
            copied: None,
            turns: Turns::default(),
            statistics: Statistics { unsummed_frames, ..Statistics::default() },
            unsummed_in: (unsummed_frames > 0).then_some(position.salts),
            cut_off_tried: None,
            counted,
            ended: VecDeque::new(),
            wake,
            stopped: false,
        })
    }

    /// Has a pin hold the place that this follower has captured up to, from the next poll on. It takes the place of another one.
    pub fn set_pin(&mut self, pin: Box<dyn Pin>) {
        self.pinned.set(pin);
    }

    /// Whether there is a pin that seems to live. One that does not is forgotten.
    pub fn is_pinned(&mut self) -> bool {
        self.pinned.is_there()
    }

    /// Whether the pin holds a place that this follower has captured up to: should it end now, the next one goes on exactly.
    pub fn is_kept(&self) -> bool {
        self.pinned.is_placed()
    }

    /// The connection whose read transaction stands exactly at the position as long as nothing was polled: for a snapshot.
    pub fn reader(&self) -> &Connection {
        self.holds.held().connection()
    }

    /// Up to where everything was captured.
    pub fn position(&self) -> WalPosition {
        self.position
    }

    /// The database's state at the position.
    pub fn state(&self) -> &RunningState {
        &self.database.state
    }

    /// What was seen since attaching.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// What each captured commit did to the trees, oldest first, since this was last asked; the last 65,536 of them.
    #[cfg(feature = "probes")]
    pub fn footprints(&mut self) -> Vec<super::probes::Footprint> {
        self.database.footprints.drain()
    }

    /// Captures what was committed since the last poll, has the sink persist it, and returns how many commits that were. When there is
    /// much, it stops after some megabytes of the WAL; when it returns 0, there was nothing new.
    ///
    /// # Errors
    /// [`PollError`]. The follower then has stopped: its position may be ahead of what the sink has kept, so it must be attached
    /// again.
    pub fn poll<S: Sink>(&mut self, sink: &mut S) -> Result<u64, PollError<S::Error>> {
        if self.stopped {
            return Err(CaptureError::Stopped.into());
        }
        let result = self.step(sink);
        reached("polled");
        self.stopped = result.is_err();
        result
    }

    fn step<S: Sink>(&mut self, sink: &mut S) -> Result<u64, PollError<S::Error>> {
        self.database.pages.files.check_in_place()?;
        let swaps = self.wants_swap() && self.holds.open_next()?;
        let places = (swaps || self.pinned.wants_placing()) && self.pinned.open_next();
        if swaps || places {
            // What is committed now is at or past what the next transactions see.
            let index = self.index()?;
            if swaps {
                self.holds.next_reaches(&index, self.position);
            }
            if places {
                self.pinned.next_reaches(Target::new(&index, self.holds.generation()));
            }
        }
        let awaited = self.await_turn()?;
        let mut commits = if awaited { 0 } else { self.capture_portion(sink)? };
        if self.wants_recycling()? {
            commits += self.recycle(sink)?;
        }
        if awaited && commits == 0 {
            // Somebody else kept the write lock, and there may be something to capture all the same.
            commits = self.capture_portion(sink)?;
        }
        Ok(commits)
    }

    fn capture_portion<S: Sink>(&mut self, sink: &mut S) -> Result<u64, PollError<S::Error>> {
        let portion = self.portion()?;
        let commits = self.advance(sink, portion)?;
        self.holds.close_last(self.position);
        self.pinned.close_last(self.position, self.holds.generation());
        reached("swapped");
        Ok(commits)
    }

    /// What is committed now.
    ///
    /// # Errors
    /// [`CaptureError`] when the wal-index cannot be read, or the application's files are not these any more.
    pub fn committed(&self) -> Result<Committed, CaptureError> {
        self.database.pages.files.check_in_place()?;
        let index = self.index()?;
        Ok(Committed { salts: index.salts, frame: index.last_frame, generation: self.holds.generation() })
    }

    /// Whether everything was captured that was committed then.
    pub fn has_captured(&self, committed: &Committed) -> bool {
        if committed.salts == self.position.salts {
            return self.position.frame >= committed.frame;
        }
        // The generation that the position was in then has ended, and was captured to its end.
        self.holds.generation() > committed.generation
    }

    /// Whether everything was captured that was committed when another process saw this position
    /// ([`super::committed_position`]). A position that is newer than the last poll may be called unknown.
    pub fn reach(&self, position: &WalPosition) -> Reach {
        if position.salts != self.position.salts {
            // That this generation ended means that it was captured to its end.
            let ended = self.ended.contains(&position.salts);
            return if ended { Reach::Captured } else { Reach::Unknown };
        }
        match position.frame.cmp(&self.position.frame) {
            Ordering::Less => Reach::Captured,
            Ordering::Greater => Reach::NotYet,
            Ordering::Equal if position.frame == 0 || position.checksum == self.position.checksum => {
                Reach::Captured
            }
            // The same numbers over other content: the files were exchanged.
            Ordering::Equal => Reach::Unknown,
        }
    }

    /// What is committed now.
    pub(super) fn index(&self) -> Result<WalIndex, CaptureError> {
        let started = Instant::now();
        loop {
            if let Some(index) = self.database.pages.files.index() {
                return Ok(index);
            }
            if started.elapsed() > PATIENCE {
                return Err(CaptureError::Busy);
            }
            if started.elapsed() > TORN_PATIENCE {
                // The writer died inside the update. Whoever reads next repairs it.
                match Hold::open(self.writer.clone()) {
                    Ok(hold) => drop(hold.close()),
                    Err(error) if error.is_busy() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Captures whole commits up to what is committed now, or so many of them as a portion is, and persists them.
    pub(super) fn advance<S: Sink>(
        &mut self,
        sink: &mut S,
        portion: Portion,
    ) -> Result<u64, PollError<S::Error>> {
        // What was left ahead of half a commit may be other frames by now: a writer that died before it was one, and a recovery.
        self.database.pages.files.forget_ahead();
        let index = self.index()?;
        let mut last = index.last_frame;
        let begins = index.salts != self.position.salts;
        if begins {
            // The held read transaction stood on the database file, so the generation before is complete there, and nothing
            // of it was left to capture.
            if !planted(Bug::KeepEndedGeneration) {
                self.database.pages.forget_frames();
            }
            self.ended.truncate(ENDED_MAX - 1);
            self.ended.push_front(self.position.salts);
            let (salts, pages) = (index.salts, self.position.pages);
            self.position = WalPosition { salts, frame: 0, checksum: [0, 0], pages };
            self.statistics.wal_resets += 1;
            self.holds.generation_ended();
            self.cut_off_tried = None;
            self.check_generation(&index)?;
        } else if last < self.position.frame {
            return Err(CaptureError::Gap { frame: last }.into());
        }
        if planted(Bug::ReadPastLastFrame) {
            last = self.last_written(last);
        }
        if last == self.position.frame {
            self.check_count(&index)?;
            if begins {
                // Nothing was committed; whoever goes on from here still looks for this generation.
                self.persist(sink, false)?;
            }
            return Ok(0);
        }
        let (commits, is_synced) = self.capture_and_sync(last, portion, sink)?;
        if self.position.frame == index.last_frame && self.position.checksum == UNSUMMED {
            // What SQLite itself goes on from.
            self.position.checksum = index.checksum;
        }
        self.statistics.commits += commits;
        self.statistics.wal_bytes_max = self.statistics.wal_bytes_max.max(self.wal_bytes(last));
        self.check_count(&index)?;
        if commits > 0 {
            reached("captured");
            self.persist(sink, is_synced)?;
            reached("kept");
        }
        Ok(commits)
    }

    fn persist<S: Sink>(&mut self, sink: &mut S, is_synced: bool) -> Result<(), PollError<S::Error>> {
        self.pinned.check(self.position, self.holds.generation())?;
        // I2: nothing leaves that the application's disk could still forget.
        if !is_synced {
            self.database.pages.files.sync_wal()?;
        }
        reached("synced");
        sink.persist(&self.position, self.database.settled()).map_err(PollError::Sink)
    }

    /// Captures, and says whether the WAL was synced as well: everything up to `last` was written before this begins, so where it is much,
    /// the disk can be at work meanwhile.
    fn capture_and_sync<S: Sink>(
        &mut self,
        last: u32,
        portion: Portion,
        sink: &mut S,
    ) -> Result<(u64, bool), PollError<S::Error>> {
        if self.wal_bytes(last - self.position.frame) < SYNC_BESIDE_BYTES {
            return Ok((self.capture_to(last, portion, sink)?, false));
        }
        let wal = self.database.pages.files.wal_to_sync();
        let (commits, synced) = std::thread::scope(|scope| {
            let sync = std::thread::Builder::new().name("synddb-sync".to_owned());
            let sync = sync.spawn_scoped(scope, || wal.sync_data());
            (self.capture_to(last, portion, sink), sync.map(|sync| sync.join()))
        });
        let commits = commits?;
        // Where there was no thread for it, it is still to be done.
        let is_synced = match synced {
            Ok(Ok(synced)) => self.database.pages.files.wal_synced(synced).map(|()| true)?,
            Ok(Err(_)) | Err(_) => false,
        };
        Ok((commits, is_synced))
    }

    fn capture_to<S: Sink>(
        &mut self,
        last: u32,
        portion: Portion,
        sink: &mut S,
    ) -> Result<u64, PollError<S::Error>> {
        let mut commits = 0;
        let first = self.position.frame;
        while !self.is_enough(&portion, commits, first) {
            let files = &self.database.pages.files;
            let mut reader = FrameReader::new(files, self.position, last)?;
            let ahead = reader.commits()?;
            if ahead.iter().any(|commit| commit.unsummed > 0) {
                self.unsummed_in = Some(self.position.salts);
            }
            if ahead.is_empty() {
                break;
            }
            for commit in ahead {
                // Commits are small, or the sink is slow: those that were taken up may last for long.
                if self.is_enough(&portion, commits, first) {
                    break;
                }
                let end = commit.end;
                self.statistics.unsummed_frames += commit.unsummed;
                self.statistics.rows += self.database.capture(self.position, commit, sink)?;
                self.position = end;
                commits += 1;
            }
        }
        Ok(commits)
    }

    /// Whether so many commits from a frame on are a portion.
    fn is_enough(&self, portion: &Portion, commits: u64, first: u32) -> bool {
        let committed = || self.database.pages.files.index().map_or(0, |index| index.last_frame);
        portion.is_enough(commits, self.position.frame - first, Instant::now(), committed)
    }

    /// How large so many frames are.
    pub(super) fn wal_bytes(&self, frames: u32) -> u64 {
        u64::from(frames) * self.database.pages.files.frame_bytes() as u64
    }

    /// The last frame that looks valid, for the planted fault that takes it for committed.
    fn last_written(&self, last: u32) -> u32 {
        let files = &self.database.pages.files;
        let written =
            |frame: &u32| files.frame_header(*frame).is_ok_and(|header| header.salts == self.position.salts);
        (last + 1..).take_while(written).last().unwrap_or(last)
    }
}

/// So many bytes of frames are worth a thread that syncs them meanwhile.
const SYNC_BESIDE_BYTES: u64 = 256 << 10;
