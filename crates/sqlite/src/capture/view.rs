//! Pages as they were before a commit, and as they are after it.
//!
//! A page is its newest frame among the frames that were captured, or else what the database file holds. The file holds nothing
//! newer: copying back stops at the held read transaction, which is never ahead of the position.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::CaptureError;
use super::files::Files;
use super::probes::planted::{Bug, planted};
use crate::file::Damaged;
use crate::file::page::{self, Page};
use crate::file::u32_at;

/// Where a page's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Frame(u32),
    Database(u32),
}

/// Longest payload of a row (`SQLITE_MAX_LENGTH`, at its highest).
const PAYLOAD_BYTES_MAX: u64 = i32::MAX as u64;
/// How often an overflow page may be read on one side of a commit.
const READS_MAX: u64 = 2;
/// Pages kept to be read again: the page after one commit is the page before the next one.
const CACHED_MAX: usize = 512;

/// Every page of the database at the position.
pub(super) struct Pages {
    pub(super) files: Files,
    /// Newest captured frame of each page, of the running generation only.
    frames: FxHashMap<u32, u32>,
    cache: RefCell<FxHashMap<Source, Rc<[u8]>>>,
    usable: usize,
}

impl Pages {
    pub(super) fn new(files: Files, usable: usize) -> Self {
        Self { files, frames: FxHashMap::default(), cache: RefCell::default(), usable }
    }

    /// A new generation of the WAL began; the one before is complete in the database file.
    pub(super) fn forget_frames(&mut self) {
        self.frames.clear();
        self.cache.borrow_mut().clear();
    }

    /// These frames are captured now.
    pub(super) fn advance(&mut self, frames: impl IntoIterator<Item = (u32, u32)>) {
        self.frames.extend(frames);
    }

    /// Bytes of a page that SQLite uses.
    pub(super) fn usable(&self) -> usize {
        self.usable
    }

    fn read(&self, source: Source) -> Result<Rc<[u8]>, CaptureError> {
        if let Some(bytes) = self.cache.borrow().get(&source) {
            return Ok(Rc::clone(bytes));
        }
        let bytes: Rc<[u8]> = match source {
            Source::Frame(frame) => self.files.frame_page(frame)?,
            Source::Database(page) => self.files.page(page)?,
        }
        .into();
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        cache.insert(source, Rc::clone(&bytes));
        Ok(bytes)
    }
}

/// Which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// The pages around one commit.
pub(super) struct CommitView<'p> {
    pages: &'p Pages,
    /// The last frame of each page in this commit.
    changed: &'p FxHashMap<u32, u32>,
    /// How many overflow pages may still be read, before and after; unknown until the first is.
    spill: [Cell<Option<u64>>; 2],
}

impl<'p> CommitView<'p> {
    pub(super) fn new(pages: &'p Pages, changed: &'p FxHashMap<u32, u32>) -> Self {
        Self { pages, changed, spill: [const { Cell::new(None) }; 2] }
    }

    /// Whether the commit wrote the page.
    pub(super) fn wrote(&self, page: u32) -> bool {
        self.changed.contains_key(&page)
    }

    /// The pages that the commit wrote.
    pub(super) fn written(&self) -> impl Iterator<Item = u32> {
        self.changed.keys().copied()
    }

    /// The bytes of a page.
    pub(super) fn bytes(&self, side: Side, page: u32) -> Result<Rc<[u8]>, CaptureError> {
        if page == 0 {
            return Err(Damaged::new("a pointer to page 0", 0).into());
        }
        let changed = if side == Side::After { self.changed.get(&page) } else { None };
        let frame = changed.or_else(|| self.pages.frames.get(&page)).copied();
        let frame = frame.filter(|_| side == Side::After || !planted(Bug::ReadBehindWal));
        self.pages.read(frame.map_or(Source::Database(page), Source::Frame))
    }

    /// A b-tree page of these bytes.
    pub(super) fn page<'b>(&self, number: u32, bytes: &'b [u8]) -> Result<Page<'b>, Damaged> {
        Page::read(number, bytes, self.pages.usable())
    }

    /// Counts an overflow page that is about to be read. Every one belongs to one row, and every row is read twice at most (a table that is
    /// hashed anew): where more are read than that, rows share them, and reading all could take as long as whoever made the file likes.
    fn spill(&self, side: Side, page: u32) -> Result<(), CaptureError> {
        let left = &self.spill[usize::from(side == Side::After)];
        let before = match left.get() {
            Some(before) => before,
            None => READS_MAX * self.pages_there()?,
        };
        let after = before.checked_sub(1);
        left.set(Some(after.ok_or(Damaged::new("rows share their overflow pages", page))?));
        Ok(())
    }

    /// How many pages there are, at most: not what a header claims, but what files hold.
    fn pages_there(&self) -> Result<u64, CaptureError> {
        let frames = self.pages.frames.len() + self.changed.len();
        Ok(self.pages.files.database_pages()? + frames as u64)
    }

    /// The whole payload of a cell, and the pages that it spills to.
    pub(super) fn payload(
        &self,
        side: Side,
        cell: &page::Cell<'_>,
    ) -> Result<(Vec<u8>, Vec<u32>), CaptureError> {
        let mut payload = cell.local.to_vec();
        let mut chain = Vec::new();
        let mut next = cell.overflow.unwrap_or(0);
        if cell.payload > PAYLOAD_BYTES_MAX {
            return Err(Damaged::new("a row is longer than SQLite allows", next).into());
        }
        // A page that was passed before: where the chain meets it again, it goes round for ever.
        let mut passed = 0;
        while (payload.len() as u64) < cell.payload {
            if next == passed {
                return Err(Damaged::new("the overflow pages of a row have no end", next).into());
            }
            self.spill(side, next)?;
            let bytes = self.bytes(side, next)?;
            let content = bytes.get(4..self.pages.usable());
            let content = content.ok_or(Damaged::new("the page is cut off", next))?;
            let missing = usize::try_from(cell.payload - payload.len() as u64).unwrap_or(usize::MAX);
            if planted(Bug::CutLastOverflowPage) && missing <= content.len() {
                payload.resize(payload.len() + missing, 0);
                break;
            }
            payload.extend_from_slice(&content[..missing.min(content.len())]);
            chain.push(next);
            if chain.len().is_power_of_two() {
                passed = next;
            }
            next = u32_at(&bytes, 0).unwrap_or(0);
        }
        Ok((payload, chain))
    }
}
