//! A database, a follower beside it, and a replica of what was captured: after every step all of them agree.

use std::convert::Infallible;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use synddb_protocol::hash::StateHash;
use synddb_protocol::submission::Changes;
use synddb_sqlite::apply::{Applier, CommitChanges};
use synddb_sqlite::capture::{
    CaptureError, CommittedState, Follower, Left, Lost, Options, Pin, PollError, Sink, WalPosition,
};
use synddb_sqlite::compare::first_difference;
use synddb_sqlite::connection::Connection;
use synddb_sqlite::rusqlite;
use synddb_sqlite::rusqlite::backup::Backup;
use synddb_sqlite::state::RunningState;

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// Whole commits with the state after each.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) commits: Vec<(Changes, StateHash)>,
    /// The pieces so far of a commit that comes in several.
    begun: Option<Changes>,
}

impl Sink for Collected {
    type Error = Infallible;

    fn piece(&mut self, changes: Changes) -> Result<(), Infallible> {
        match &mut self.begun {
            None => self.begun = Some(changes),
            Some(begun) => begun.rows.extend(changes.rows),
        }
        Ok(())
    }

    fn commit(&mut self, mut changes: Changes, state: &mut CommittedState<'_>) -> Result<(), Infallible> {
        if let Some(mut begun) = self.begun.take() {
            begun.rows.extend(changes.rows);
            changes = Changes { schema: begun.schema, rows: begun.rows, ..changes };
        }
        self.commits.push((changes, state.hash()));
        Ok(())
    }

    fn persist(&mut self, _: &WalPosition, _: &RunningState) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A database that is followed, and its replica.
pub(crate) struct Mirrored {
    pub(crate) path: PathBuf,
    pub(crate) replica: PathBuf,
    pub(crate) follower: Follower,
    applier: Applier,
}

impl Mirrored {
    /// Attaches to a database, and copies it to a file beside it.
    pub(crate) fn attach(path: &Path, options: Options) -> Result<Self, Box<dyn Error>> {
        let follower = Follower::attach(path, options)?;
        let replica = path.with_extension("replica");
        let mut copy = rusqlite::Connection::open(&replica)?;
        Backup::new(follower.reader().sqlite(), &mut copy)?.run_to_completion(1000, Duration::ZERO, None)?;
        drop(copy);
        let applier = Applier::open(&replica)?;
        Ok(Self { path: path.to_owned(), replica, follower, applier })
    }

    /// Ends the follower as a process that is killed ends.
    pub(crate) fn leave(self) -> LeftBehind {
        let left = Left { position: self.follower.position(), state: self.follower.state().hash() };
        LeftBehind { path: self.path, replica: self.replica, applier: self.applier, left }
    }

    /// Captures all there is, applies it, and says how many commits that were.
    pub(crate) fn follow(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut collected = Collected::default();
        while self.follower.poll(&mut collected)? > 0 {}
        for (changes, state) in &collected.commits {
            self.applier.begin()?;
            self.applier.apply(CommitChanges {
                schema: &changes.schema,
                rows: changes.rows.as_slice(),
                user_version: changes.user_version,
                application_id: changes.application_id,
            })?;
            self.applier.commit()?;
            if self.applier.state().hash() != *state {
                return Err("the applier's state is not the follower's".into());
            }
        }
        Ok(collected.commits.len())
    }

    /// Whether application, follower and replica agree.
    pub(crate) fn agrees(&self) -> Outcome {
        let state = self.follower.state().hash();
        if scan(&self.path)? != state {
            return Err("a scan of the source finds another state".into());
        }
        if scan(&self.replica)? != state {
            return Err("a scan of the replica finds another state".into());
        }
        if let Some(difference) = first_difference(&self.path, &self.replica)? {
            return Err(difference.to_string().into());
        }
        // Indexes are in no hash: here it shows whether the replica's are what its rows say.
        let (source, copy) = (integrity(&self.path)?, integrity(&self.replica)?);
        if source != copy {
            return Err(format!("source: {source}; replica: {copy}").into());
        }
        Ok(())
    }

    /// Follows, and fails where something does not agree; says how many commits there were.
    pub(crate) fn catch_up(&mut self, when: &str) -> usize {
        let followed = self.follow().and_then(|commits| self.agrees().map(|()| commits));
        followed.unwrap_or_else(|error| panic!("{when}: {error}"))
    }

    /// Polls until it fails, which it must.
    pub(crate) fn fails(&mut self) -> CaptureError {
        loop {
            match self.follower.poll(&mut Collected::default()) {
                Ok(0) => panic!("everything was captured"),
                Ok(_) => {}
                Err(PollError::Capture(error)) => return error,
            }
        }
    }
}

/// A database that was followed, and its replica.
pub(crate) struct LeftBehind {
    path: PathBuf,
    replica: PathBuf,
    applier: Applier,
    pub(crate) left: Left,
}

impl LeftBehind {
    /// Goes on exactly where it was left, if that can be proven.
    pub(crate) fn resume(self, options: Options, pin: Option<&mut dyn Pin>) -> Result<Mirrored, Lost> {
        let Self { path, replica, applier, left } = self;
        let follower = Follower::resume(&path, options, &left, pin).unwrap()?;
        assert_eq!((follower.position(), follower.state().hash()), (left.position, left.state));
        Ok(Mirrored { path, replica, follower, applier })
    }
}

pub(crate) fn scan(path: &Path) -> Result<StateHash, Box<dyn Error>> {
    Ok(RunningState::scan(&Connection::open(path)?)?.hash())
}

pub(crate) fn integrity(path: &Path) -> Result<String, rusqlite::Error> {
    let sql = "SELECT group_concat(integrity_check, '; ') FROM pragma_integrity_check";
    rusqlite::Connection::open(path)?.query_row(sql, [], |row| row.get(0))
}
