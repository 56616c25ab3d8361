//! What the thread that captures takes commits from: the WAL of a database, or an application that hands them over.
//!
//! Both give each commit once, in order, and have the outbox keep it before they go on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use synddb_sqlite::capture::{Committed, Follower, PollError, Reach, Statistics, Waker, WalPosition};

use crate::embedded::FeedReader;
use crate::error::AgentError;
use crate::outbox::Outbox;

/// What commits come from.
pub(crate) enum Source {
    Wal(Box<Follower>),
    Fed(FeedReader),
}

/// What was committed at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark {
    Wal(Committed),
    /// Everything before this number.
    Fed(u64),
}

impl Source {
    /// What is committed now.
    pub(crate) fn committed(&self) -> Result<Mark, AgentError> {
        Ok(match self {
            Self::Wal(follower) => Mark::Wal(follower.committed()?),
            Self::Fed(feed) => Mark::Fed(feed.end()),
        })
    }

    /// Whether everything was captured that was committed then. A mark of another source was captured by that one.
    pub(crate) fn has_captured(&self, mark: &Mark) -> bool {
        match (self, mark) {
            (Self::Wal(follower), Mark::Wal(committed)) => follower.has_captured(committed),
            (Self::Fed(feed), Mark::Fed(end)) => feed.has_kept(*end),
            (Self::Wal(_), Mark::Fed(_)) | (Self::Fed(_), Mark::Wal(_)) => true,
        }
    }

    /// How a position in a WAL relates to what was captured.
    pub(crate) fn reach(&self, position: &WalPosition) -> Reach {
        match self {
            Self::Wal(follower) => follower.reach(position),
            Self::Fed(_) => Reach::Unknown,
        }
    }

    /// Has the outbox keep some of what is committed; says how many commits. Nothing when it has no room.
    pub(crate) fn poll(&mut self, outbox: &mut Outbox) -> Result<u64, AgentError> {
        match self {
            Self::Fed(feed) => {
                if !outbox.has_room() {
                    return Ok(0);
                }
                feed.poll(outbox).inspect_err(|_| {
                    outbox.give_up().ok();
                })
            }
            Self::Wal(follower) => {
                let Some(mut room) = outbox.admitted() else { return Ok(0) };
                let polled = follower.poll(&mut room);
                drop(room);
                polled.map_err(|error| {
                    // What the poll gave so far is taken back, as far as that is possible: the outbox is opened anew before it is used.
                    outbox.give_up().ok();
                    match error {
                        PollError::Capture(error) => error.into(),
                        PollError::Sink(error) => error.into(),
                    }
                })
            }
        }
    }

    /// Waits until something may have been committed, or `waker` is rung, at most this long. It may return early.
    pub(crate) fn wait(&mut self, waker: &Waker, timeout: Duration) -> Result<(), AgentError> {
        match self {
            Self::Wal(follower) => Ok(follower.wait(timeout)?),
            Self::Fed(_) => waker.wait(timeout).map(|_| ()).map_err(waiting),
        }
    }

    /// How much is committed and not captured, in bytes.
    pub(crate) fn behind_bytes(&self) -> Result<u64, AgentError> {
        Ok(match self {
            Self::Wal(follower) => follower.behind_bytes()?,
            Self::Fed(feed) => feed.waiting_bytes(),
        })
    }

    /// The size of the WAL up to what was captured, in bytes of frames.
    pub(crate) fn wal_bytes(&self) -> u64 {
        match self {
            Self::Wal(follower) => follower.captured_bytes(),
            Self::Fed(_) => 0,
        }
    }

    /// How much of the WAL holds something, in bytes. Its file never becomes shorter.
    pub(crate) fn wal_used_bytes(&self) -> Result<u64, AgentError> {
        Ok(match self {
            Self::Wal(follower) => follower.used_bytes()?,
            Self::Fed(_) => 0,
        })
    }

    pub(crate) fn statistics(&self) -> Statistics {
        match self {
            Self::Wal(follower) => follower.statistics(),
            Self::Fed(feed) => feed.statistics(),
        }
    }
}

/// An error of the operating system while waiting.
pub(crate) fn waiting(source: io::Error) -> AgentError {
    AgentError::Io { doing: "wait", path: PathBuf::new(), source }
}
