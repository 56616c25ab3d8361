//! A replica that began from a snapshot, and is told when what came before was checked.
//!
//! What counts: the log that is whole holds the very checkpoint that the replica began with, so root and state are the same there; and the database
//! that was rebuilt from the first message had that state when the log came by. Where rules look at the replica they look at that log as well, and what they
//! find is written into the replica together with that: it is as if it had begun with the first message.

use std::path::{Path, PathBuf};

use synddb_protocol::id::StreamId;
use synddb_protocol::log::SignedCheckpoint;
use synddb_sqlite::connection::{Connection, SqliteError};

use super::Problem;
use super::report::ReplicaBegan;
use crate::replica::{Started, Told, position};
use crate::rules::{self, Found, Rulebook};

/// The replica.
pub(super) struct Began {
    file: PathBuf,
    started: Option<Started>,
    /// The rules that look at it, and at the log before its beginning.
    rulebook: Option<Rulebook>,
}

impl Began {
    /// Reads what a replica of a stream began with. The rules that look at it must all be in the book: only then is it told anything.
    pub(super) fn read(file: PathBuf, stream: StreamId, rulebook: Rulebook) -> Result<Self, Problem> {
        let failed = |source| Problem::NoReplica { file: file.clone(), source };
        let connection = Connection::open_to_read(&file).map_err(|error| failed(Some(error)))?;
        let sqlite = connection.sqlite();
        let is_of_stream = position::read(sqlite).is_ok_and(|checkpoint| checkpoint.claim().stream == stream);
        if !is_of_stream {
            return Err(failed(None));
        }
        let unread = |error: synddb_sqlite::rusqlite::Error| failed(Some(error.into()));
        let started = Started::read(sqlite).map_err(unread)?;
        let rulebook = match (&started, rules::steps_of(sqlite).map_err(unread)?) {
            (Some(started), Some(steps)) => {
                let rulebook = rulebook.looking(steps, started.checkpoint.claim().size);
                if let Some(rule) = rules::lacking(&rulebook, sqlite).map_err(unread)? {
                    return Err(Problem::OtherRules { file, rule });
                }
                Some(rulebook)
            }
            _ => None,
        };
        Ok(Self { file, started, rulebook })
    }

    pub(super) fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.started.as_ref().map(|started| started.checkpoint.clone())
    }

    /// The rules that are to look at the log before, as they look at the replica.
    pub(super) fn rulebook(&self) -> Option<Rulebook> {
        self.rulebook.clone()
    }

    /// Tells it that its log is whole; `meets` says whether that holds its beginning. What rules found of the log before stands in the database that was rebuilt.
    pub(super) fn tell(self, meets: bool, rebuilt: &Path) -> Result<ReplicaBegan, Problem> {
        let Self { file, started, rulebook } = self;
        let Some(started) = started else { return Ok(ReplicaBegan::AtTheFirst) };
        let sequence = started.checkpoint.claim().size;
        if !meets {
            return Err(Problem::BeganElsewhere { file, sequence });
        }
        let tell = || -> Result<_, SqliteError> {
            let found = match &rulebook {
                Some(_) => Found::through(Connection::open_to_read(rebuilt)?.sqlite(), sequence)?,
                None => Found::default(),
            };
            Ok((started.checked(&file, rulebook.as_ref(), &found)?, found.count()))
        };
        match tell() {
            Ok((Told::Checked, violations)) => Ok(ReplicaBegan::Checked { sequence, violations }),
            Ok((Told::BegunOtherwise, _)) => Ok(ReplicaBegan::Otherwise),
            Ok((Told::OtherRules { rule }, _)) => Err(Problem::OtherRules { file, rule }),
            Err(source) => Err(Problem::NotTold { file, source }),
        }
    }
}
