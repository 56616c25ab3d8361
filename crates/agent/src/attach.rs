//! Attaching to a database: exactly where the last incarnation was left, or as a new one that begins with a snapshot.
//!
//! ```text
//! the pin that was left, if any --> Follower::resume at the outbox's position, with its state? --yes--> go on
//!                                                          | no, and why
//!                                                          v
//!            Follower::attach, and the last captured state --> what differs, as one commit (reconcile.rs) --> go on
//!                                                          | none, or another file
//!                                                          v
//!                       spool a snapshot --> manifest --> outbox --> name the folder: the incarnation exists
//! ```
//!
//! What must stay true: a gap is never silent. Going on exactly needs proof that everything committed since is still to be read
//! (`synddb_sqlite::capture::Follower::resume`). Everything else is a commit of its own kind, or a new incarnation that names what the one before
//! it ended with. A database that is another file than before was put back, or made anew: that is no gap of this incarnation.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use synddb_protocol::id::{Incarnation, IncarnationCounter, IncarnationNonce};
use synddb_protocol::log::{Body, Entry};
use synddb_protocol::submission::{Predecessor, Snapshot, SnapshotPlace};
use synddb_sqlite::capture::{self, Follower, Lost, Pin, Waker, WalPosition};
use synddb_sqlite::connection::Connection;
use synddb_sqlite::killable::reached;
use synddb_sqlite::snapshot::{StoredChunk, Writer};
use synddb_sqlite::state::RunningState;

use crate::config::Config;
use crate::error::{AgentError, not_attached};
use crate::event::{Because, Event, Events, How};
use crate::home::{DatabaseFile, Home, IncarnationFolder, drawn, failed};
use crate::outbox::{Beginning, Outbox};
use crate::pin::{self, PinPeer};
use crate::reconcile::{self, Live, Outcome};
use crate::ship;
use crate::source::Source;

/// An incarnation that is captured.
pub(crate) struct Running {
    pub(crate) source: Source,
    pub(crate) outbox: Outbox,
    pub(crate) folder: IncarnationFolder,
}

/// The newest incarnation that has begun, while nobody captures it.
pub(crate) struct Left {
    pub(crate) outbox: Outbox,
    pub(crate) folder: IncarnationFolder,
}

/// What attaching gave.
pub(crate) struct Attached {
    pub(crate) running: Running,
    /// The incarnation before, when a new one has begun.
    pub(crate) before: Option<Left>,
    pub(crate) how: How,
}

impl Left {
    /// The last one of these incarnations, which is taken out of the list.
    pub(crate) fn newest(
        home: &Home,
        incarnations: &mut Vec<IncarnationFolder>,
        config: &Config,
    ) -> Result<Option<Self>, AgentError> {
        let Some(folder) = incarnations.pop() else { return Ok(None) };
        let outbox = Outbox::open(&folder.outbox(), config.outbox)?;
        ship::check_stream(home, &outbox)?;
        Ok(Some(Self { outbox, folder }))
    }
}

/// What attaching needs.
pub(crate) struct Attacher<'a> {
    pub(crate) config: &'a Config,
    pub(crate) home: &'a Home,
    pub(crate) events: &'a Events,
    pub(crate) waker: &'a Waker,
    /// Set when the agent is asked to end.
    pub(crate) stopping: &'a AtomicBool,
}

impl Attacher<'_> {
    /// Attaches, and goes on with the incarnation that was left or begins another one. When it fails, `left` is as it was.
    pub(crate) fn attach(&self, left: &mut Option<Left>) -> Result<Attached, AgentError> {
        let options = capture::Options::for_wal(self.config.wal_bytes_max);
        let mut pin = PinPeer::find(&self.config.database, self.home.folder());
        let Some(found) = left.take() else {
            let follower = self.follow(options)?;
            return self.anew(follower, pin, left, Because::FirstAttach);
        };
        let because = match self.resume(&found, options, pin.as_mut()) {
            Ok(Ok(follower)) => return Ok(self.go_on(follower, pin, found, How::Resumed)),
            Ok(Err(lost)) => {
                let was = found.folder.database();
                let is_another = was.is_some_and(|was| {
                    DatabaseFile::at(&self.config.database).ok().is_none_or(|file| file.is_another(was))
                });
                if is_another { Because::Replaced } else { lost.into() }
            }
            Err(error) => {
                *left = Some(found);
                return Err(error);
            }
        };
        // What it held is of no use any more, and what comes now may take long.
        drop(pin);
        pin::dismiss(self.home.folder());
        let found = left.insert(found);
        match self.reconcile(found, options, &because)? {
            Ok((follower, rows)) => {
                let how = How::Reconciled { because, rows };
                let found = left.take().ok_or(AgentError::NothingLeft)?;
                Ok(self.go_on(follower, None, found, how))
            }
            Err(follower) => self.anew(follower, None, left, because),
        }
    }

    /// Makes what differs from the last captured state one commit, where that state can be had; says how many rows differ.
    fn reconcile(
        &self,
        left: &mut Left,
        options: capture::Options,
        because: &Because,
    ) -> Result<Result<(Follower, u64), Follower>, AgentError> {
        if *because == Because::Replaced || self.config.last_state.is_none() {
            return self.follow(options).map(Err);
        }
        // Restored first: while the database is attached, its WAL does not begin anew.
        let base = reconcile::restore_last(self.config, left.outbox.stream(), self.stopping)?;
        let follower = self.follow(options)?;
        let live = Live { reader: follower.reader(), state: follower.state(), position: follower.position() };
        let outcome = match base {
            Ok(base) => reconcile::reconcile(&base, live, &mut left.outbox, self.stopping)?,
            Err(why) => Outcome::Impossible(why),
        };
        Ok(match outcome {
            Outcome::Reconciled { rows } => Ok((follower, rows)),
            Outcome::Impossible(why) => {
                self.events.say(Event::NotReconciled { detail: synddb_protocol::chain(&why) });
                Err(follower)
            }
        })
    }

    fn follow(&self, options: capture::Options) -> Result<Follower, AgentError> {
        Follower::attach(&self.config.database, options)
            .map_err(|error| not_attached(error, &self.config.database))
    }

    /// Goes on in the incarnation that was left.
    fn go_on(&self, follower: Follower, pin: Option<PinPeer>, left: Left, how: How) -> Attached {
        let running =
            Running { source: self.source(follower, pin), outbox: left.outbox, folder: left.folder };
        Attached { running, before: None, how }
    }

    /// Begins an incarnation with what the follower stands at.
    fn anew(
        &self,
        follower: Follower,
        pin: Option<PinPeer>,
        left: &mut Option<Left>,
        because: Because,
    ) -> Result<Attached, AgentError> {
        let Attacher { config, home, events, stopping, .. } = *self;
        let database = Some(&config.database);
        let beginner = Beginner { config, home, events, stopping, database };
        let before = left.as_ref().map(|left| &left.outbox);
        let (outbox, folder) =
            beginner.begin(follower.reader(), follower.state(), follower.position(), before)?;
        let running = Running { source: self.source(follower, pin), outbox, folder };
        Ok(Attached { running, before: left.take(), how: How::New { because } })
    }

    /// Goes on exactly where an incarnation was left, or says why that cannot be proven.
    fn resume(
        &self,
        left: &Left,
        options: capture::Options,
        pin: Option<&mut PinPeer>,
    ) -> Result<Result<Follower, Lost>, AgentError> {
        let was = capture::Left { position: left.outbox.position(), state: left.outbox.state() };
        let pin = pin.map(|pin| pin as &mut dyn Pin);
        Follower::resume(&self.config.database, options, &was, pin)
            .map_err(|error| not_attached(error, &self.config.database))
    }

    /// What is captured from now on, and the pin that was found.
    fn source(&self, mut follower: Follower, pin: Option<PinPeer>) -> Source {
        follower.set_waker(self.waker.clone());
        if let Some(pin) = pin {
            self.events.say(Event::Pinned { pid: pin.pid() });
            follower.set_pin(Box::new(pin));
        }
        Source::Wal(Box::new(follower))
    }
}

/// What beginning an incarnation needs.
pub(crate) struct Beginner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) home: &'a Home,
    pub(crate) events: &'a Events,
    /// Set when the agent is asked to end.
    pub(crate) stopping: &'a AtomicBool,
    /// The database, where it is a file that can be told from another.
    pub(crate) database: Option<&'a PathBuf>,
}

impl Beginner<'_> {
    /// Begins an incarnation with what `reader` sees in its transaction: at this position, with this state.
    pub(crate) fn begin(
        &self,
        reader: &Connection,
        state: &RunningState,
        position: WalPosition,
        before: Option<&Outbox>,
    ) -> Result<(Outbox, IncarnationFolder), AgentError> {
        let counter = match before {
            None => IncarnationCounter::FIRST,
            Some(before) => IncarnationCounter::new(before.incarnation().counter.get() + 1)?,
        };
        let incarnation = Incarnation { counter, nonce: IncarnationNonce::from_bytes(drawn()?) };
        let unfinished = self.home.prepare(counter)?;
        let mut writer = Writer::new(reader)?;
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        for stored in &mut writer {
            if self.stopping.load(Ordering::SeqCst) {
                return Err(AgentError::Stopped);
            }
            let stored: StoredChunk = stored?;
            unfinished.write_chunk(stored.chunk.hash, &stored.bytes)?;
            bytes += stored.chunk.stored_bytes;
            chunks.push(stored.chunk);
        }
        let predecessor = before.map(|before| Predecessor {
            incarnation: before.incarnation(),
            next: before.next_commit(),
            next_part: None,
            last: before.last_digest(),
            abandoned_through: None,
        });
        let snapshot = Snapshot {
            stream: self.home.stream(),
            incarnation,
            place: SnapshotPlace::Begins { predecessor },
            encoding: writer.encoding(),
            page_size: writer.page_size(),
            state: state.hash(),
            chunks,
        };
        let beginning = Beginning {
            stream: snapshot.stream,
            incarnation,
            snapshot: snapshot.digest(),
            state: snapshot.state,
            position,
        };
        if let Some(database) = self.database {
            let file = DatabaseFile::at(database).map_err(failed("look at the database", database))?;
            unfinished.write_database(file)?;
        }
        reached("spooled");
        let chunks = snapshot.chunks.len() as u64;
        unfinished.write_manifest(Body::of(&Entry::Snapshot(snapshot))?.as_stored())?;
        // Closed before its folder gets its name, since SQLite knows its files by their paths.
        drop(Outbox::create(&unfinished.outbox(), &beginning, self.config.outbox)?);
        let folder = unfinished.begin()?;
        reached("begun");
        let outbox = Outbox::open(&folder.outbox(), self.config.outbox)?;
        self.events.say(Event::SnapshotSpooled { incarnation, chunks, bytes });
        Ok((outbox, folder))
    }
}
