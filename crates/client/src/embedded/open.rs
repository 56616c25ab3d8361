//! Opens a database: exactly where the last process left it, or as a new incarnation that begins with a snapshot.
//!
//! ```text
//! take the folder -> connect -> keep what waits, then forget it -> BEGIN IMMEDIATE -> scan -> same state as kept last? --yes--> resume
//!                                                                                                    | no
//!                                                                                                    v
//!                                                                                     snapshot -> incarnation -> COMMIT
//! ```
//!
//! What waits is kept before it is forgotten, and its numbers say whether it was kept before. That nothing else happened meanwhile is proven by
//! the state hash. It is forgotten before another incarnation begins, so what waits is always of the last one, or of another folder.

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
        let mut opening = Opening::open(config(location, options), on_event)?;
        let (connection, guard, lock) = connect(location, options)?;
        waiting::create(&connection)?;
        keep_what_waits(&mut opening, &connection, options)?;
        let recorder = Recorder::install(&connection)?;
        connection.execute("BEGIN IMMEDIATE")?;
        let state = RunningState::scan(&connection)?;
        // Read while nobody else can write: whatever is committed behind this transaction changes it.
        let data_version = data_version(&connection)?;
        guard.know_virtual_tables(connection.sqlite())?;
        let (handle, feed) = begin(opening, location, &connection, &state)?;
        let waiting = connection.execute("COMMIT").and_then(|()| Waiting::new(&connection, feed.kept()));
        let waiting = waiting.inspect_err(|_| {
            // The folder has to be free for whoever tries again.
            handle.stop_at_once();
            handle.join().ok();
        })?;
        Ok(Self {
            waiting,
            recorder,
            state,
            guard,
            data_version,
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
        sequencers: options.sequencers.clone(),
        token: Some(options.token.clone()),
        tls: options.tls.clone(),
        evidence: None,
        sequencer_keys: options.sequencer_keys.clone(),
        // There is no follower whose WAL it would bound.
        wal_bytes_max: 0,
        wal_bytes_detach: 0,
        audit_interval: std::time::Duration::from_secs(3600),
        pin: None,
        outbox: options.outbox,
        drain_max: options.drain_max,
        last_state: None,
    }
}

/// Has the agent keep what the last process left in the database, and forgets it there.
fn keep_what_waits(opening: &mut Opening, connection: &Connection, options: &Options) -> Result<(), Error> {
    connection.execute("BEGIN IMMEDIATE")?;
    let waits = waiting::read(connection)?;
    let last = opening.last_kept();
    if waits.iter().any(|waits| last.is_none_or(|last| last.incarnation != waits.incarnation)) {
        return Err(Error::OtherFolder { folder: options.folder.clone() });
    }
    let mut next = last.map_or(0, |last| last.next.get());
    let mut commits: Vec<(Changes, StateHash)> = Vec::new();
    for waits in waits {
        // Those before were kept by the last process. What is behind a gap cannot be numbered: the state tells that something is missing, and a
        // new incarnation has all of it.
        if waits.number == next {
            next += 1;
            commits.push((waits.changes, waits.state));
        }
    }
    opening.keep(commits)?;
    Ok(connection.execute("DELETE FROM main._synddb_outbox; COMMIT")?)
}

fn begin(
    opening: Opening,
    location: &Location,
    connection: &Connection,
    state: &RunningState,
) -> Result<(synddb_agent::Handle, synddb_agent::embedded::Feed), Error> {
    let because = match (opening.last_kept(), location) {
        (Some(last), _) if last.state == state.hash() => return Ok(opening.resume()?),
        (None, _) => Because::FirstAttach,
        (Some(_), Location::File(_)) => Because::CommittedMeanwhile,
        (Some(_), Location::Memory) => Because::ContentDiffers,
    };
    Ok(opening.begin(connection, state, because)?)
}
