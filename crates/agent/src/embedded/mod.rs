//! Commits that an application hands over itself: the outbox, the shipper and the incarnations of an agent, without a WAL to follow.
//!
//! ```text
//! the application's thread                          the agent's threads
//! Opening::open --> keep what the last process left
//!              --> resume | begin (a snapshot) ---> capture <-- Feed
//! COMMIT, then Feed::give ------------------------> outbox --> sequencer --> store
//! Feed::kept: what the application may forget <---- kept durably
//! ```
//!
//! What must stay true: whoever hands commits over keeps each of them durably until it is [`Feed::kept`], numbered as the outbox numbers
//! them. So a killed process leaves either the commit there, or here, or at both, and its number tells (I1).
//!
//! Knows nothing of where the application keeps them, and of the database save for one snapshot.

mod feed;

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use synddb_protocol::hash::StateHash;
use synddb_protocol::id::{CommitNumber, Incarnation, StreamId};
use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::WalPosition;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;

use crate::attach::{Attached, Beginner, Left, Running};
use crate::capture::{Capture, Start};
use crate::config::Config;
use crate::error::AgentError;
use crate::event::{Because, Event, Events, How};
use crate::handle::{CALLS_MAX, EndsBoard, Handle, Shared};
use crate::home::{Home, IncarnationFolder};
use crate::outbox::Outbox;
use crate::ship;
use crate::source::Source;
pub(crate) use feed::FeedReader;
pub use feed::{FEED_BYTES_MAX, FEED_COMMITS_MAX, Feed};

/// An agent whose folder is taken, and which has not begun yet.
pub struct Opening {
    config: Config,
    home: Arc<Home>,
    events: Events,
    shared: Arc<Shared>,
    older: Vec<IncarnationFolder>,
    left: Option<Left>,
}

/// What the last process has kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastKept {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The number of the next commit.
    pub next: CommitNumber,
    /// The state hash after the last one.
    pub state: StateHash,
}

impl Opening {
    /// Takes the folder of `config`, and opens what it holds. `on_event` is called from the agent's threads, one at a time.
    ///
    /// # Errors
    /// [`AgentError`] when the folder is another agent's, or what it holds cannot be read.
    pub fn open(config: Config, on_event: impl Fn(Event) + Send + 'static) -> Result<Self, AgentError> {
        ship::check_sequencers(&config.sequencers)?;
        let home = Arc::new(Home::open(&config.folder)?);
        let shared = Shared::new(home.stream())?;
        let mut older = home.incarnations()?;
        let left = Left::newest(&home, &mut older, &config)?;
        Ok(Self { config, home, events: Events::to(on_event), shared, older, left })
    }

    /// The stream.
    pub fn stream(&self) -> StreamId {
        self.home.stream()
    }

    /// What the last process has kept, if there was one.
    pub fn last_kept(&self) -> Option<LastKept> {
        let outbox = &self.left.as_ref()?.outbox;
        Some(LastKept {
            incarnation: outbox.incarnation(),
            next: outbox.next_commit(),
            state: outbox.state(),
        })
    }

    /// Keeps commits that the last process has made and not handed over, durably and all of them or none. The first is the next one.
    ///
    /// They are kept whatever the outbox holds: an agent that does not start sends nothing, and makes no room. The bounds of the feed are theirs.
    ///
    /// # Errors
    /// [`AgentError`] when they cannot be kept. Nothing is then.
    pub fn keep(&mut self, commits: Vec<(Changes, StateHash)>) -> Result<(), AgentError> {
        let Some(left) = &mut self.left else { return Ok(()) };
        if commits.is_empty() {
            return Ok(());
        }
        Ok(left.outbox.keep_above_budget(commits, NO_POSITION)?)
    }

    /// Goes on with the incarnation that was left: the database holds what was kept last, and nothing else. Without one there is nothing to
    /// go on with.
    ///
    /// # Errors
    /// [`AgentError`] when it cannot be started.
    pub fn resume(mut self) -> Result<(Handle, Feed), AgentError> {
        let Some(Left { outbox, folder }) = self.left.take() else { return Err(AgentError::NothingLeft) };
        self.start(outbox, folder, None, How::Resumed)
    }

    /// Begins an incarnation with a snapshot of what `connection` sees in its transaction, whose state is `state`.
    ///
    /// # Errors
    /// [`AgentError`] when the snapshot cannot be taken, or the agent cannot be started. When it fails, the incarnation may exist.
    pub fn begin(
        mut self,
        connection: &Connection,
        state: &RunningState,
        because: Because,
    ) -> Result<(Handle, Feed), AgentError> {
        let left = self.left.take();
        let beginner = Beginner {
            config: &self.config,
            home: &self.home,
            events: &self.events,
            stopping: &self.shared.stopping,
            database: None,
        };
        let before = left.as_ref().map(|left| &left.outbox);
        let (outbox, folder) = beginner.begin(connection, state, NO_POSITION, before)?;
        self.start(outbox, folder, left, How::New { because })
    }

    fn start(
        self,
        outbox: Outbox,
        folder: IncarnationFolder,
        before: Option<Left>,
        how: How,
    ) -> Result<(Handle, Feed), AgentError> {
        let Self { config, home, events, shared, older, .. } = self;
        let (feed, reader) = feed::new(outbox.incarnation(), outbox.next_commit(), shared.waker.clone());
        let left = before.iter().map(|before| before.outbox.incarnation());
        let awaited = left.chain([outbox.incarnation()]).collect();
        let link =
            ship::start(&config, Arc::clone(&home), Arc::clone(&shared), events.clone(), older, awaited)?;
        let (calls, incoming) = sync_channel(CALLS_MAX);
        let capture = Capture::new(config, home, events, Arc::clone(&shared), incoming, link);
        let fed = Box::new(Fed { reader, outbox, folder, before, how });
        let ends = EndsBoard(Arc::clone(&shared));
        let thread = ship::spawn("synddb-capture", move || {
            let _ends = ends;
            capture.run(Start::Fed(fed))
        })?;
        Ok((Handle::new(shared, calls, thread), feed))
    }
}

/// An incarnation whose commits are handed over, on its way to the thread that keeps them.
pub(crate) struct Fed {
    reader: FeedReader,
    outbox: Outbox,
    folder: IncarnationFolder,
    before: Option<Left>,
    how: How,
}

impl Fed {
    pub(crate) fn attached(self) -> Attached {
        let Self { reader, outbox, folder, before, how } = self;
        Attached { running: Running { source: Source::Fed(reader), outbox, folder }, before, how }
    }
}

/// There is no WAL. No generation of one has these salts at a frame, so a follower that finds it begins anew.
const NO_POSITION: WalPosition = WalPosition { salts: [0, 0], frame: 0, checksum: [0, 0], pages: 0 };
