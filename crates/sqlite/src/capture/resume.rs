//! Going on exactly where a follower was left: by proof, or not at all.
//!
//! ```text
//! own read transaction at the latest commit
//!   same generation?  --> that frame is there? --> SQLite opens a read transaction at the position --> scan: the same state?
//!   another one       --> the pin holds that very position, and lives --> the database file is it  --> walk: the same state?
//! ```
//!
//! What must stay true:
//!
//! - The own transaction is opened before the pin is asked. A pin that died before is then found out, and one that dies later is asked
//!   again before anything is kept ([`Guard`]).
//! - In a generation that has ended while a pin held a transaction in it, that transaction stands on the database file alone: a reader in
//!   the WAL would have kept it from beginning anew. So the file is what the pin saw, copying back waits for the pin, and only one further
//!   generation can have begun.
//! - Whatever the WAL says, the content decides: its state hash must be the one that was kept with the position.

use rusqlite::ffi;
use synddb_protocol::hash::StateHash;

use super::attach::{load_frames, page_one, usable_bytes};
use super::database::Database;
use super::files::Files;
use super::hold::{Hold, IndexCopy, Target};
use super::pin::Pin;
use super::view::Pages;
use super::{CaptureError, WalPosition};
use crate::connection::Connection;
use crate::file::header::Header;
use crate::file::wal_index::WalIndex;

/// Where a follower was left: what its sink has kept last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Up to where everything was captured and kept.
    pub position: WalPosition,
    /// What the database hashed to there.
    pub state: StateHash,
}

/// Why nobody can go on exactly where a follower was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The WAL began anew, or is gone, and nothing held it: what was committed meanwhile cannot be told.
    WalBeganAnew,
    /// What was committed since is copied back to the database file already, so that rows from before it are not there any more.
    CopiedBack,
    /// The WAL has another frame at the position: it, or the database, is another one.
    OtherFrames,
    /// Everything is at its place, and the content is another: the database file was exchanged.
    OtherContent,
}

/// Until when a follower relies on its pin: its own transaction stands behind the position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    /// What the follower's own transaction sees.
    pub(super) target: Target,
    /// What the pin holds until then.
    pub(super) held: WalPosition,
}

/// A position that was found again.
pub(super) struct Resumed {
    pub(super) hold: Hold,
    pub(super) spare: Connection,
    pub(super) database: Database,
    pub(super) guard: Option<Guard>,
    pub(super) unsummed_frames: u64,
}

/// Finds a position again in the files of a database, on which `now` stands at the latest commit.
pub(super) fn resume(
    files: Files,
    now: Hold,
    spare: Connection,
    left: &Left,
    pin: Option<&mut (dyn Pin + '_)>,
) -> Result<Result<Resumed, Lost>, CaptureError> {
    let was = left.position;
    let committed = now.copy()?.and_then(|copy| Some((copy, copy.read()?)));
    let resumed = match committed {
        Some((copy, index)) if index.salts == was.salts => {
            let hold = match open_at(&files, spare, (&copy, &index), was)? {
                Ok(hold) => hold,
                Err(lost) => return Ok(Err(lost)),
            };
            let header = page_one(hold.connection())?;
            let mut pages = Pages::new(files, usable_bytes(&header));
            let unsummed_frames = load_frames(&mut pages, was)?;
            let database = Database::walk(pages, hold.connection())?;
            Resumed { hold, spare: now.close(), database, guard: None, unsummed_frames }
        }
        _ => {
            // Asked only now that the own transaction is open. A pin that does not answer holds nothing.
            let held = pin.and_then(|pin| pin.held().ok());
            let Some(held) = held.filter(|held| is_same_commit(held, &was)) else {
                return Ok(Err(Lost::WalBeganAnew));
            };
            let mut first = Vec::new();
            files.page(1, &mut first)?;
            let header = Header::read(&first)?;
            let database = Database::walk_alone(Pages::new(files, usable_bytes(&header)), &header)?;
            // Where nothing was committed, the own transaction stands on the database file as well.
            let guard = committed.map(|(_, index)| Guard { target: Target::new(&index, 0), held });
            Resumed { hold: now, spare, database, guard, unsummed_frames: 0 }
        }
    };
    let is_same = resumed.database.state.hash() == left.state;
    Ok(if is_same { Ok(resumed) } else { Err(Lost::OtherContent) })
}

/// What an error there means. What cannot be read at an old position says nothing of the database as it is now: a power cut in the middle of a
/// checkpoint leaves half of a page that only the latest frames make whole.
pub(super) fn as_lost(error: CaptureError) -> Result<Lost, CaptureError> {
    match error {
        CaptureError::Damaged(_)
        | CaptureError::Gap { .. }
        | CaptureError::Schema(_)
        | CaptureError::State(_)
        | CaptureError::EncodingChanged
        | CaptureError::PageSizeChanged => Ok(Lost::OtherContent),
        CaptureError::Sqlite(error)
            if matches!(error.primary(), ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) =>
        {
            Ok(Lost::OtherContent)
        }
        error @ (CaptureError::Sqlite(_)
        | CaptureError::Io { .. }
        | CaptureError::Missing { .. }
        | CaptureError::Unfit(_)
        | CaptureError::NotWal { .. }
        | CaptureError::Busy
        | CaptureError::Followed { .. }
        | CaptureError::Replaced { .. }
        | CaptureError::Stopped) => Err(error),
    }
}

/// Whether both are the same commit of the same generation. Before the first frame there is no checksum that counts.
pub(super) fn is_same_commit(one: &WalPosition, other: &WalPosition) -> bool {
    (one.salts, one.frame) == (other.salts, other.frame) && (one.frame == 0 || one.checksum == other.checksum)
}

/// Opens a read transaction at the position. Where SQLite does not know whether something behind it was copied back, as after a recovery of the
/// wal-index, it is asked to find out.
fn open_at(
    files: &Files,
    spare: Connection,
    (copy, index): (&IndexCopy, &WalIndex),
    was: WalPosition,
) -> Result<Result<Hold, Lost>, CaptureError> {
    if was.frame > index.last_frame {
        return Ok(Err(Lost::OtherFrames));
    }
    let hold = match Hold::open_at(spare, copy, was)? {
        Ok(hold) => hold,
        Err(spare) => {
            files.anchor().recover_snapshots()?;
            match Hold::open_at(spare, copy, was)? {
                Ok(hold) => hold,
                Err(_) => return Ok(Err(Lost::CopiedBack)),
            }
        }
    };
    // Nothing overwrites frames up to the position any more.
    Ok(if is_there(files, index, was)? { Ok(hold) } else { Err(Lost::OtherFrames) })
}

/// Whether the frame at a position is the one that was there.
fn is_there(files: &Files, index: &WalIndex, was: WalPosition) -> Result<bool, CaptureError> {
    if was.frame == 0 {
        return Ok(true);
    }
    if was.frame == index.last_frame {
        // What SQLite goes on from, also behind a frame that it has not summed up.
        return Ok(index.checksum == was.checksum);
    }
    let header = files.frame_header(was.frame)?;
    Ok((header.salts, header.checksum, header.size_after) == (was.salts, was.checksum, was.pages))
}
