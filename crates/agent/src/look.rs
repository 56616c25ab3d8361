//! Looking at an agent's folder, whether or not an agent runs: nothing in it changes.
//!
//! Knows of an outbox only what its file says. Its owner may know more, and is asked by whoever can.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use synddb_protocol::id::{IncarnationCounter, StreamId};
use synddb_sqlite::connection::SqliteError;
use synddb_sqlite::inspect::{self, JournalMode, ReadBy};

use crate::error::AgentError;
use crate::home::{self, failed};
use crate::status::Pending;

/// What an agent's folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderState {
    /// Who may do what with the folder, as `chmod` has it.
    pub mode: u32,
    /// The stream; `None` where nothing was ever followed.
    pub stream: Option<StreamId>,
    /// Whether an agent runs in it.
    pub is_running: bool,
    /// The incarnations that have begun, oldest first.
    pub incarnations: Vec<IncarnationState>,
}

/// What is kept of an incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncarnationState {
    /// Its number.
    pub counter: IncarnationCounter,
    /// Whether the snapshot that it begins with was not yet seen stored.
    pub snapshot_waits: bool,
    /// How large its files are, in bytes.
    pub bytes: u64,
    /// What its outbox holds; `None` where that cannot be told from outside, as while an agent owns it.
    pub pending: Option<Pending>,
}

impl FolderState {
    /// Others than the owner may write the folder, which an agent refuses.
    pub const fn is_writable_by_others(&self) -> bool {
        self.mode & 0o022 != 0
    }
}

/// Looks at an agent's folder; `None` where there is none.
///
/// # Errors
/// [`AgentError`] when the folder cannot be read, or its stream's name is none.
pub fn look(folder: &Path) -> Result<Option<FolderState>, AgentError> {
    let mode = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(failed("look at the agent's folder", folder))?.permissions().mode() & 0o7777,
    };
    let lock = folder.join("agent.lock");
    let is_running = inspect::owner_seems_to_run(&lock).map_err(failed("look at the agent's lock", &lock))?;
    let incarnations = folder.join("incarnations");
    let mut found = Vec::new();
    for (counter, path) in
        home::begun(&incarnations).map_err(failed("look for incarnations", &incarnations))?
    {
        found.push(IncarnationState {
            counter,
            snapshot_waits: path.join("chunks").exists(),
            bytes: size_of(&path),
            pending: if is_running { None } else { pending(&path.join("outbox.db")) },
        });
    }
    let stream = home::named_stream(folder)?;
    Ok(Some(FolderState { mode, stream, is_running, incarnations: found }))
}

/// What the file of an outbox says, unless it has a WAL: without its index that cannot be read from outside.
fn pending(outbox: &Path) -> Option<Pending> {
    let count = || -> Result<Option<Pending>, SqliteError> {
        let opened = inspect::open(outbox, JournalMode::Wal)?;
        if opened.by != ReadBy::FileAlone {
            return Ok(None);
        }
        let sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM submissions";
        let found = opened.connection.sqlite().query_row(sql, [], |row| {
            Ok(Pending {
                submissions: row.get::<_, u32>(0)?.into(),
                bytes: row.get::<_, i64>(1)?.unsigned_abs(),
            })
        });
        Ok(Some(found?))
    };
    count().ok().flatten()
}

/// How large the files of a folder are. One that goes meanwhile counts as nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
