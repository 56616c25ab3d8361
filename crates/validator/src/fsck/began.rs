//! A replica that began from a snapshot, and is told when what came before was checked.
//!
//! What counts: the log that is whole holds the very checkpoint that the replica began with, so root and state are the same there; and the database
//! that was rebuilt from the first message had that state when the log came by. Where rules look at the replica they look at that log as well, and what they
//! find is written into the replica together with that: it is as if it had begun with the first message.

use std::path::{Path, PathBuf};

use synddb_protocol::id::StreamId;
use synddb_protocol::log::SignedCheckpoint;
use synddb_sqlite::connection::Connection;

use super::Problem;
use super::report::ReplicaBegan;
use crate::replica::{Started, position};
use crate::rules::{self, Rulebook};

/// The replica.
pub(super) struct Began {
    file: PathBuf,
    started: Option<Started>,
    /// Whether rules look at it.
    is_judged: bool,
}

impl Began {
    /// Reads what a replica of a stream began with. The rules that look at it must all be in the book: only then is it told anything.
    pub(super) fn read(file: PathBuf, stream: StreamId, rulebook: &Rulebook) -> Result<Self, Problem> {
        let failed = |source| Problem::NoReplica { file: file.clone(), source };
        let connection = Connection::open_to_read(&file).map_err(|error| failed(Some(error)))?;
        let is_of_stream =
            position::read(connection.sqlite()).is_ok_and(|checkpoint| checkpoint.claim().stream == stream);
        if !is_of_stream {
            return Err(failed(None));
        }
        let started = Started::read(connection.sqlite()).map_err(|error| failed(Some(error.into())))?;
        let is_judged = rules::is_judged(connection.sqlite()).map_err(|error| failed(Some(error.into())))?;
        let lacking = rules::lacking(rulebook, connection.sqlite());
        if let Some(rule) = lacking.map_err(|error| failed(Some(error.into())))?.filter(|_| started.is_some())
        {
            return Err(Problem::OtherRules { file, rule });
        }
        Ok(Self { file, started, is_judged })
    }

    /// Whether rules are to look at the log before, as they look at the replica.
    pub(super) const fn is_to_judge(&self) -> bool {
        self.started.is_some() && self.is_judged
    }

    pub(super) fn checkpoint(&self) -> Option<SignedCheckpoint> {
        self.started.as_ref().map(|started| started.checkpoint.clone())
    }

    /// Tells it that its log is whole; `meets` says whether that holds its beginning. What rules found of the log before stands in the database that was rebuilt.
    pub(super) fn tell(self, meets: bool, rebuilt: &Path) -> Result<ReplicaBegan, Problem> {
        let Self { file, started, is_judged } = self;
        let Some(started) = started else { return Ok(ReplicaBegan::AtTheFirst) };
        let sequence = started.checkpoint.claim().size;
        if !meets {
            return Err(Problem::BeganElsewhere { file, sequence });
        }
        let tell = || {
            let found = if is_judged {
                rules::open_through(Connection::open_to_read(rebuilt)?.sqlite(), sequence)?
            } else {
                Vec::new()
            };
            started.checked(&file, &found)?;
            Ok(found.len() as u64)
        };
        match tell() {
            Ok(violations) => Ok(ReplicaBegan::Checked { sequence, violations }),
            Err(source) => Err(Problem::NotTold { file, source }),
        }
    }
}
