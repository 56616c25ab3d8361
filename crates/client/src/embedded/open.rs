//! Opens a database: exactly where the last process left it, or as a new incarnation that begins with a snapshot.
//!
//! ```text
//! take the folder -> connect -> BEGIN IMMEDIATE -> scan -> keep what waits -> same state as kept last? --yes--> resume
//!                                                                                    | no
//!                                                                                    v
//!                                                              snapshot -> incarnation -> forget what waited -> COMMIT
//! ```
//!
//! What waits is kept before it is forgotten, and its numbers say whether it was kept before. That nothing else happened meanwhile is proven by
//! the state hash.

use synddb_agent::embedded::Opening;
use synddb_agent::{Because, Config, Event};
use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::Changes;
use synddb_sqlite::capture::embedded::Recorder;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::state::RunningState;

use super::connect::connect;
use super::error::Error;
use super::transaction::data_version;
use super::waiting::{self, Waiting};
use super::{Database, Location, Options};

impl Database {
    /// Opens a database, and goes on with its stream. It is read as a whole, and where nothing proves that nobody else has written to it, a
    /// snapshot of it is written to the agent's folder first. `on_event` is called from the agent's threads, one at a time.
    ///
    /// # Errors
    /// [`Error`] when another process has the database or the folder, or what either holds cannot be used.
    pub fn open(
        location: &Location,
        options: &Options,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<Self, Error> {
        let opening = Opening::open(config(location, options), on_event)?;
        let (connection, guard, lock) = connect(location, options)?;
        waiting::create(&connection)?;
        connection.execute("BEGIN IMMEDIATE")?;
        let state = RunningState::scan(&connection)?;
        let (handle, feed) = begin(opening, location, &connection, &state)?;
        connection.execute("DELETE FROM main._synddb_outbox; COMMIT")?;
        let recorder = Recorder::install(&connection)?;
        Ok(Self {
            waiting: Waiting::new(&connection, feed.kept())?,
            recorder,
            state,
            guard,
            data_version: data_version(&connection)?,
            connection,
            feed,
            handle,
            patience: options.patience,
            is_broken: false,
            _lock: lock,
        })
    }
}

fn config(location: &Location, options: &Options) -> Config {
    Config {
        database: match location {
            Location::File(path) => path.clone(),
            Location::Memory => ":memory:".into(),
        },
        folder: options.folder.clone(),
        sequencer: options.sequencer.clone(),
        token: options.token.clone(),
        sequencer_key: options.sequencer_key,
        // There is no follower whose WAL it would bound.
        wal_bytes_max: 0,
        outbox: options.outbox,
        drain_max: options.drain_max,
    }
}

fn begin(
    mut opening: Opening,
    location: &Location,
    connection: &Connection,
    state: &RunningState,
) -> Result<(synddb_agent::Handle, synddb_agent::embedded::Feed), Error> {
    let because = match opening.last_kept() {
        None => Because::FirstAttach,
        Some(last) => {
            let waits = waiting::read(connection)?;
            let mut next = last.next.get();
            let mut commits: Vec<(Changes, StateHash)> = Vec::new();
            // Those of another incarnation were kept by it before this one began, or belong to a folder that is gone.
            for waits in waits.into_iter().filter(|waits| waits.incarnation == last.incarnation) {
                if waits.number == next {
                    next += 1;
                    commits.push((waits.changes, waits.state));
                }
            }
            opening.keep(commits)?;
            if opening.last_kept().is_some_and(|last| last.state == state.hash()) {
                return Ok(opening.resume()?);
            }
            match location {
                Location::File(_) => Because::CommittedMeanwhile,
                Location::Memory => Because::ContentDiffers,
            }
        }
    };
    Ok(opening.begin(connection, state, because)?)
}
