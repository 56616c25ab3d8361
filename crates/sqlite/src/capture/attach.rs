//! What a follower needs to know before it can begin: where the database stands at one moment, and what its WAL holds up to there.
//!
//! Nothing here captures anything. Whoever asks holds a read transaction, so that what is found stays true.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files::Files;
use super::hold::{Hold, is_wal};
use super::probes::planted::{Bug, planted};
use super::view::Pages;
use super::wake::Wake;
use super::{CaptureError, WalPosition};
use crate::connection::{Connection, PATIENCE, SqliteError};
use crate::file::Damaged;
use crate::file::header::Header;

/// The file itself, whatever links lead to it, in a place where it can be followed.
pub(super) fn regular_file(path: &Path) -> Result<PathBuf, CaptureError> {
    let missing = || CaptureError::Missing { path: path.to_owned() };
    let path = path.canonicalize().map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            return missing();
        }
        CaptureError::Io { doing: "find", path: path.to_owned(), source }
    })?;
    if !path.is_file() {
        return Err(missing());
    }
    crate::inspect::check_place(&path)?;
    Ok(path)
}

/// A connection that never checkpoints by itself: when that is safe is decided in recycle.rs.
pub(super) fn connect(path: &Path) -> Result<Connection, CaptureError> {
    let connection = Connection::open(path)?;
    connection.execute("PRAGMA wal_autocheckpoint = 0; PRAGMA mmap_size = 0")?;
    connection.keep_wal_on_close()?;
    Ok(connection)
}

pub(super) fn switch_to_wal(connection: &Connection) -> Result<(), CaptureError> {
    let started = Instant::now();
    loop {
        if is_wal(connection)? {
            return Ok(());
        }
        let switch: Result<String, _> =
            connection.sqlite().query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        match switch.map_err(SqliteError::from) {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => return Err(CaptureError::NotWal { mode }),
            Err(error) if error.is_busy() && started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) if error.is_busy() => return Err(CaptureError::Busy),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The header of the database as a read transaction sees it.
pub(super) fn page_one(connection: &Connection) -> Result<Header, CaptureError> {
    let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = 1";
    let page: Vec<u8> =
        connection.sqlite().query_row(sql, [], |row| row.get(0)).map_err(SqliteError::from)?;
    Ok(Header::read(&page)?)
}

/// How many bytes of a page SQLite uses.
pub(super) fn usable_bytes(header: &Header) -> usize {
    if planted(Bug::IgnoreReservedBytes) { header.page_size.get() as usize } else { header.usable() }
}

/// A database in WAL mode that is open to be followed.
pub(super) struct Opened {
    /// Whose handles the files are. It never holds a transaction for long.
    pub(super) anchor: Connection,
    /// Stands in the WAL at a commit that was the latest one.
    pub(super) hold: Hold,
    pub(super) header: Header,
    pub(super) files: Files,
    pub(super) spare: Connection,
    pub(super) writer: Connection,
    pub(super) wake: Wake,
}

impl Opened {
    /// Switches a database to WAL mode if it is not, opens its files, and takes the lock of whoever follows it.
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        let path = regular_file(path)?;
        let anchor = connect(&path)?;
        switch_to_wal(&anchor)?;
        let (hold, spare, writer) = (connect(&path)?, connect(&path)?, connect(&path)?);
        // The wal-index is there once it was read from.
        Hold::open(anchor.clone())?.close();
        let hold = Hold::open_in_wal(hold)?;
        let header = page_one(hold.connection())?;
        let files = Files::open(&anchor, &path, header.page_size.get() as usize)?;
        let wake = Wake::on(&path, files.wal_path()).map_err(|source| CaptureError::Io {
            doing: "watch",
            path: files.wal_path().to_owned(),
            source,
        })?;
        Ok(Self { anchor, hold, header, files, spare, writer, wake })
    }
}

/// Exactly where a read transaction stands, and how many commits SQLite had counted there. Where it stands nowhere yet and a first commit comes meanwhile, another one is opened.
pub(super) fn position_of(mut hold: Hold, files: &Files) -> Result<(Hold, WalPosition, u32), CaptureError> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let index = match hold.snapshot()? {
            Some(index) => Some(index),
            // Nothing was ever written to this WAL, so there is no snapshot to ask for, and the wal-index says nothing either.
            None => files.index().filter(|index| index.last_frame == 0),
        };
        if let Some(index) = index {
            return Ok((hold, index.position(), index.changes));
        }
        hold = Hold::open_in_wal(hold.close())?;
    }
    Err(CaptureError::Busy)
}

/// Learns which pages the WAL holds at a position that a read transaction in the WAL holds, so that no frame up to it is overwritten.
///
/// That as many frames were copied back says nothing about the database file: a page that was written before the position and again
/// after it is copied back only once its newest frame may be.
///
/// Returns how many of the frames SQLite has not summed up.
pub(super) fn load_frames(pages: &mut Pages, position: WalPosition) -> Result<u64, CaptureError> {
    let mut frames = Vec::new();
    let mut unsummed = 0;
    for frame in 1..=position.frame {
        let header = pages.files.frame_header(frame)?;
        if header.salts != position.salts && !header.is_unsummed() {
            return Err(CaptureError::Gap { frame });
        }
        if header.page == 0 {
            return Err(Damaged::new("a frame for page 0", frame).into());
        }
        unsummed += u64::from(header.is_unsummed());
        frames.push((header.page, frame));
    }
    pages.advance(frames);
    Ok(unsummed)
}
