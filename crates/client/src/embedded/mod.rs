//! A database in the application's own process, whose commits are captured inside their own transaction.
//!
//! ```text
//! write -> BEGIN -> closure -> changes -> row of _synddb_outbox -> COMMIT -> feed -> the agent's outbox -> sequencer
//!                                              ^ forgotten in a later transaction, once it is there
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `connect.rs` | opening the file so that nobody else captures it |
//! | `open.rs` | going on exactly, or as a new incarnation |
//! | `transaction.rs` | one transaction from BEGIN to COMMIT |
//! | `guard.rs` | what a closure may not do |
//! | `waiting.rs` | the table of commits that wait |
//! | `error.rs` | what can go wrong |
//!
//! What must stay true:
//!
//! - A commit and its row in `_synddb_outbox` are one transaction; the row is deleted only after the agent's outbox has it durably. So each commit
//!   enters that outbox exactly once (I1), whenever the process is killed.
//! - Nothing leaves before it is durable: the file is written with `synchronous=FULL` (I2).
//! - A transaction that is refused leaves database, numbers and state as they were.
//! - A change by somebody else is never taken for ours: it is noticed before the next transaction changes anything, and when the database is
//!   opened.

mod connect;
mod error;
mod guard;
mod open;
mod transaction;
mod waiting;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use synddb_agent::embedded::Feed;
use synddb_agent::{AgentStatus, Ended, Handle, Tls, Token, Until, outbox};
use synddb_protocol::http::Position;
use synddb_protocol::signing::VerifyingKey;
use synddb_sqlite::capture::embedded::Recorder;
use synddb_sqlite::connection::{Connection, PATIENCE};
use synddb_sqlite::state::RunningState;

pub use error::Error;
pub use guard::Forbidden;
use guard::Guard;
use waiting::Waiting;

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a file, which is made where it is missing.
    File(PathBuf),
    /// In memory: each process begins a new incarnation.
    Memory,
}

/// Who else may open the file meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Locking {
    /// Others may read it. What they write is noticed, and ends this database.
    #[default]
    Shared,
    /// Nobody.
    Exclusive,
}

/// What a database is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent's own folder, `<database>-synddb` by custom. It is made where it is missing.
    pub folder: PathBuf,
    /// The sequencers, each as `http://host:port` or `https://host:port`, that take over from one another; the first one is asked first.
    pub sequencers: Vec<String>,
    /// What each sequencer knows this database by.
    pub token: Token,
    /// How `https` is spoken with them.
    pub tls: Tls,
    /// The keys that may have signed what a sequencer answers; without any, that of the first receipt.
    pub sequencer_keys: Vec<VerifyingKey>,
    /// What bounds the agent's outbox.
    pub outbox: outbox::Options,
    /// How long what is committed may take to be stored when the database is closed.
    pub drain_max: Duration,
    /// How long a transaction waits: for locks of others, and for room in the outbox.
    pub patience: Duration,
    /// Who else may open the file meanwhile.
    pub locking: Locking,
    /// Whether foreign keys are enforced. A transaction cannot change it.
    pub foreign_keys: bool,
}

impl Options {
    /// The usual ones.
    pub fn new(folder: impl Into<PathBuf>, sequencer: impl Into<String>, token: impl Into<Token>) -> Self {
        Self {
            folder: folder.into(),
            sequencers: vec![sequencer.into()],
            token: token.into(),
            tls: Tls::default(),
            sequencer_keys: Vec::new(),
            outbox: outbox::Options::default(),
            drain_max: Duration::from_secs(30),
            patience: PATIENCE,
            locking: Locking::default(),
            foreign_keys: true,
        }
    }
}

/// How far everything has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What is committed next.
    pub committed_next: Position,
    /// What the agent says of itself.
    pub agent: AgentStatus,
}

/// A database whose every commit is captured in its own transaction, and sent to a sequencer.
///
/// It may be moved to another thread, and is used by one at a time.
pub struct Database {
    // Dropped in this order: what uses the connection goes before it, and the lock goes last.
    waiting: Waiting,
    recorder: Recorder,
    state: RunningState,
    guard: Guard,
    connection: Connection,
    feed: Feed,
    handle: Handle,
    /// What `PRAGMA data_version` said when the state was known to be the database's.
    data_version: i64,
    patience: Duration,
    /// An error after which nothing is certain any more.
    is_broken: bool,
    /// Says to followers that this file is captured.
    _lock: Option<File>,
}

#[allow(unsafe_code, reason = "the clones of one connection do not go to different threads")]
// SAFETY: what keeps this from being `Send` by itself are clones of one `Connection`, and pointers to its statements and hooks. All of them lie
// in this value and move together: closures are given a borrowed `rusqlite::Connection`, which cannot be cloned, and nothing else hands one
// out. SQLite is used by one thread at a time, which is all that a connection opened without a mutex asks for.
unsafe impl Send for Database {}

impl Database {
    /// Waits until everything that is committed is sequenced or stored.
    ///
    /// # Errors
    /// [`Error::Push`] when it does not come there in time, or at all; [`Error::Broken`] when nobody knows any more what is committed.
    pub fn push(&self, until: Until, deadline: Instant) -> Result<Status, Error> {
        if self.is_broken {
            return Err(Error::Broken);
        }
        let agent = self.handle.push(until, deadline)?;
        Ok(Status { committed_next: self.committed_next()?, agent })
    }

    /// How far everything has come. Never waits.
    ///
    /// # Errors
    /// [`Error::Agent`] when the numbers of the incarnation are used up.
    pub fn status(&self) -> Result<Status, Error> {
        Ok(Status { committed_next: self.committed_next()?, agent: self.handle.status() })
    }

    /// Ends: has everything that is committed stored within the time that was given for it, and closes the database. Says whether it is; never
    /// that it is after an error that left open what was committed. A database that is dropped instead waits for nothing to be stored.
    ///
    /// # Errors
    /// [`Error::Agent`] that ended the agent before.
    pub fn close(mut self) -> Result<Ended, Error> {
        self.handle.stop();
        let ended = self.handle.join();
        // What is not forgotten now is forgotten by the next process.
        self.forget_kept().ok();
        let ended = ended?;
        Ok(Ended { complete: ended.complete && !self.is_broken, ..ended })
    }

    fn committed_next(&self) -> Result<Position, Error> {
        Ok(Position { incarnation: self.feed.incarnation(), commit: self.feed.next()?, part: None })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Whoever opens it next has to find the folder free. What is committed waits in it, and here. The agent's threads call `on_event` until
        // they have ended; after `close`, they have.
        self.handle.stop_at_once();
        self.handle.join().ok();
    }
}
