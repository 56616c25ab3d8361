//! Sleeps until something may have been committed, or somebody rings: idle costs nothing.
//!
//! inotify tells of writes to the `-wal`, and nothing of the `-shm` that makes them commits: a writer may take its time between the two.
//! So the follower sleeps long only when no frame waits for that. As long as one does, it looks again in steps that grow.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::CaptureError;
use super::follower::Follower;
use super::recycle::CUT_OFF_AGAIN;
use super::turn::TURN_MAX;

/// Between two looks at the wal-index after the WAL was written: the write comes first.
pub(super) const LOOK_AGAIN: Duration = Duration::from_micros(20);
/// How often it is looked at again at once.
const LOOKS: u32 = 50;
/// The longest step while frames wait to become a commit: those of a long transaction, or what a rolled back one left.
const STEP_MAX: Duration = Duration::from_millis(500);

/// Ends the sleep of whoever waits on it, also when it is rung before. Clones are the same bell.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// When the operating system has no descriptor left.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Rings. From any thread, and without waiting.
    pub fn wake(&self) {
        // It fails only when the counter is full, and then it is rung.
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).ok();
    }

    /// Sleeps until it is rung, at most this long; says whether it was. Being rung ends one sleep.
    ///
    /// # Errors
    /// When the operating system cannot wait.
    pub fn wait(&self, timeout: Duration) -> std::io::Result<bool> {
        sleep(&mut [PollFd::new(&*self.0, PollFlags::IN)], timeout)?;
        drain(&self.0)
    }
}

/// Watches files, and a bell.
pub(super) struct Wake {
    events: OwnedFd,
    pub(super) waker: Waker,
}

/// What ended a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// Somebody rang.
    Rung,
    /// The file was written.
    Written,
    /// The pin has ended.
    Unpinned,
    /// The time was up.
    TimedOut,
}

impl Wake {
    /// Watches that files keep their names, and writes to the last one, the WAL.
    pub(super) fn on(database: &Path, wal: &Path) -> std::io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // A file that is open loses its name without being deleted, which shows as a change of its link count.
        let named = WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
        inotify::add_watch(&events, database, named)?;
        inotify::add_watch(&events, wal, named | WatchFlags::MODIFY)?;
        Ok(Self { events, waker: Waker::new()? })
    }

    fn wait(&self, timeout: Duration, pin: Option<BorrowedFd<'_>>) -> std::io::Result<Woken> {
        let waker = self.waker.0.as_fd();
        let fds = [self.events.as_fd(), waker, pin.unwrap_or(waker)];
        let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        sleep(&mut fds, timeout)?;
        if pin.is_some() && !fds[2].revents().is_empty() {
            return Ok(Woken::Unpinned);
        }
        // What was written is looked for after this.
        let written = drain(&self.events)?;
        Ok(match (drain(&self.waker.0)?, written) {
            (true, _) => Woken::Rung,
            (false, true) => Woken::Written,
            (false, false) => Woken::TimedOut,
        })
    }
}

fn sleep(fds: &mut [PollFd<'_>], timeout: Duration) -> std::io::Result<()> {
    let timeout = Timespec::try_from(timeout).ok();
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Forgets what was noticed; says whether there was something.
fn drain(descriptor: &OwnedFd) -> std::io::Result<bool> {
    let mut buffer = [0_u8; 4096];
    let mut found = false;
    loop {
        match rustix::io::read(descriptor, &mut buffer) {
            Ok(1..) => found = true,
            Ok(0) | Err(Errno::AGAIN) => return Ok(found),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Follower {
    /// Ends a wait of this follower from any thread.
    pub fn waker(&self) -> Waker {
        self.wake.waker.clone()
    }

    /// From now on this bell ends the waits: one that outlives the follower.
    pub fn set_waker(&mut self, waker: Waker) {
        self.wake.waker = waker;
    }

    /// Waits until something may have been committed, or the waker is rung, or the pin has ended, at most this long. It may return early.
    ///
    /// # Errors
    /// [`CaptureError`] when the operating system cannot tell.
    pub fn wait(&mut self, timeout: Duration) -> Result<(), CaptureError> {
        // A reader that ends writes nothing, and then there is something to be done.
        let timeout = if self.holds_unsummed() { timeout.min(CUT_OFF_AGAIN) } else { timeout };
        // So does a turn in which nobody writes.
        let timeout = if self.turns.is_running() { timeout.min(TURN_MAX) } else { timeout };
        let started = Instant::now();
        let mut step = LOOK_AGAIN * LOOKS;
        loop {
            // The next poll says what is wrong with the place.
            if self.has_news()? || self.database.pages.files.check_in_place().is_err() {
                return Ok(());
            }
            let left = timeout.saturating_sub(started.elapsed());
            let sleep = if self.is_settled()? { left } else { left.min(step) };
            step = (step * 2).min(STEP_MAX);
            let woken =
                self.wake.wait(sleep, self.pinned.descriptor()).map_err(|source| CaptureError::Io {
                    doing: "watch",
                    path: self.database.pages.files.wal_path().to_owned(),
                    source,
                })?;
            match woken {
                Woken::Rung | Woken::Unpinned => return Ok(()),
                Woken::TimedOut if started.elapsed() >= timeout => return Ok(()),
                Woken::TimedOut => {}
                Woken::Written => {
                    step = LOOK_AGAIN * LOOKS;
                    for _ in 0..LOOKS {
                        if self.has_news()? {
                            return Ok(());
                        }
                        std::thread::sleep(LOOK_AGAIN);
                    }
                }
            }
        }
    }

    /// How much is committed and not captured, in bytes of frames.
    ///
    /// # Errors
    /// [`CaptureError`] when the wal-index cannot be read.
    pub fn behind_bytes(&self) -> Result<u64, CaptureError> {
        let index = self.index()?;
        let captured = if index.salts == self.position.salts { self.position.frame } else { 0 };
        Ok(self.wal_bytes(index.last_frame.saturating_sub(captured)))
    }

    /// The size of the WAL up to the position, in bytes of frames.
    pub fn captured_bytes(&self) -> u64 {
        self.wal_bytes(self.position.frame)
    }

    /// The size of the WAL up to what is committed now, in bytes of frames.
    ///
    /// # Errors
    /// [`CaptureError`] when the wal-index cannot be read.
    pub fn used_bytes(&self) -> Result<u64, CaptureError> {
        Ok(self.wal_bytes(self.index()?.last_frame))
    }

    fn has_news(&self) -> Result<bool, CaptureError> {
        let index = self.index()?;
        Ok(index.salts != self.position.salts || index.last_frame != self.position.frame)
    }

    /// Whether nothing in the WAL can become a commit without another write to it: no frame of this generation stands behind the
    /// position, and no other generation has begun.
    fn is_settled(&self) -> Result<bool, CaptureError> {
        let files = &self.database.pages.files;
        if files.wal_len()? == 0 {
            return Ok(true);
        }
        // Whoever writes the header or a frame right now writes again, or has an event waiting for us.
        let Ok(header) = files.wal_header() else { return Ok(false) };
        let next = files.frame_header(self.position.frame + 1);
        let begun = next.is_ok_and(|frame| frame.salts == header.salts);
        Ok(header.salts == self.position.salts && !begun)
    }
}
