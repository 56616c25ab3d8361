//! The report of a divergence: a file in JSON beside the replica, for people and for `resume`.
//!
//! It is there from the halt until a replica of this name has gone past the place, and is what the log says. A restart that finds the
//! same writes the same.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synddb_protocol::hash::{ChunkHash, StateHash};
use synddb_protocol::http::{Difference, Halt};
use synddb_protocol::id::{Sequence, StreamId, Timestamp};
use synddb_sqlite::name::beside;

use crate::error::ReplicaError;
use crate::view::Standing;

/// The form that this program writes and reads.
const VERSION: u32 = 1;
/// Largest report that is read, in bytes: the names of 64 tables may have 64 KiB each, and JSON writes a byte in six.
const REPORT_BYTES_MAX: u64 = 32 << 20;
/// Digits of a report's name.
const ID_CHARS: usize = 16;

/// What a halt by divergence leaves beside the replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The form: 1.
    pub version: u32,
    /// Names the divergence: the same wherever and whenever it is found again.
    pub id: String,
    /// The stream.
    pub stream: StreamId,
    /// The last message in the replica by its position. `None` before the first snapshot.
    pub sequence: Option<Sequence>,
    /// The state that its position claims.
    pub state: Option<StateHash>,
    /// Log time of that message, in milliseconds since 1970.
    pub timestamp: Timestamp,
    /// What `GET /status` says.
    pub halted: Halt,
}

impl Report {
    /// Of a halt of a replica that stood there. `None` when it is no divergence.
    pub(crate) fn of(stream: StreamId, stood: Option<Standing>, halted: &Halt) -> Option<Self> {
        let difference = halted.difference.as_deref()?;
        Some(Self {
            version: VERSION,
            id: id(stream, stood, difference),
            stream,
            sequence: stood.map(|standing| standing.sequence),
            state: stood.map(|standing| standing.state),
            timestamp: stood.map_or(Timestamp::ZERO, |standing| standing.timestamp),
            halted: halted.clone(),
        })
    }

    /// Where the report of a replica lies.
    pub(crate) fn path(replica: &Path) -> PathBuf {
        beside(replica, ".divergence.json")
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`io::Error`] when there is none, or it is of another form.
    pub fn read(file: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(file)?.take(REPORT_BYTES_MAX).read_to_end(&mut text)?;
        let report: Self = serde_json::from_slice(&text)?;
        if report.version != VERSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the report has another form"));
        }
        Ok(report)
    }

    /// Writes the report beside a replica, durably, and whole or not at all.
    pub(crate) fn write(&self, replica: &Path) -> Result<(), ReplicaError> {
        let failed = |source| Self::failed("report on", replica, source);
        let (file, staged) = (Self::path(replica), beside(replica, ".divergence.json.new"));
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let written = || {
            let mut options = File::options();
            let mut to = options.write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
            to.write_all(&text)?;
            to.sync_all()?;
            fs::rename(&staged, &file)?;
            sync_folder_of(&file)
        };
        written().map_err(failed)
    }

    /// Removes the report of a replica, if there is one.
    pub(crate) fn remove(replica: &Path) -> Result<(), ReplicaError> {
        match fs::remove_file(Self::path(replica)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Self::failed("remove the report on", replica, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The message at which the replica differed.
    pub(crate) fn at(&self) -> Sequence {
        self.halted.difference.as_deref().map_or(self.halted.to, |difference| difference.sequence)
    }

    /// Whether a replica that is what the log says at this message has left the divergence behind.
    pub(crate) fn is_settled_at(&self, sequence: Sequence) -> bool {
        sequence >= self.at()
    }

    fn failed(doing: &'static str, replica: &Path, source: io::Error) -> ReplicaError {
        ReplicaError::Io { doing, file: replica.to_owned(), source }
    }
}

/// Names a divergence by what makes it the one it is.
fn id(stream: StreamId, stood: Option<Standing>, difference: &Difference) -> String {
    let Difference { sequence, commit, expected_state, found_state, .. } = difference;
    let place = format!(
        "{stream} {} {} {sequence} {commit:?} {expected_state:?} {found_state:?}",
        stood.map_or(0, |standing| standing.sequence.get()),
        stood.map_or_else(String::new, |standing| standing.state.to_string()),
    );
    hex::encode(ChunkHash::of(place.as_bytes()).as_bytes())[..ID_CHARS].to_owned()
}

fn sync_folder_of(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
