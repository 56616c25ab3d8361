//! Pages as they were before a commit, and as they are after it.
//!
//! A page is its newest frame among the frames that were captured, or else what the database file holds. The file holds nothing
//! newer: copying back stops at the held read transaction, which is never ahead of the position.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::CaptureError;
use super::files::Files;
use crate::file::Damaged;
use crate::file::page::{Cell, Page};
use crate::file::u32_at;

/// Where a page's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Frame(u32),
    Database(u32),
}

/// Longest payload of a row (`SQLITE_MAX_LENGTH`, at its highest).
const PAYLOAD_BYTES_MAX: u64 = i32::MAX as u64;
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
}

impl<'p> CommitView<'p> {
    pub(super) fn new(pages: &'p Pages, changed: &'p FxHashMap<u32, u32>) -> Self {
        Self { pages, changed }
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
        self.pages.read(frame.map_or(Source::Database(page), Source::Frame))
    }

    /// A b-tree page of these bytes.
    pub(super) fn page<'b>(&self, number: u32, bytes: &'b [u8]) -> Result<Page<'b>, Damaged> {
        Page::read(number, bytes, self.pages.usable())
    }

    /// The whole payload of a cell, and the pages that it spills to.
    pub(super) fn payload(&self, side: Side, cell: &Cell<'_>) -> Result<(Vec<u8>, Vec<u32>), CaptureError> {
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
            let bytes = self.bytes(side, next)?;
            let content = bytes.get(4..self.pages.usable());
            let content = content.ok_or(Damaged::new("the page is cut off", next))?;
            let missing = usize::try_from(cell.payload - payload.len() as u64).unwrap_or(usize::MAX);
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
