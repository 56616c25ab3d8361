//! The bytes of the three files of a database in WAL mode.
//!
//! The database file and the `-shm` are read through the handles that SQLite itself has open: closing any other descriptor of
//! these files would drop every lock that this process holds on them (POSIX), and lose committed data. The `-wal` carries no
//! locks.
//!
//! Knows nothing of what is committed.

#![allow(unsafe_code, reason = "SQLite's file methods are C functions; each call says why it is sound")]

use std::cell::{Ref, RefCell};
use std::ffi::{c_int, c_void};
use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rusqlite::ffi;

use super::CaptureError;
use super::hold::IndexCopy;
use crate::connection::{Connection, SqliteError};
use crate::file::Damaged;
use crate::file::wal::{FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, WalHeader};
use crate::file::wal_index::{COPY_BYTES, HEAD_BYTES, WalIndex};
use crate::lock;
use crate::name::{FileId, beside};

/// The three files of one database.
pub(super) struct Files {
    /// Keeps SQLite's handles open.
    anchor: Connection,
    database: *mut ffi::sqlite3_file,
    index: *const u8,
    wal_path: PathBuf,
    wal: Arc<File>,
    ahead: RefCell<Ahead>,
    page_size: usize,
    /// Database and WAL by their names, and as which files these were opened.
    opened: [(PathBuf, FileId); 2],
}

/// Consecutive frames that were read ahead.
#[derive(Default)]
struct Ahead {
    first: u32,
    count: u32,
    /// As large as it ever was.
    bytes: Vec<u8>,
}

impl Ahead {
    /// Which of them a frame is.
    fn place(&self, frame: u32) -> Option<usize> {
        let at = frame.checked_sub(self.first)?;
        (at < self.count).then_some(at as usize)
    }
}

/// Bytes of frames that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Size of the first region of the `-shm`.
const REGION_BYTES: c_int = 32_768;

impl Files {
    /// Opens the files of a database that `anchor` has open in WAL mode and has read from.
    pub(super) fn open(anchor: &Connection, path: &Path, page_size: usize) -> Result<Self, CaptureError> {
        let mut database: *mut ffi::sqlite3_file = ptr::null_mut();
        // SAFETY: the connection is open, and this operation writes a pointer to where it is told.
        let code = unsafe {
            let out = (&raw mut database).cast::<c_void>();
            ffi::sqlite3_file_control(anchor.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, out)
        };
        if code != ffi::SQLITE_OK || database.is_null() {
            return Err(SqliteError::new("cannot reach the database file", code).into());
        }
        let index = map_index(database)?;
        let database_id = FileId::at(path).map_err(|source| CaptureError::Io {
            doing: "find",
            path: path.to_owned(),
            source,
        })?;
        let wal_path = beside(path, "-wal");
        let wal = File::open(&wal_path).map_err(|source| CaptureError::Io {
            doing: "open",
            path: wal_path.clone(),
            source,
        })?;
        // Nobody else locks a WAL this way, and the kernel lets go of it with the process.
        match lock::take(&wal) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CaptureError::Followed { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => {
                return Err(CaptureError::Io { doing: "lock", path: wal_path, source });
            }
        }
        let id = wal.metadata().map(|found| FileId::of(&found));
        let id = id.map_err(|source| CaptureError::Io { doing: "find", path: wal_path.clone(), source })?;
        // With `synchronous=NORMAL` nobody may have made the WAL's name durable yet, and then syncing its bytes is not enough (I2).
        let folder = path.parent().unwrap_or(path);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| CaptureError::Io {
            doing: "sync the folder of",
            path: wal_path.clone(),
            source,
        })?;
        let opened = [(path.to_owned(), database_id), (wal_path.clone(), id)];
        Ok(Self {
            anchor: anchor.clone(),
            database,
            index,
            wal_path,
            wal: Arc::new(wal),
            ahead: RefCell::default(),
            page_size,
            opened,
        })
    }

    /// Makes sure that the names still lead to the files that are open. What an application commits to other ones is nowhere here.
    pub(super) fn check_in_place(&self) -> Result<(), CaptureError> {
        for (path, opened) in &self.opened {
            if FileId::at(path).ok() != Some(*opened) {
                return Err(CaptureError::Replaced { path: path.clone() });
            }
        }
        Ok(())
    }

    /// The connection whose handles these are.
    pub(super) fn anchor(&self) -> &Connection {
        &self.anchor
    }

    /// Where the WAL lies.
    pub(super) fn wal_path(&self) -> &Path {
        &self.wal_path
    }

    /// What the wal-index says now; `None` while a writer is at work on it.
    pub(super) fn index(&self) -> Option<WalIndex> {
        self.index_copy()?.read()
    }

    /// The same, as SQLite has it.
    pub(super) fn index_copy(&self) -> Option<IndexCopy> {
        let mut head = [0_u8; HEAD_BYTES];
        // SAFETY: SQLite keeps the region of 32 KiB mapped while the anchor is open. Other processes write it, so it is
        // read byte for byte as volatile; what is torn is found by comparing the two copies and the checksum.
        unsafe {
            // Writers fill the second copy first: reading the first copy first sees a change between the two.
            for (at, byte) in head.iter_mut().enumerate() {
                if at == COPY_BYTES {
                    fence(Ordering::SeqCst);
                }
                *byte = self.index.add(at).read_volatile();
            }
        }
        fence(Ordering::SeqCst);
        WalIndex::read(&head)?;
        IndexCopy::first_of(&head)
    }

    /// The database file, without links.
    pub(super) fn database_path(&self) -> &Path {
        &self.opened[0].0
    }

    /// Reads a page of the database file into `bytes`, whatever these were.
    pub(super) fn page(&self, page: u32, bytes: &mut Vec<u8>) -> Result<(), CaptureError> {
        bytes.resize(self.page_size, 0);
        let length = c_int::try_from(self.page_size).unwrap_or(0);
        let offset = i64::from(page - 1) * i64::from(length);
        // SAFETY: the file is open while the anchor is, and the buffer has `length` bytes.
        let code = unsafe {
            let read = (*(*self.database).pMethods).xRead;
            read.map_or(ffi::SQLITE_IOERR, |read| {
                read(self.database, bytes.as_mut_ptr().cast::<c_void>(), length, offset)
            })
        };
        match code {
            ffi::SQLITE_OK => Ok(()),
            ffi::SQLITE_IOERR_SHORT_READ => Err(Damaged::new("the file ends before the page", page).into()),
            code => Err(SqliteError::new("cannot read a page of the database file", code).into()),
        }
    }

    /// How many pages the database file has, a cut off one among them.
    pub(super) fn database_pages(&self) -> Result<u64, CaptureError> {
        let (path, _) = &self.opened[0];
        // By name: closing a descriptor of the file would drop every lock on it.
        let found = std::fs::metadata(path);
        let found = found.map_err(|source| CaptureError::Io { doing: "find", path: path.clone(), source })?;
        Ok(found.len().div_ceil(self.page_size as u64))
    }

    /// How long the WAL is, in bytes.
    pub(super) fn wal_len(&self) -> Result<u64, CaptureError> {
        Ok(self.wal.metadata().map_err(|source| self.io("read", source))?.len())
    }

    /// The header of the WAL.
    pub(super) fn wal_header(&self) -> Result<WalHeader, CaptureError> {
        let mut bytes = [0; HEADER_BYTES];
        self.read_wal(&mut bytes, 0)?;
        let header = WalHeader::read(&bytes)?;
        if header.page_size as usize != self.page_size {
            return Err(CaptureError::PageSizeChanged);
        }
        Ok(header)
    }

    /// A frame, and with it those that follow it, up to `last` and to what is read at once. They are kept until others are read, so only
    /// committed ones of the running generation may be asked for.
    pub(super) fn frame(&self, frame: u32, last: u32) -> Result<Ref<'_, [u8]>, CaptureError> {
        if !self.is_ahead(frame) {
            let most = u32::try_from(READ_BYTES / self.frame_bytes()).unwrap_or(1).max(1);
            let count = last.saturating_sub(frame).saturating_add(1).min(most);
            let mut ahead = self.ahead.borrow_mut();
            // Nothing is there while it is read, nor after it failed.
            ahead.count = 0;
            let length = count as usize * self.frame_bytes();
            if ahead.bytes.len() < length {
                ahead.bytes.resize(length, 0);
            }
            self.read_wal(&mut ahead.bytes[..length], self.frame_offset(frame))?;
            (ahead.first, ahead.count) = (frame, count);
        }
        let length = self.frame_bytes();
        Ok(Ref::map(self.ahead.borrow(), |ahead| {
            let start = ahead.place(frame).unwrap_or(0) * length;
            &ahead.bytes[start..start + length]
        }))
    }

    /// Whether a frame was read ahead.
    pub(super) fn is_ahead(&self, frame: u32) -> bool {
        self.ahead.borrow().place(frame).is_some()
    }

    /// The last frame that was read ahead.
    pub(super) fn ahead_to(&self) -> u32 {
        let ahead = self.ahead.borrow();
        (ahead.first + ahead.count).saturating_sub(1)
    }

    /// Another generation has other frames under the same numbers.
    pub(super) fn forget_ahead(&self) {
        self.ahead.borrow_mut().count = 0;
    }

    /// The header of a frame.
    pub(super) fn frame_header(&self, frame: u32) -> Result<FrameHeader, CaptureError> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        self.read_wal(&mut bytes, self.frame_offset(frame))?;
        Ok(FrameHeader::read(&bytes))
    }

    /// Reads the page that a frame holds into `bytes`, whatever these were.
    pub(super) fn frame_page(&self, frame: u32, bytes: &mut Vec<u8>) -> Result<(), CaptureError> {
        let ahead = self.ahead.borrow();
        if let Some(at) = ahead.place(frame) {
            let end = (at + 1) * self.frame_bytes();
            bytes.clear();
            bytes.extend_from_slice(&ahead.bytes[end - self.page_size..end]);
            return Ok(());
        }
        bytes.resize(self.page_size, 0);
        self.read_wal(bytes, self.frame_offset(frame) + FRAME_HEADER_BYTES as u64)
    }

    /// Bytes of a frame in the WAL.
    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.page_size
    }

    /// Makes everything that was written to the WAL survive a power cut (I2).
    pub(super) fn sync_wal(&self) -> Result<(), CaptureError> {
        self.wal_synced(self.wal.sync_data())
    }

    /// The same, for another thread to do.
    pub(super) fn wal_to_sync(&self) -> Arc<File> {
        Arc::clone(&self.wal)
    }

    /// What syncing the WAL there has come to.
    pub(super) fn wal_synced(&self, synced: std::io::Result<()>) -> Result<(), CaptureError> {
        synced.map_err(|source| self.io("sync", source))
    }

    fn frame_offset(&self, frame: u32) -> u64 {
        HEADER_BYTES as u64 + u64::from(frame - 1) * self.frame_bytes() as u64
    }

    fn read_wal(&self, bytes: &mut [u8], offset: u64) -> Result<(), CaptureError> {
        self.wal.read_exact_at(bytes, offset).map_err(|source| self.io("read", source))
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> CaptureError {
        CaptureError::Io { doing, path: self.wal_path.clone(), source }
    }
}

/// Where SQLite has mapped the start of the `-shm`.
fn map_index(database: *mut ffi::sqlite3_file) -> Result<*const u8, CaptureError> {
    let mut region: *mut c_void = ptr::null_mut();
    // SAFETY: the file is open. The region exists already, because the anchor has read in WAL mode; SQLite then hands out the
    // mapping that it has, and keeps it until the anchor is closed.
    let code = unsafe {
        let map = (*(*database).pMethods).xShmMap;
        map.map_or(ffi::SQLITE_IOERR, |map| map(database, 0, REGION_BYTES, 0, &raw mut region))
    };
    if code != ffi::SQLITE_OK || region.is_null() {
        return Err(SqliteError::new("cannot map the wal-index", code).into());
    }
    Ok(region.cast_const().cast())
}
