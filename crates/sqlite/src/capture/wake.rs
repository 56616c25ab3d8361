//! Sleeps until something may have been committed: idle costs nothing.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use std::os::fd::OwnedFd;

/// Watches one file for writes.
pub(super) struct Wake {
    events: OwnedFd,
}

impl Wake {
    pub(super) fn on(path: &Path) -> std::io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&events, path, WatchFlags::MODIFY)?;
        Ok(Self { events })
    }

    /// Waits for a write since the last call, at most this long. An early return is allowed: the caller looks anyway.
    pub(super) fn wait(&self, timeout: Duration) -> std::io::Result<()> {
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(&self.events, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.drain()
    }

    /// Forgets the writes that were noticed: what they wrote is looked for after this.
    fn drain(&self) -> std::io::Result<()> {
        let mut buffer = [0_u8; 4096];
        loop {
            match rustix::io::read(&self.events, &mut buffer) {
                Ok(1..) => {}
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
