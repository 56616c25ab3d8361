//! Commits on their way from the thread that makes them to the one that keeps them, within bounds.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{CommitNumber, Incarnation};
use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::{Statistics, Waker};

use super::NO_POSITION;
use crate::error::AgentError;
use crate::outbox::Outbox;

/// From so many bytes on that are handed over and not kept, no more are taken. The last commit may bring it above.
pub const FEED_BYTES_MAX: u64 = 64 << 20;

/// From so many commits on that are handed over and not kept, no more are taken.
pub const FEED_COMMITS_MAX: u64 = 65_536;

/// Most bytes that are kept in one go.
const POLL_BYTES: u64 = 8 << 20;

/// A commit that was handed over.
#[derive(Clone)]
struct Given {
    number: CommitNumber,
    changes: Changes,
    state: StateHash,
    rows: u64,
    bytes: u64,
}

struct Queue {
    waiting: VecDeque<Given>,
    /// What waits, in bytes, also of what was handed over after the reader went.
    bytes: u64,
    /// The number of the next commit to be handed over.
    end: u64,
    /// The number of the next commit to be kept.
    kept: u64,
    is_closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    waker: Waker,
    incarnation: Incarnation,
}

/// Hands commits over. Its owner keeps each of them until it is kept here.
pub struct Feed(Arc<Shared>);

/// Takes commits.
pub(crate) struct FeedReader {
    shared: Arc<Shared>,
    statistics: Statistics,
}

/// Both ends of a feed whose first commit has this number.
pub(super) fn new(incarnation: Incarnation, next: CommitNumber, waker: Waker) -> (Feed, FeedReader) {
    let queue =
        Queue { waiting: VecDeque::new(), bytes: 0, end: next.get(), kept: next.get(), is_closed: false };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new(), waker, incarnation });
    (Feed(Arc::clone(&shared)), FeedReader { shared, statistics: Statistics::default() })
}

impl Feed {
    /// The incarnation that the commits belong to.
    pub fn incarnation(&self) -> Incarnation {
        self.0.incarnation
    }

    /// The number that the next commit has to have.
    ///
    /// # Errors
    /// [`AgentError::Exhausted`] when there is none left.
    pub fn next(&self) -> Result<CommitNumber, AgentError> {
        Ok(CommitNumber::new(self.0.queue().end)?)
    }

    /// The number of the first commit that is not kept yet: whoever hands them over may forget what comes before it.
    pub fn kept(&self) -> u64 {
        self.0.queue().kept
    }

    /// Waits until there is room for a commit, at most this long; says whether there is. Where nobody takes commits any more, it does not wait:
    /// what is committed then is found by the next process.
    pub fn has_room(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut queue = self.0.queue();
        loop {
            if queue.bytes < FEED_BYTES_MAX && queue.end - queue.kept < FEED_COMMITS_MAX {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if queue.is_closed || left.is_zero() {
                return false;
            }
            queue = self.0.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether nobody takes commits any more: the agent has ended.
    pub fn is_closed(&self) -> bool {
        self.0.queue().is_closed
    }

    /// Hands over the next commit, which is durable where it was made. `state` is the database's after it, `rows` how many changed.
    pub fn give(&self, changes: Changes, state: StateHash, rows: u64) {
        let bytes = (changes.rows.len() as u64).saturating_add(64);
        let mut queue = self.0.queue();
        if let Ok(number) = CommitNumber::new(queue.end)
            && !queue.is_closed
        {
            queue.waiting.push_back(Given { number, changes, state, rows, bytes });
        }
        queue.end += 1;
        queue.bytes += bytes;
        drop(queue);
        self.0.waker.wake();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // It is whole after every change, so a panic elsewhere leaves it readable.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FeedReader {
    /// Keeps some of what was handed over, in one transaction; says how many commits.
    pub(crate) fn poll(&mut self, outbox: &mut Outbox) -> Result<u64, AgentError> {
        // A copy stays in the queue until the outbox has it: what fails here is tried again.
        let mut next = Vec::new();
        let mut bytes = 0;
        for given in &self.shared.queue().waiting {
            if bytes > POLL_BYTES {
                break;
            }
            bytes += given.bytes;
            next.push(given.clone());
        }
        let Some(last) = next.last().map(|given| given.number.get()) else { return Ok(0) };
        let mut rows = 0;
        let mut commits = 0;
        for given in next {
            let expected = outbox.next_commit().get() + commits;
            // A commit that failed may be kept after all.
            if given.number.get() < expected {
                continue;
            }
            if given.number.get() > expected {
                return Err(AgentError::OutOfOrder { expected, found: given.number.get() });
            }
            outbox.take_commit(given.changes, given.state)?;
            commits += 1;
            rows += given.rows;
        }
        if commits > 0 {
            outbox.keep(NO_POSITION)?;
        }
        self.statistics.commits += commits;
        self.statistics.rows += rows;
        let mut queue = self.shared.queue();
        while let Some(given) = queue.waiting.pop_front_if(|given| given.number.get() <= last) {
            queue.bytes = queue.bytes.saturating_sub(given.bytes);
        }
        queue.kept = last + 1;
        drop(queue);
        self.shared.changed.notify_all();
        Ok(commits)
    }

    /// The number of the next commit to be handed over: everything before it was committed.
    pub(crate) fn end(&self) -> u64 {
        self.shared.queue().end
    }

    /// Whether everything before this number is kept.
    pub(crate) fn has_kept(&self, end: u64) -> bool {
        self.shared.queue().kept >= end
    }

    /// How much waits, in bytes.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.shared.queue().bytes
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.statistics
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.is_closed = true;
        queue.waiting.clear();
        drop(queue);
        self.shared.changed.notify_all();
    }
}
